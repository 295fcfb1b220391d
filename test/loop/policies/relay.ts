import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { LoopOptions } from '../../../src/loop/loop.ts';
import { PLANNED_SHARE } from '../../../src/loop/policies/relay.ts';
import {
  addChunk,
  addDecode,
  emptyLoad,
  STEP_TERMS,
  type StepCoefficients,
  type StepLoad,
  StepTime,
} from '../../../src/loop/step-time.ts';
import { workload } from '../../../src/loop/workloads.ts';
import { drain, type Made, make, options, request, solo } from '../fake/requests.ts';

const relay = suite('Relay');

const NOTHING = Object.fromEntries(STEP_TERMS.map((term) => [term, 0])) as StepCoefficients;
/** A device on which a token costs a tenth of a step, and keys little. */
const COEFFICIENTS = { ...NOTHING, step: 10, token: 1, contextToken: 0.001, chunkContext: 0.0005 };
const TRUTH = StepTime.fromCoefficients(COEFFICIENTS);

interface Clocked extends Made {
  /** What each step had to do. */
  readonly loads: StepLoad[];
}

/** A loop whose clock shows what the coefficients say, and who knows them from the start. */
function clocked(given: Partial<LoopOptions> & { slots?: number }): Clocked {
  const it = make({ slots: 64 * 1024, stepTime: StepTime.fromCoefficients(COEFFICIENTS), ...given });
  const loads: StepLoad[] = [];
  it.native.during = () => {
    const load = emptyLoad();
    for (const [row = 0, position = 0, count = 0] of it.native.plans.at(-1)!.runs) {
      if (row >= 0) addDecode(load, position + count - 1);
      addChunk(load, position, row >= 0 ? count - 1 : count);
    }
    loads.push(load);
    it.clock.ms += TRUTH.predict(load);
  };
  return { ...it, loads };
}

function fill({ loop }: Made, requests: number, lengths: Parameters<typeof workload>[0]): void {
  const all = workload(lengths, { requests, seed: 1, context: 512 });
  all.forEach((one, id) => loop.add(request(id, { prompt: one.promptTokens, maxTokens: one.outputTokens })));
}

relay('plans no step with decode rows beyond the target, and leaves no time within it unused', async () => {
  const targetItlMs = 40;
  const planned = PLANNED_SHARE * targetItlMs;
  const it = clocked({ rows: 8, targetItlMs });
  fill(it, 60, 'code');
  let full = 0;
  while (!it.loop.idle) {
    const decoding = it.loop.batch.length > 0 && it.loop.batch.rows.some((one) => !one.ending);
    await it.loop.tick();
    const load = it.loads.at(-1)!;
    if (!decoding || load.chunkTokens <= 1) continue;
    const ms = TRUTH.predict(load);
    assert.ok(ms <= planned * 1.001, `${ms} ms: ${JSON.stringify(load)}`);
    if (ms > planned - 2) full++; // one token more costs up to 1.3 ms
  }
  assert.ok(full > 0.9 * it.loads.length, `${full} of ${it.loads.length} steps use their time`);
});

relay('by default takes the target from a decode step of all rows', async () => {
  const it = clocked({ rows: 8 });
  fill(it, 60, 'code');
  const mixed: StepLoad[] = [];
  while (!it.loop.idle) {
    const decoding = it.loop.batch.length > 0 && it.loop.batch.rows.some((one) => !one.ending);
    await it.loop.tick();
    const load = it.loads.at(-1)!;
    if (decoding && load.chunkTokens > 1) mixed.push(load);
  }
  const sum = (key: 'decodeRows' | 'contextTokens') => mixed.reduce((all, load) => all + load[key], 0);
  const keys = sum('contextTokens') / sum('decodeRows');
  const decode = TRUTH.predict({ ...emptyLoad(), decodeRows: 8, contextTokens: 8 * keys });
  const times = mixed.map((load) => TRUTH.predict(load) / decode).sort((one, other) => one - other);
  assert.ok(mixed.length > 100);
  assert.ok(times.at(-1)! <= 1.45 && times[times.length >> 1]! > 1.2, `${times.at(-1)}, ${times[times.length >> 1]}`);
});

