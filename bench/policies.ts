// Policies against each other on the CPU backend: npm run bench -- policies [--models tales,SmolLM2-135M] [--rows 16]
//
// The same requests by each contender, all there at once unless --rate is given. One process, one engine per model; in
// each round the contenders take turns, each with a loop of its own, and the medians over rounds are told. What a loop
// learns of step times it keeps from round to round, as a server would from hour to hour; the first round, in which
// everybody learns, is not counted. Every contender must give every request the same tokens.

import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadAddon } from '../src/addon.ts';
import { chooseSizes } from '../src/engine/sizes.ts';
import { Loop, type LoopOptions, POLICY_NAMES } from '../src/loop/loop.ts';
import { Request } from '../src/loop/request.ts';
import { emptyLoad, StepTime } from '../src/loop/step-time.ts';
import { generator, workload, type WorkloadName, type WorkloadRequest } from '../src/loop/workloads.ts';
import { openModel } from '../src/model/load.ts';
import { GREEDY, type NativeEngine } from '../src/native.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { median } from '../src/bench/statistics.ts';
import type { ShapeName } from '../src/bench/shapes.ts';
import { synthesize } from '../src/bench/synthesize.ts';

type Contender = Pick<LoopOptions, 'policy' | 'rules' | 'targetItlMs'>;
type Learnt = Contender & { readonly stepTime: StepTime };

/** Relay without what its rules bring: the constant chunks it had first, and then with one rule after the other. */
const ABLATION: Readonly<Record<string, Contender>> = {
  'relay-constant': { policy: 'relay', rules: { timed: false, lengthAware: false, memoryAware: false } },
  'relay-timed': { policy: 'relay', rules: { lengthAware: false, memoryAware: false } },
  'relay-memory': { policy: 'relay', rules: { lengthAware: false } },
  'relay-untargeted': { policy: 'relay', targetItlMs: Infinity },
};
const CONTENDERS: Readonly<Record<string, Contender>> = {
  ...Object.fromEntries(POLICY_NAMES.map((policy) => [policy, { policy }])),
  ...ABLATION,
};

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string', default: 'tales,SmolLM2-135M' },
    workloads: { type: 'string', default: 'heavy-tail,code' },
    contenders: { type: 'string', default: POLICY_NAMES.join(',') },
    rows: { type: 'string', default: '16' },
    requests: { type: 'string', default: '64' },
    context: { type: 'string', default: '512' },
    slots: { type: 'string' }, // of the arena; by default what a dense layout needs: 2.5 times all rows at full context
    rate: { type: 'string' }, // requests/s
    ttft: { type: 'string', default: 'Infinity' }, // ms, for goodput
    threads: { type: 'string', default: '0' },
    early: { type: 'boolean', default: false }, // outputs end before their maxTokens, as by stop tokens
    rounds: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string' },
  },
});
const rows = Number(flags.rows);
const context = Number(flags.context);
const seed = Number(flags.seed);
const rounds = Number(flags.rounds);
const contenders = flags.contenders.split(',');
for (const name of contenders) {
  if (Object.hasOwn(CONTENDERS, name)) continue;
  throw new Error(`--contenders: expected ${Object.keys(CONTENDERS).join(', ')}, got ${name}`);
}
const GOOD_ITL = 1.5; // decode steps of all rows that a request's tokens may take on average, for goodput
const CALIBRATION_STEPS = 8; // per round

interface Loaded {
  readonly engine: NativeEngine;
  readonly vocabulary: number;
  readonly stepTokens: number;
}

