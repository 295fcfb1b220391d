import { loadAddon } from '../../addon.ts';
import type { Sizes } from '../../engine/sizes.ts';
import { Loop, type LoopOptions } from '../../loop/loop.ts';
import type { IdleStats } from '../../loop/metrics.ts';
import { Request } from '../../loop/request.ts';
import { StepTime } from '../../loop/step-time.ts';
import { generator } from '../../loop/workloads.ts';
import { openModel } from '../../model/load.ts';
import { GREEDY, type NativeEngine } from '../../native.ts';
import type { TraceRequest } from '../../simulator/traces.ts';
import type { OpenContender } from '../contender.ts';
import { makePrompt } from '../prompts.ts';
import type { MemoryCurve, Timeline } from '../results.ts';
import { median } from '../statistics.ts';

/** What tells one contender of the relay race from another. */
export type PolicyRules = Pick<LoopOptions, 'policy' | 'rules' | 'targetItlMs' | 'prefixReuse'>;

/** One engine and loop with one policy. All but `rules` is the same for every contender of a race. */
export interface PolicySetting {
  readonly rules: PolicyRules;
  readonly folder: string;
  readonly device: string;
  readonly isa: string;
  readonly threads: number;
  /** Of whoever needs most: the dense layout. */
  readonly sizes: Sizes;
  readonly rows: number;
  readonly requests: readonly TraceRequest[];
  /** Of prompts. */
  readonly seed: number;
  /** Outputs end before their maxTokens, as by stop tokens: nobody knows their length. */
  readonly early: boolean;
  readonly curves: boolean;
  readonly timelines: boolean;
}

/** One way through the requests. */
export interface PolicyRound {
  readonly seconds: number;
  /** A decode step of all rows and nothing else, at the context that those of the workload have on average. */
  readonly decodeMs: number;
  readonly readings: readonly Reading[]; // [requests]
  /** Until nobody waited any more: the end of a finite workload empties rows under any policy. */
  readonly idle: IdleStats;
  readonly movedSlots: number;
  readonly peakSlots: number;
  readonly steps: number;
  readonly preemptions: number;
  readonly generated: number;
  readonly memory?: MemoryCurve;
  readonly timeline?: Timeline;
}

/** What the reader of one request saw. */
export interface Reading {
  readonly tokens: Int32Array;
  /** [tokens] when each came, in milliseconds since the request arrived. */
  readonly ms: Float64Array;
}

const CALIBRATION_STEPS = 8;
const MOST_EARLY = 3; // an output may be so many times longer, for all that a policy knows

/** Rounds share what is learnt of step times, as a server's hours do; in the first, which does not count, all learn. */
export async function open(setting: PolicySetting): Promise<OpenContender<PolicyRound>> {
  const { folder, device, isa, threads, sizes, rows } = setting;
  const { config, files, tensors } = await openModel(folder);
  const unset = { graphs: true, cublasLt: '', checkLaunches: false };
  const engine = await loadAddon().load({ config, files, tensors, device, isa, threads, ...unset, ...sizes, rows });
  const stepTime = new StepTime();
  return {
    async play() {
      const decodeMs = await measureDecode(engine, setting);
      return { decodeMs, ...(await play(engine, config.vocabulary, stepTime, setting)) };
    },
    close: () => engine.close(),
  };
}

function loopOptions({ rows, sizes, requests }: PolicySetting, { device }: NativeEngine) {
  const { context, stepTokens } = sizes;
  return {
    rows,
    context,
    stepTokens,
    admission: 'optimistic',
    overlap: device !== 'cpu', // as the library has it
    queueRequests: Math.max(rows, requests.length),
    queueTokens: Math.max(rows, requests.length) * context,
  } as const;
}