relay('fills a step that no decode row waits for', async () => {
  const it = clocked({ rows: 2, stepTokens: 256, targetItlMs: 15 });
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 200, maxTokens: 3 }));
  await it.loop.tick();
  assert.is(it.native.plans[0]?.tokens, 256);
});

relay('computes a prompt token per step where the target leaves time for none', async () => {
  const it = clocked({ rows: 3, targetItlMs: 1 });
  const all = [1, 2, 3, 4, 5].map((id) => request(id, { prompt: 30, maxTokens: 40 }));
  for (const one of all) it.loop.add(one);
  while (!it.loop.idle) {
    const behind = it.loop.pool.behind;
    await it.loop.tick();
    if (behind > 0) assert.ok(it.loads.at(-1)!.chunkTokens >= 1);
  }
  for (const one of all) assert.equal(one.tokens, await solo(options(one.id, { prompt: 30, maxTokens: 40 })));
});

relay('uses as many rows as a target allows, and one at least', async () => {
  const most = async (targetItlMs: number) => {
    const it = clocked({ rows: 8, targetItlMs });
    for (let id = 0; id < 30; id++) it.loop.add(request(id, { prompt: 1, maxTokens: 20 }));
    await drain(it.loop);
    assert.is(it.finished.length, 30);
    return Math.max(...it.loads.map(({ decodeRows }) => decodeRows));
  };
  assert.equal([await most(15.6), await most(13.4), await most(3), await most(1000)], [4, 2, 1, 8]);
});

relay('gives an urgent request the row of another where the target allows no more rows', async () => {
  const it = clocked({ rows: 8, targetItlMs: 13.4 }); // two rows, as above
  const slow = [1, 2, 3].map((id) => request(id, { prompt: 1, maxTokens: 60 }));
  for (const one of slow) it.loop.add(one);
  for (let tick = 0; tick < 5; tick++) await it.loop.tick();
  assert.equal(it.loop.batch.rows.map(({ id }) => id), [1, 2]);
  const urgent = request(9, { prompt: 1, maxTokens: 5, priority: 5 });
  it.loop.add(urgent);
  while (!urgent.finished) await it.loop.tick();
  assert.ok(slow.every(({ finished }) => !finished));
  assert.ok(it.loads.every(({ decodeRows }) => decodeRows <= 2));
  await drain(it.loop);
  for (const one of slow) assert.equal(one.tokens, await solo(options(one.id, { prompt: 1, maxTokens: 60 })));
});

relay('measures steps, and predicts them once it has seen some', async () => {
  const it = clocked({ rows: 8, stepTime: new StepTime(), chunkTokens: 2 });
  fill(it, 60, 'uniform');
  while (it.loop.stepTime.observations < 31) {
    await it.loop.tick();
    assert.is(it.loop.stepTime.observations, it.loads.length);
  }
  await drain(it.loop);
  const rows = { decodeRows: 8, sampledRows: 8, contextTokens: 800 };
  const load = { ...emptyLoad(), ...rows, chunkTokens: 10, chunkContext: 500 };
  const off = it.loop.stepTime.predict(load) / TRUTH.predict(load);
  assert.ok(off > 0.97 && off < 1.03, `${off} times`);
  assert.ok(it.native.plans.some(({ rows, chunkTokens }) => rows.length === 8 && chunkTokens > 2));
});

relay('has the next request ready when a row ends, and no more than that', async () => {
  const it = clocked({ rows: 4 });
  for (let id = 0; id < 4; id++) it.loop.add(request(id, { prompt: 4, maxTokens: 300 + 40 * id }));
  for (let id = 4; id < 12; id++) it.loop.add(request(id, { prompt: 60, maxTokens: 300 }));
  for (let tick = 0; tick < 200; tick++) await it.loop.tick();
  assert.is(it.loop.pool.length, 1); // in case somebody leaves early: no row is expected to end for long
  while (it.finished.length < 4) await it.loop.tick();
  const { emptyRows } = it.loop.stats().idle;
  assert.is(emptyRows, 0);
});

relay('has several ready when several rows end together', async () => {
  const it = clocked({ rows: 6 });
  for (let id = 0; id < 6; id++) it.loop.add(request(id, { prompt: 4, maxTokens: 200 }));
  for (let id = 6; id < 12; id++) it.loop.add(request(id, { prompt: 40, maxTokens: 5 }));
  while (it.finished.length < 6) await it.loop.tick();
  await it.loop.tick();
  assert.ok(it.loads.at(-1)!.decodeRows >= 3, JSON.stringify(it.loads.at(-1))); // most a pool of six rows holds ahead
});

