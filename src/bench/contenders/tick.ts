import { Loop, type PolicyName } from '../../loop/loop.ts';
import { Request, type RequestOptions } from '../../loop/request.ts';
import { workload } from '../../loop/workloads.ts';
import { GREEDY, type NativeEngine } from '../../native.ts';
import type { OpenContender } from '../contender.ts';
import { quantile } from '../statistics.ts';

/** How prompts begin: as no other, as all others, or with nothing kept for others at all. */
export type Reuse = 'off' | 'misses' | 'hits';

export interface TickSetting {
  readonly policy: PolicyName;
  readonly reuse: Reuse;
  readonly rows: readonly number[];
  /** Counted ones, after half as many that are not; fewer beyond 256 rows, where each takes longer. */
  readonly ticks: number;
  readonly seed: number;
}

/** Microseconds of a tick. */
export interface TickTimes {
  readonly rows: number;
  readonly p50: number;
  readonly p99: number;
}

const CONTEXT = 1024;
const STEP_PROMPT_TOKENS = 512;
const LENGTHS = 1000; // different requests
const FULL_ROWS = 256; // up to which all ticks are taken
const LEAST_TICKS = 100;

/** A loop on a device that takes no time; rows are refilled from a queue that never runs dry. */
export async function open(setting: TickSetting): Promise<OpenContender<readonly TickTimes[]>> {
  return {
    async play() {
      const times: TickTimes[] = [];
      for (const rows of setting.rows) times.push(await measure(setting, rows));
      return times;
    },
    async close() {},
  };
}

/** The clock runs around tick() as a whole, promises included; the device's share is filling one array. */
async function measure(setting: TickSetting, rows: number): Promise<TickTimes> {
  const { policy, reuse, seed } = setting;
  const ticks = Math.max(LEAST_TICKS, Math.round(setting.ticks * Math.min(1, FULL_ROWS / rows)));
  const loop = new Loop(instant(rows * CONTEXT), {
    rows,
    context: CONTEXT,
    stepTokens: rows + STEP_PROMPT_TOKENS,
    policy,
    admission: 'optimistic',
    queueRequests: 1e6,
    queueTokens: 1e9,
    prefixReuse: reuse !== 'off',
    onToken: () => {},
    onFinish: () => {},
  });
  const lengths = workload('heavy-tail', { requests: LENGTHS, seed, context: CONTEXT });
  const wanted = (id: number): RequestOptions => {
    const { promptTokens, outputTokens } = lengths[id % lengths.length]!;
    const prompt = new Int32Array(promptTokens).fill(reuse === 'hits' ? 5 : id);
    return { prompt, maxTokens: outputTokens, stopTokens: new Set(), minTokens: 0, sampling: GREEDY };
  };
  const micros = new Float64Array(ticks);
  for (let tick = -(ticks >> 1), id = 0; tick < ticks; tick++) {
    while (loop.queue.length < 2 * rows) loop.add(new Request(id, wanted(id++)));
    const start = performance.now();
    await loop.tick();
    if (tick >= 0) micros[tick] = (performance.now() - start) * 1000;
  }
  const sorted = [...micros.sort()];
  return { rows, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
}

function instant(slots: number): NativeEngine {
  return {
    device: 'none',
    isa: 'none',
    threads: 0,
    weights: 'none',
    kv: 'none',
    weightBytes: 0,
    slotBytes: 0,
    slots,
    hostSlots: 0,
    step: async (_plan, result) => void result.sampled.fill(7),
    close: async () => {},
  };
}