async function load(model: string): Promise<Loaded> {
  let folder = fileURLToPath(new URL(`../models/${model}`, import.meta.url));
  if (!existsSync(folder)) {
    folder = join(tmpdir(), 'baton-bench', model);
    if (!existsSync(join(folder, 'config.json'))) await synthesize(folder, model as ShapeName, { seed: 1 });
  }
  const { config, files, tensors, storedType } = await openModel(folder);
  const memory = { freeBytes: 2 ** 33, hostFreeBytes: 0, gpu: false };
  // For all of them the steps and the arena of whoever needs the largest: the dense layout.
  const sizes = chooseSizes({ config, storedType }, { maxContext: context, policy: 'baton' }, rows, memory);
  const slots = flags.slots === undefined ? sizes.slots : Number(flags.slots);
  const place = { device: 'cpu', isa: 'auto', threads: Number(flags.threads) };
  const unused = { graphs: true, cublasLt: '', checkLaunches: false }; // options of GPUs
  const engine = await loadAddon().load({ config, files, tensors, ...place, ...unused, ...sizes, slots, rows });
  return { engine, vocabulary: config.vocabulary, stepTokens: sizes.stepTokens };
}

interface Reading {
  readonly added: number;
  readonly arrivals: number[]; // of its tokens
  tokens: readonly number[];
}

async function play(loaded: Loaded, how: Learnt, lengths: readonly WorkloadRequest[]) {
  const { engine, vocabulary, stepTokens } = loaded;
  const uniform = generator(seed);
  const readings: Reading[] = [];
  const loop = new Loop(engine, {
    rows,
    context,
    stepTokens,
    admission: 'optimistic',
    queueRequests: lengths.length,
    queueTokens: lengths.length * context,
    ...how,
    onToken: (request) => {
      readings[request.id]!.arrivals.push(performance.now());
      if (request.generated === lengths[request.id]!.outputTokens) loop.stop(request);
    },
    onFinish: (request, _reason, error) => {
      if (error !== undefined) throw error;
      readings[request.id]!.tokens = request.tokens.slice(request.promptLength);
    },
  });
  const add = ({ promptTokens, outputTokens }: WorkloadRequest) => {
    const prompt = Array.from({ length: promptTokens }, () => Math.floor(uniform() * vocabulary));
    const longer = flags.early ? Math.round(outputTokens * (1 + 3 * uniform())) : outputTokens;
    const maxTokens = Math.min(context - promptTokens, longer);
    const id = readings.push({ added: performance.now(), arrivals: [], tokens: [] }) - 1;
    loop.add(new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY }));
  };
  const start = performance.now();
  let crowded = loop.stats(); // when somebody last waited: the end of a finite workload empties rows under any policy
  for (let next = 0; next < lengths.length || !loop.idle; ) {
    const due = () => next < lengths.length && start + lengths[next]!.arrivalMs <= performance.now();
    while (due()) add(lengths[next++]!);
    if (loop.idle) await new Promise((resolve) => setTimeout(resolve, 1));
    else await loop.tick();
    if (loop.queue.length > 0) crowded = loop.stats();
  }
  return { seconds: (performance.now() - start) / 1000, readings, stats: loop.stats(), idle: crowded.idle };
}

/** A decode step of all rows and nothing else, at the context that decode steps of the workload have on average. */
async function decodeMs({ engine, stepTokens }: Loaded, lengths: readonly WorkloadRequest[]): Promise<number> {
  const tokens = lengths.reduce((sum, one) => sum + one.outputTokens, 0);
  const keys = lengths.reduce((sum, one) => sum + one.outputTokens * (one.promptTokens + one.outputTokens / 2), 0);
  const position = Math.round(keys / tokens);
  let start = 0;
  const times: number[] = [];
  const prompt = new Array<number>(position).fill(1);
  const loop: Loop = new Loop(engine, {
    rows,
    context,
    stepTokens,
    policy: 'static',
    admission: 'optimistic',
    queueRequests: rows,
    queueTokens: rows * context,
    onToken: () => {},
    onFinish: () => {},
    onStep: ({ ms, chunkTokens }) => void (chunkTokens === 0 && start++ > 0 && times.push(ms)),
  });
  const maxTokens = Math.min(CALIBRATION_STEPS, context - position);
  for (let id = 0; id < rows && (id + 1) * (position + maxTokens + 64) <= engine.slots; id++) {
    loop.add(new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY }));
  }
  while (!loop.idle) await loop.tick();
  return median(times);
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