relay('takes the longest outputs first when the queue runs out', async () => {
  const order = async (lengthAware: boolean) => {
    const it = clocked({ rows: 1, rules: { lengthAware } });
    const started: number[] = [];
    const all = [5, 30, 10, 20].map((maxTokens, id) => request(id, { prompt: 1, maxTokens }));
    for (const one of all) it.loop.add(one);
    while (!it.loop.idle) {
      await it.loop.tick();
      for (const { id } of it.loop.batch.rows) if (started.at(-1) !== id) started.push(id);
    }
    return started;
  };
  assert.equal(await order(true), [0, 1, 3, 2]);
  assert.equal(await order(false), [0, 1, 2, 3]);
});

relay('keeps the order while requests come', async () => {
  const it = clocked({ rows: 4 });
  const all = Array.from({ length: 40 }, (_, id) => request(id, { prompt: 1, maxTokens: 1 + (id % 5) * 7 }));
  const coming = all.values();
  for (let i = 0; i < 4; i++) it.loop.add(coming.next().value!);
  while (!it.loop.idle) {
    while (it.loop.queue.length < 4) {
      const { value } = coming.next();
      if (value === undefined) break;
      it.loop.add(value);
    }
    await it.loop.tick();
  }
  const admissions = all.slice(0, 36).map(({ admission }) => admission); // the last run out
  assert.equal(admissions, admissions.toSorted((a, b) => a - b));
});

relay('prefers a higher priority to a longer output', async () => {
  const it = clocked({ rows: 1 });
  it.loop.add(request(1, { prompt: 1, maxTokens: 50 }));
  it.loop.add(request(2, { prompt: 1, maxTokens: 2, priority: 1 }));
  await drain(it.loop);
  assert.equal(it.finished.map(([one]) => one), [2, 1]);
});

relay('fills no row whose growth would force a preemption, where lengths are known', async () => {
  const preemptions = async (memoryAware: boolean) => {
    const it = clocked({ rows: 8, slots: 1024, rules: { memoryAware, lengthAware: false } });
    fill(it, 100, 'heavy-tail');
    await drain(it.loop);
    assert.is(it.finished.length, 100);
    return it.loop.stats().preemptions;
  };
  const [without, with_] = [await preemptions(false), await preemptions(true)];
  assert.ok(without > 20 && with_ < without / 2, `${without} preemptions without the rule, ${with_} with it`);
});

relay('is careful for a while after a preemption that came of outputs longer than expected', async () => {
  const it = clocked({ rows: 4, slots: 512, rules: { memoryAware: true, lengthAware: false } });
  // Outputs that end early teach that outputs are short; then they all become as long as they may.
  let early = true;
  for (let id = 0; id < 200; id++) {
    it.loop.lengths.observe(request(id, { prompt: 1, maxTokens: 200 }));
  }
  assert.ok(it.loop.lengths.share() < 0.1);
  for (let id = 0; id < 24; id++) it.loop.add(request(id, { prompt: 8, maxTokens: 180 }));
  let last = 0;
  let calm = 0; // ticks in which no more rows were in use than fit to their ends
  while (!it.loop.idle) {
    await it.loop.tick();
    const { preemptions } = it.loop.stats();
    if (preemptions > last) early = false;
    last = preemptions;
    if (!early && it.loop.batch.length <= 2) calm++;
  }
  assert.ok(last > 0 && last < 24, `${last} preemptions`);
  assert.ok(calm > 100, `${calm} ticks`);
  assert.is(it.finished.length, 24);
});

relay('admits a request that fits nowhere else when nobody runs', async () => {
  const it = clocked({ rows: 4, slots: 256, rules: { memoryAware: true } });
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 100, maxTokens: 156 }));
  await drain(it.loop);
  assert.equal(it.finished.map(([, reason]) => reason), ['length', 'length']);
  assert.is(it.loop.stats().preemptions, 0);
});

relay('refuses a target that is no time', () => {
  for (const targetItlMs of [0, -1, NaN]) {
    assert.throws(() => make({ targetItlMs }), (error: Error) => error.message.includes(`${targetItlMs}`));
  }
});

relay.run();
