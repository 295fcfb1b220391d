import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Metrics } from '../../src/loop/metrics.ts';
import { Plan } from '../../src/loop/plan.ts';
import { PrefilledPool } from '../../src/loop/pool.ts';
import { Queue } from '../../src/loop/queue.ts';
import type { Request } from '../../src/loop/request.ts';
import { stopReason } from '../../src/loop/stop.ts';
import { request } from './fake/requests.ts';

const queue = suite('Queue');
const pool = suite('PrefilledPool');
const stop = suite('stopReason');
const metrics = suite('Metrics');

const ids = (requests: Iterable<Request>) => Array.from(requests, ({ id }) => id);

queue('orders by priority, then arrival; who comes back stands first among equals', () => {
  const it = new Queue();
  for (const [id, priority] of [0, 2, 0, 1].entries()) it.add(request(id, { prompt: 1, maxTokens: 1, priority }));
  it.addFirst(request(4, { prompt: 1, maxTokens: 1, priority: 0 }));
  it.addFirst(request(5, { prompt: 1, maxTokens: 1, priority: 9 }));
  assert.equal(ids(it), [5, 1, 3, 4, 0, 2]);
});

queue('passes over who is held, and counts prompt tokens', () => {
  const it = new Queue();
  const all = [1, 2, 3].map((id) => request(id, { prompt: id * 10, maxTokens: 1 }));
  for (const one of all) it.add(one);
  all[0]!.held = true;
  assert.equal([it.peek()?.id, it.waiting(9), it.waiting(1), it.promptTokens], [2, 2, 1, 60]);
  it.take(all[1]!);
  all[2]!.finish('abort');
  it.retire();
  assert.equal([ids(it), it.promptTokens, it.peek()], [[1], 10, undefined]);
});

pool('counts who is ready, and what is still to be computed', () => {
  const it = new PrefilledPool();
  const [a, b, c] = [10, 5, 7].map((prompt, id) => request(id, { prompt, maxTokens: 1 }));
  for (const one of [a!, b!, c!]) it.add(one);
  b!.computed = 4;
  c!.held = true;
  assert.equal([it.length, it.waiting, it.ready, it.behind], [3, 2, 1, 9]);
});

pool('gives a row to the highest priority that fits; prefilled first, then the oldest', () => {
  const it = new PrefilledPool();
  const add = (id: number, priority: number, prompt: number, computed = 0) => {
    const one = request(id, { prompt, maxTokens: 1, priority });
    one.computed = computed;
    it.add(one);
    return one;
  };
  add(1, 0, 20);
  add(2, 0, 10);
  add(3, 0, 10, 9);
  assert.equal([it.next(20)?.id, it.next(1)?.id, it.next(0)?.id], [3, 3, undefined]);
  const urgent = add(4, 1, 30);
  assert.equal([it.next(30)?.id, it.next(29)?.id], [4, 3]);
  urgent.held = true;
  assert.is(it.next(30)?.id, 3);
  it.take(it.next(30)!);
  assert.equal([it.next(30)?.id, it.next(19)?.id], [1, 2]);
});

pool('counts who follows another as waiting, though no run is planned for it', () => {
  const it = new PrefilledPool();
  const one = request(1, { prompt: 9, maxTokens: 1 });
  it.add(one);
  one.following = true;
  assert.equal([one.held, it.waiting, it.behind, it.next(9)], [true, 1, 0, undefined]);
  one.held = true; // by its reader, too
  one.following = false;
  assert.equal([one.held, it.waiting], [true, 0]);
});

stop('honours a stop token only after minTokens', () => {
  const one = request(1, { prompt: 2, maxTokens: 4, minTokens: 2, stop: [5] });
  const reasons = [5, 5, 5].map((token) => {
    one.tokens.push(token);
    return stopReason(one);
  });
  assert.equal(reasons, [undefined, undefined, 'stop']);
});

stop('a stop token as the last one allowed is a stop', () => {
  const one = request(1, { prompt: 2, maxTokens: 1, stop: [5] });
  one.tokens.push(5);
  assert.is(stopReason(one), 'stop');
  one.tokens[2] = 6;
  assert.is(stopReason(one), 'length');
});

metrics('splits idle computation by kind, over the row-time that somebody wanted', () => {
  const it = new Metrics();
  const plan = new Plan({ rows: 8, stepTokens: 16, slots: 64 });
  it.step(10, plan, { used: 4, empty: 0, stalled: 0 });
  assert.is(it.idle().share, 0);
  plan.deadTokens = 2;
  it.step(10, plan, { used: 4, empty: 3, stalled: 1 });
  plan.deadTokens = 0;
  plan.padTokens = 5;
  plan.maskedSlots = 70;
  plan.tokenCount = 10;
  it.step(2, plan, { used: 6, empty: 0, stalled: 0 });
  const wastedMs = { pad: 6, dead: 20, empty: 30, stall: 10 };
  assert.equal(it.idle(), {
    share: 66 / 122,
    padTokens: 5,
    deadTokens: 2,
    emptyRows: 3,
    stallMs: 10,
    padKv: 70,
    rowMs: 122,
    wastedMs,
  });
});

metrics('gives percentiles of the latest steps, and nothing before the first', () => {
  const it = new Metrics();
  const plan = new Plan({ rows: 1, stepTokens: 1, slots: 64 });
  assert.equal([it.stepMs(), it.idle().share], [{ mean: 0, p50: 0, p90: 0, p99: 0 }, 0]);
  const step = (ms: number) => it.step(ms, plan, { used: 1, empty: 0, stalled: 0 });
  for (let i = 0; i < 76; i++) step(1000); // all forgotten but by the mean
  for (let i = 0; i < 1024; i++) step(i % 128);
  assert.equal(it.stepMs(), { mean: (76 * 1000 + 1024 * 63.5) / 1100, p50: 64, p90: 115, p99: 126 });
});

queue.run();
pool.run();
stop.run();
metrics.run();