function summarize({ seconds, readings, stats, idle }: Awaited<ReturnType<typeof play>>, decode: number) {
  const sort = (values: readonly number[]) => values.toSorted((a, b) => a - b);
  const gaps = readings.map(({ arrivals }) => arrivals.slice(1).map((one, i) => one - arrivals[i]!));
  const itl = sort(gaps.flat());
  const waits = readings.map(({ added, arrivals }) => (arrivals[0] ?? NaN) - added);
  const ttft = sort(waits);
  const good = readings.filter((_, i) => {
    const all = gaps[i]!;
    const mean = all.reduce((sum, gap) => sum + gap, 0) / Math.max(1, all.length);
    return waits[i]! <= Number(flags.ttft) && mean <= GOOD_ITL * decode;
  });
  const share = (ms: number) => (idle.rowMs > 0 ? ms / idle.rowMs : 0);
  const { pad, dead, empty, stall } = idle.wastedMs;
  return {
    requestsPerSecond: readings.length / seconds,
    goodPerSecond: good.length / seconds,
    tokensPerSecond: stats.tokens.generated / seconds,
    ttftP50: at(ttft, 0.5),
    ttftP99: at(ttft, 0.99),
    itlP50: at(itl, 0.5),
    itlP99: at(itl, 0.99),
    itlP99OverDecode: at(itl, 0.99) / decode,
    decodeMs: decode,
    idle: idle.share,
    pad: share(pad),
    dead: share(dead),
    empty: share(empty),
    stall: share(stall),
    steps: stats.steps,
    preemptions: stats.preemptions,
    peakSlots: stats.arena.peak,
  };
}

type Summary = ReturnType<typeof summarize>;

/** The first contender's tokens are the law for all others. */
function compare(name: string, readings: readonly Reading[], law: readonly Reading[]): void {
  readings.forEach(({ tokens }, id) => {
    if (tokens.join() !== law[id]!.tokens.join()) throw new Error(`${name}: request ${id} got other tokens`);
  });
}

const results: object[] = [];
for (const model of flags.models.split(',')) {
  const loaded = await load(model);
  for (const name of flags.workloads.split(',') as WorkloadName[]) {
    const options = { requests: Number(flags.requests), seed, context };
    const rate = flags.rate === undefined ? {} : { rate: Number(flags.rate) };
    const lengths = workload(name, { ...options, ...rate });
    const all = contenders.map((contender) => ({ contender, stepTime: new StepTime(), rounds: [] as Summary[] }));
    let law: readonly Reading[] | undefined;
    for (let round = 0; round <= rounds; round++) {
      const decode = await decodeMs(loaded, lengths);
      for (const { contender, stepTime, rounds: counted } of all) {
        const run = await play(loaded, { ...CONTENDERS[contender]!, stepTime }, lengths);
        law ??= run.readings;
        compare(contender, run.readings, law);
        if (round > 0) counted.push(summarize(run, decode));
      }
    }
    const table = all.map(({ contender, stepTime, rounds: counted }) => {
      const keys = Object.keys(counted[0]!) as (keyof Summary)[];
      const medians = Object.fromEntries(keys.map((key) => [key, median(counted.map((one) => one[key]))]));
      const setting = { model, workload: name, rows, requests: lengths.length, slots: loaded.engine.slots };
      results.push({ ...setting, contender, ...medians, ranges: counted, coefficients: stepTime.coefficients });
      const shown = Object.entries(medians).map(([key, value]) => [key, Number(value.toPrecision(3))]);
      return { contender, ...Object.fromEntries(shown) };
    });
    console.log(`${model}, ${name}, ${rows} rows, ${lengths.length} requests`);
    console.table(table);
  }
  await loaded.engine.close();
}
writeScriptRecord(flags.out, results);
