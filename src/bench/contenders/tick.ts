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
  /**
   * Counted ones, after half as many that are not, and after those that first fill the rows. Fewer beyond 256 rows,
   * where each takes longer.
   */
  readonly ticks: number;
  readonly seed: number;
}

/** Microseconds of a tick, and how many rows were in use on average. */
export interface TickTimes {
  readonly rows: number;
  readonly p50: number;
  readonly p99: number;
  readonly usedRows: number;
}

const CONTEXT = 1024;
const STEP_PROMPT_TOKENS = 512; // or as many as rows: what refilling all of them takes
const LENGTHS = 1000; // different requests
const FULL_ROWS = 256; // up to which all ticks are taken
const LEAST_TICKS = 100;
const MOST_FILLING = 1000; // ticks

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
    stepTokens: rows + Math.max(rows, STEP_PROMPT_TOKENS),
    policy,
    admission: 'optimistic',
    targetItlMs: Infinity, // where steps take no time, chunks cannot be sized by it
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
  let id = 0;
  const tick = async (): Promise<number> => {
    while (loop.queue.length < 2 * rows) loop.add(new Request(id, wanted(id++)));
    const start = performance.now();
    await loop.tick();
    return (performance.now() - start) * 1000;
  };
  for (let filling = 0; loop.batch.free > 0 && filling < MOST_FILLING; filling++) await tick();
  for (let i = 0; i < ticks >> 1; i++) await tick();
  const micros = new Float64Array(ticks);
  let used = 0;
  for (let i = 0; i < ticks; i++) {
    micros[i] = await tick();
    used += loop.batch.length;
  }
  const sorted = [...micros.sort()];
  return { rows, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), usedRows: used / ticks };
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