/** Milliseconds of a decode step of as many rows as fit. */
async function measureDecode(engine: NativeEngine, setting: PolicySetting): Promise<number> {
  const { rows, requests, sizes } = setting;
  const tokens = requests.reduce((sum, one) => sum + one.outputTokens, 0);
  const keys = requests.reduce((sum, one) => sum + one.outputTokens * (one.promptTokens + one.outputTokens / 2), 0);
  const position = Math.min(sizes.context - CALIBRATION_STEPS, Math.round(keys / tokens));
  const times: number[] = [];
  let decodes = 0;
  const loop = new Loop(engine, {
    ...loopOptions(setting, engine),
    policy: 'static',
    prefixReuse: false,
    onToken: () => {},
    onFinish: failing,
    onStep: ({ ms, chunkTokens }) => {
      if (chunkTokens === 0 && decodes++ > 0) times.push(ms);
    },
  });
  const prompt = new Array<number>(position).fill(1);
  const maxTokens = CALIBRATION_STEPS;
  for (let id = 0; id < rows && (id + 1) * (position + maxTokens + 64) <= engine.slots; id++) {
    loop.add(new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY }));
  }
  while (!loop.idle) await loop.tick();
  return median(times);
}

async function play(engine: NativeEngine, vocabulary: number, stepTime: StepTime, setting: PolicySetting) {
  const { rules, sizes, requests, seed, early, curves, timelines } = setting;
  const uniform = generator(seed);
  const made = requests.map((wanted, id) => {
    const prompt = makePrompt(seed, id, wanted, vocabulary);
    const longer = early ? Math.round(wanted.outputTokens * (1 + MOST_EARLY * uniform())) : wanted.outputTokens;
    const maxTokens = Math.min(sizes.context - wanted.promptTokens, longer);
    return new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY });
  });
  const arrivals = requests.map(() => [] as number[]);
  const memory = { ms: [] as number[], used: [] as number[], padding: [] as number[], free: [] as number[] };
  const timeline = { ms: [] as number[], rows: [] as number[][], chunkTokens: [] as number[] };
  const loop = new Loop(engine, {
    ...loopOptions(setting, engine),
    ...rules,
    stepTime,
    onToken: (request) => {
      arrivals[request.id]!.push(performance.now());
      if (request.generated === requests[request.id]!.outputTokens) loop.stop(request);
    },
    onFinish: failing,
    onStep: timelines
      ? ({ ms, rows, chunkTokens }) => {
          timeline.ms.push(ms);
          timeline.rows.push(Array.from(rows));
          timeline.chunkTokens.push(chunkTokens);
        }
      : undefined,
  });
  const start = performance.now();
  let idle = loop.metrics.idle();
  for (let next = 0; next < made.length || !loop.idle; ) {
    const due = () => next < made.length && start + requests[next]!.arrivalMs <= performance.now();
    while (due()) loop.add(made[next++]!);
    if (loop.idle) await new Promise((resolve) => setTimeout(resolve, 1));
    else await loop.tick();
    if (loop.queue.length > 0) idle = loop.metrics.idle();
    if (!curves) continue;
    const { used, padding, free } = loop.arena.stats();
    memory.ms.push(performance.now() - start);
    memory.used.push(used);
    memory.padding.push(padding);
    memory.free.push(free);
  }
  const seconds = (performance.now() - start) / 1000;
  const { movedSlots, steps, preemptions, tokens, arena } = loop.stats();
  return {
    seconds,
    readings: made.map((request, id) => ({
      tokens: Int32Array.from(request.tokens.slice(request.promptLength)),
      ms: Float64Array.from(arrivals[id]!, (at) => at - start - requests[id]!.arrivalMs),
    })),
    idle,
    movedSlots,
    peakSlots: arena.peak,
    steps,
    preemptions,
    generated: tokens.generated,
    ...(curves ? { memory } : {}),
    ...(timelines ? { timeline } : {}),
  };
}

function failing(_request: Request, _reason: string, error?: Error): void {
  if (error !== undefined) throw error;
}
