// What the loop itself costs per tick, on a device that takes no time: node --import tsx bench/tick.ts [--json]
//
// Every row decodes, rows are refilled from a queue that never runs dry, and relay prefills ahead in chunks. The
// clock runs around tick() as a whole, promises included; the device's share is filling one array. Prefix reuse is off,
// or on where no prompt begins like another, or on where all do.

import { parseArgs } from 'node:util';
import { Loop, POLICY_NAMES, type PolicyName } from '../src/loop/loop.ts';
import { Request, type RequestOptions } from '../src/loop/request.ts';
import { workload } from '../src/loop/workloads.ts';
import { GREEDY, type NativeEngine } from '../src/native.ts';
import { writeScriptRecord } from '../src/bench/record.ts';

const ROWS = [1, 8, 64, 256, 1024];
const REUSE = ['off', 'misses', 'hits'] as const;
const WARMUP = 1000; // ticks
const CONTEXT = 1024;

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

interface Row {
  readonly policy: PolicyName;
  readonly rows: number;
  readonly reuse: (typeof REUSE)[number];
  readonly p50: number; // microseconds
  readonly p99: number;
  readonly mean: number;
  readonly generated: number; // per tick, as all that follow
  readonly prompt: number;
  readonly cached: number;
  readonly movedSlots: number;
  readonly preemptions: number;
}

async function measure(policy: PolicyName, rows: number, reuse: Row['reuse'], ticks: number): Promise<Row> {
  const loop = new Loop(instant(rows * CONTEXT), {
    rows,
    context: CONTEXT,
    stepTokens: rows + 512,
    policy,
    admission: 'optimistic',
    queueRequests: 1e6,
    queueTokens: 1e9,
    prefixReuse: reuse !== 'off',
    onToken: () => {},
    onFinish: () => {},
  });
  const lengths = workload('heavy-tail', { requests: 1000, seed: 1, context: CONTEXT });
  const wanted = (id: number): RequestOptions => {
    const { promptTokens, outputTokens } = lengths[id % lengths.length]!;
    const prompt = new Int32Array(promptTokens).fill(reuse === 'hits' ? 5 : id);
    return { prompt, maxTokens: outputTokens, stopTokens: new Set(), minTokens: 0, sampling: GREEDY };
  };
  const micros = new Float64Array(ticks);
  let before = loop.stats();
  for (let tick = -WARMUP, id = 0; tick < ticks; tick++) {
    while (loop.queue.length < 2 * rows) loop.add(new Request(id, wanted(id++)));
    if (tick === 0) before = loop.stats();
    const start = performance.now();
    await loop.tick();
    if (tick >= 0) micros[tick] = (performance.now() - start) * 1000;
  }
  const after = loop.stats();
  const each = (count: (stats: typeof after) => number) => (count(after) - count(before)) / ticks;
  micros.sort();
  return {
    policy,
    rows,
    reuse,
    p50: micros[Math.floor(ticks * 0.5)]!,
    p99: micros[Math.floor(ticks * 0.99)]!,
    mean: micros.reduce((sum, one) => sum + one, 0) / ticks,
    generated: each((stats) => stats.tokens.generated),
    prompt: each((stats) => stats.tokens.prompt),
    cached: each((stats) => stats.tokens.cached),
    movedSlots: each((stats) => stats.movedSlots),
    preemptions: each((stats) => stats.preemptions),
  };
}

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, out: { type: 'string' } } });
const results: Row[] = [];
for (const policy of POLICY_NAMES) {
  for (const rows of ROWS) {
    for (const reuse of REUSE) results.push(await measure(policy, rows, reuse, rows >= 256 ? 2000 : 10_000));
  }
}
writeScriptRecord(values.out, results);
if (values.json) console.log(JSON.stringify({ unit: 'microseconds per tick', results }, undefined, 2));
else {
  const rounded = (value: unknown) => (typeof value === 'number' ? Number(value.toFixed(2)) : value);
  const cells = (row: Row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, rounded(value)]));
  console.table(results.map(cells));
}
