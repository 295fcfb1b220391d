import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import type { LoopOptions, PolicyName, StepRecord } from '../../src/loop/loop.ts';
import type { LoopState, Policy } from '../../src/loop/policies/policy.ts';
import type { Request } from '../../src/loop/request.ts';
import { workload } from '../../src/loop/workloads.ts';
import { drain, make, options, request, solo } from './fake/requests.ts';

const loop = suite('Loop');
const POLICIES: readonly PolicyName[] = ['relay', 'static'];

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as EngineError).code;
  }
  return 'nothing thrown';
}

function nothingLeft(it: ReturnType<typeof make>): void {
  const { arena, queued, pooled, rowsUsed } = it.loop.stats();
  assert.equal([arena.free, queued, pooled, rowsUsed], [arena.slots, 0, 0, 0]);
}

for (const policy of POLICIES) {
  loop(`${policy}: gives each request the tokens of its solo run`, async () => {
    const it = make({ policy, rows: 3 });
    const prompts = [5, 1, 90, 300, 2, 64, 65];
    const all = prompts.map((prompt, id) => request(id, { prompt, maxTokens: 1 + ((id * 13) % 40) }));
    for (const one of all) it.loop.add(one);
    await drain(it.loop);
    for (const one of all) {
      const expected = await solo(options(one.id, { prompt: one.promptLength, maxTokens: one.maxTokens }));
      assert.equal(one.tokens, expected);
      assert.equal(it.reported.get(one.id), expected.slice(one.promptLength));
    }
    assert.is(it.finished.length, all.length);
    nothingLeft(it);
  });
}

loop('refills a freed row in the same tick', async () => {
  const it = make({ rows: 1 });
  it.loop.add(request(1, { prompt: [10, 11], maxTokens: 2 }));
  it.loop.add(request(2, { prompt: [20], maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.native.plans.map((plan) => plan.rows), [[0], [0], [0], [0]]); // request 2 decodes right after 1
  assert.is(it.loop.stats().idle.emptyRows, 0);
});

loop('refills many freed rows in the same tick, one of them with its whole prompt', async () => {
  const rows: number[][] = [];
  const it = make({ rows: 3, chunkTokens: 8, onStep: (step) => void rows.push(Array.from(step.rows)) });
  for (const id of [1, 2, 3]) it.loop.add(request(id, { prompt: 2, maxTokens: 3 }));
  for (const id of [4, 5, 6]) it.loop.add(request(id, { prompt: 12, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(rows, [[1, 2, 3], [1, 2, 3], [1, 2, 3], [4, 5, 6], [4, 5, 6]]);
});

loop('fills the pool in chunks that ride in decode steps', async () => {
  const it = make({ rows: 1, chunkTokens: 10 });
  it.loop.add(request(1, { prompt: 3, maxTokens: 6 }));
  it.loop.add(request(2, { prompt: 36, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.native.plans.map(({ rows, chunkTokens }) => [rows.length, chunkTokens]), [
    [1, 10],
    [1, 10],
    [1, 10],
    [1, 5], // 35 of 36 tokens: the last one is computed, and sampled, by the row
    [1, 0],
    [1, 0],
    [1, 0],
    [1, 0],
  ]);
});

loop('shares the chunk budget of a step among the prompts in the pool', async () => {
  const it = make({ rows: 1, chunkTokens: 10 });
  it.loop.add(request(1, { prompt: 3, maxTokens: 6 }));
  for (const id of [2, 3, 4]) it.loop.add(request(id, { prompt: 7, maxTokens: 2 }));
  await it.loop.tick();
  assert.equal(it.native.plans[0]?.runs, [[0, 0, 3], [-1, 0, 6], [-1, 0, 4]]);
});

loop('fills empty rows at once, whatever rides in decode steps', async () => {
  const it = make({ rows: 4, chunkTokens: 1 });
  for (const id of [1, 2, 3, 4]) it.loop.add(request(id, { prompt: 50, maxTokens: 2 }));
  await it.loop.tick();
  assert.equal(it.native.plans[0]?.rows, [0, 1, 2, 3]);
});

loop('fills the pool only as far as every row keeps a tile to grow into', async () => {
  const queued = async (slots: number) => {
    const it = make({ rows: 2, slots });
    for (const id of [1, 2, 3]) it.loop.add(request(id, { prompt: 5, maxTokens: 100 }));
    await it.loop.tick();
    await it.loop.tick();
    return it.loop.stats().queued;
  };
  assert.equal([await queued(4 * 64), await queued(5 * 64)], [1, 0]);
});

loop('prefills a prompt longer than a step in chunks before it takes its row', async () => {
  const it = make({ rows: 2, stepTokens: 16, chunkTokens: 4 });
  it.loop.add(request(1, { prompt: 40, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.native.plans.map(({ rows, tokens }) => [rows.length, tokens]), [[0, 16], [0, 16], [1, 8], [1, 1]]);
  assert.is(it.loop.stats().idle.emptyRows, 2); // counted: it waited, and a row was empty
});

loop('static prefills a batch, then decodes until every row is done', async () => {
  const it = make({ policy: 'static', rows: 2 });
  for (const [id, maxTokens] of [1, 4, 2].entries()) it.loop.add(request(id, { prompt: 3, maxTokens }));
  await drain(it.loop);
  assert.equal(it.native.plans.map(({ rows, chunkTokens }) => [rows.length, chunkTokens]), [
    [0, 4],
    [2, 0],
    [2, 0],
    [2, 0],
    [2, 0],
    [0, 2],
    [1, 0],
    [1, 0],
  ]);
  assert.is(it.loop.stats().idle.deadTokens, 3);
  assert.equal(it.finished.map(([id]) => id), [0, 1, 2]);
});

loop('static tells who has finished at once, though the row computes on', async () => {
  const records: StepRecord[] = [];
  const short = request(7, { prompt: 1, maxTokens: 1 });
  const made = make({ policy: 'static', rows: 2, onStep: (record) => void records.push(record) });
  made.loop.add(short);
  made.loop.add(request(8, { prompt: 1, maxTokens: 3 }));
  await made.loop.tick();
  await made.loop.tick();
  assert.equal(made.finished, [[7, 'length']]);
  assert.equal(records.map((record) => Array.from(record.rows)), [[7, 8], [-9, 8]]);
  await drain(made.loop);
  nothingLeft(made);
});

for (const [policy, most, least] of [['relay', 0.01, 0], ['static', 1, 0.25]] as const) {
  loop(`${policy}: idle share on a heavy tail is from ${least} to ${most} while requests wait`, async () => {
    const it = make({ policy, rows: 16, stepTokens: 512, slots: 64 * 1024, check: false });
    const records = workload('heavy-tail', { requests: 400, seed: 1, context: 1024 });
    for (const [id, one] of records.entries()) {
      it.loop.add(request(id, { prompt: one.promptTokens, maxTokens: one.outputTokens }));
    }
    while (it.loop.stats().queued > 0) await it.loop.tick();
    const { share, wastedMs, rowMs } = it.loop.stats().idle;
    assert.ok(share <= most && share >= least, `share ${share}`);
    assert.is(share, (wastedMs.pad + wastedMs.dead + wastedMs.empty + wastedMs.stall) / rowMs);
    await drain(it.loop);
    assert.is(it.finished.length, 400);
  });
}

loop('stops at a stop token, and keeps it as the last', async () => {
  const [first, second, third] = (await solo(options(1, { prompt: 5, maxTokens: 8 }))).slice(5);
  assert.ok(first !== third && second !== third);
  const it = make();
  const one = request(1, { prompt: 5, maxTokens: 8, stop: [third!] });
  it.loop.add(one);
  await drain(it.loop);
  assert.equal([one.generated, one.last, it.finished], [3, third, [[1, 'stop']]]);
});

loop('does not honour stop tokens before minTokens have been generated', async () => {
  const vocabulary = Array.from({ length: 96 }, (_, token) => token); // all but one
  for (const minTokens of [0, 1, 3]) {
    const it = make();
    const one = request(1, { prompt: 4, maxTokens: 8, stop: vocabulary, minTokens });
    it.loop.add(one);
    await drain(it.loop);
    assert.ok(one.generated === minTokens + 1 || one.last === 96, `${one.generated} after ${minTokens}`);
    assert.ok(one.generated > minTokens);
  }
});

loop('ends a request whose text is complete', async () => {
  const it = make({ onToken: (one) => void (one.generated === 2 && it.loop.stop(one)) });
  it.loop.add(request(1, { prompt: 4, maxTokens: 8 }));
  await drain(it.loop);
  assert.equal(it.finished, [[1, 'stop']]);
  nothingLeft(it);
});

loop('reports log-probabilities, and alternatives to who asked', async () => {
  const seen: [number, number, number][] = [];
  const it = make({
    rows: 2,
    onToken: (one, { token, logprob, top }) => {
      seen.push([one.id, logprob + token / 8, top.length]);
      if (one.id === 2) assert.equal(top[1], { token: (token + 1) % 97, logprob: -(token + 1) / 8 });
    },
  });
  it.loop.add(request(1, { prompt: 4, maxTokens: 1 }));
  it.loop.add(request(2, { prompt: 4, maxTokens: 1, logprobs: 3 }));
  await drain(it.loop);
  assert.equal(seen, [[1, 0, 0], [2, 0, 3]]);
});

loop('refuses with a code what can never run, and what the queue has no room for', () => {
  const it = make({ slots: 128, context: 256, queueRequests: 2, queueTokens: 100 });
  const add = (prompt: number, maxTokens: number) => code(() => it.loop.add(request(prompt, { prompt, maxTokens })));
  assert.is(add(0, 1), 'INVALID_ARGUMENT');
  assert.is(add(1, 0), 'INVALID_ARGUMENT');
  assert.is(add(1, 1.5), 'INVALID_ARGUMENT');
  assert.is(add(1, 128), 'TOO_LONG'); // one more than the arena
  assert.is(add(1, 256), 'TOO_LONG'); // one more than the context
  assert.is(add(101, 1), 'TOO_LONG'); // one more than any queue
  assert.is(add(60, 68), 'nothing thrown'); // exactly the arena
  assert.is(add(41, 1), 'QUEUE_FULL'); // one token more
  assert.is(add(40, 1), 'nothing thrown');
  assert.is(add(1, 1), 'QUEUE_FULL'); // one request more
  assert.is(it.loop.stats().queued, 2);
});

loop('refuses a request a second time', () => {
  const it = make();
  const one = request(1, { prompt: 1, maxTokens: 1 });
  it.loop.add(one);
  assert.is(code(() => it.loop.add(one)), 'INVALID_ARGUMENT');
});

loop('refuses options that make no sense', () => {
  const refused: (Partial<LoopOptions> & { slots?: number })[] = [
    { rows: 0 },
    { rows: 1.5 },
    { stepTokens: 3 }, // fewer than rows
    { context: 0 },
    { queueRequests: 0 },
    { queueTokens: NaN },
    { chunkTokens: 0 },
    { policy: 'toString' as PolicyName },
    { admission: 'hope' as 'reserve' },
  ];
  for (const given of refused) assert.is(code(() => make(given)), 'INVALID_OPTION', JSON.stringify(given));
  assert.is(code(() => make({ slots: 100 })), 'INVALID_ARGUMENT');
});

loop('takes higher priorities first, and equals in order of arrival', async () => {
  const it = make({ rows: 1 });
  for (const [id, priority] of [0, 1, -1, 1, 0, 2].entries()) {
    it.loop.add(request(id, { prompt: 2, maxTokens: 1, priority }));
  }
  await drain(it.loop);
  assert.equal(it.finished.map(([id]) => id), [5, 1, 3, 0, 4, 2]);
});

loop('gives a freed row to what is prefilled before what is not, among equals', async () => {
  const it = make({ rows: 1, chunkTokens: 4 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 3 }));
  it.loop.add(request(2, { prompt: 60, maxTokens: 1 }));
  await it.loop.tick();
  it.loop.pool.add(it.loop.pool.requests.pop()!);
  const ready = request(3, { prompt: 1, maxTokens: 1 });
  it.loop.add(ready);
  assert.is(it.loop.admission.admit(), ready);
  await drain(it.loop);
  assert.equal(it.finished.map(([id]) => id), [1, 3, 2]);
});

loop('gives a freed row to an urgent newcomer before what is already prefilled', async () => {
  const it = make({ rows: 1, chunkTokens: 2 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 4 }));
  it.loop.add(request(2, { prompt: 2, maxTokens: 1 }));
  await it.loop.tick();
  await it.loop.tick();
  assert.is(it.loop.pool.ready, 1);
  it.loop.add(request(3, { prompt: 60, maxTokens: 1, priority: 1 }));
  await drain(it.loop);
  assert.equal(it.finished.map(([id]) => id), [1, 3, 2]);
});

loop('preempts when the arena is full, the latest first, and everyone keeps their tokens', async () => {
  const it = make({ rows: 3, slots: 256, chunkTokens: 64 });
  const all = [1, 2, 3, 4].map((id) => request(id, { prompt: 50, maxTokens: 150 }));
  for (const one of all) it.loop.add(one);
  while (it.loop.stats().preemptions === 0) await it.loop.tick();
  assert.equal(Array.from(it.loop.queue, ({ id }) => id), [3, 4]); // 3 came last, and is back at the front
  await drain(it.loop);
  for (const one of all) assert.equal(one.tokens, await solo(options(one.id, { prompt: 50, maxTokens: 150 })));
  nothingLeft(it);
});

loop('never preempts for somebody of a lower priority', async () => {
  const it = make({ rows: 2, slots: 192 });
  it.loop.add(request(1, { prompt: 60, maxTokens: 60 })); // grows first
  await it.loop.tick();
  const urgent = request(2, { prompt: 100, maxTokens: 20, priority: 1 });
  it.loop.add(urgent);
  await drain(it.loop);
  assert.equal([it.finished.map(([id]) => id), it.loop.stats().preemptions], [[2, 1], 1]);
});

loop('admits nobody in a tick that preempted', async () => {
  const it = make({ rows: 3, slots: 256, preemptEvery: 3 });
  for (let id = 0; id < 12; id++) it.loop.add(request(id, { prompt: 20 + id, maxTokens: 60 }));
  while (!it.loop.idle) {
    const { preemptions, queued } = it.loop.stats();
    await it.loop.tick();
    const after = it.loop.stats();
    if (after.preemptions > preemptions) assert.is(after.queued, queued + after.preemptions - preemptions);
  }
  assert.ok(it.loop.stats().preemptions > 3);
});

loop('reserve never preempts', async () => {
  const it = make({ rows: 4, slots: 512, admission: 'reserve' });
  for (let id = 0; id < 10; id++) it.loop.add(request(id, { prompt: 30, maxTokens: 30 + id * 17 }));
  await drain(it.loop);
  assert.equal([it.finished.length, it.loop.stats().preemptions], [10, 0]);
  nothingLeft(it);
});

for (const policy of POLICIES) {
  for (const preemptEvery of [1, 2, 5]) {
    loop(`${policy}: a preemption forced every ${preemptEvery} steps changes no token`, async () => {
      const it = make({ policy, rows: 3, slots: 512, preemptEvery });
      const all = [1, 2, 3, 4, 5].map((id) => request(id, { prompt: id * 20, maxTokens: 30 }));
      for (const one of all) it.loop.add(one);
      await drain(it.loop);
      for (const one of all) {
        assert.equal(one.tokens, await solo(options(one.id, { prompt: one.id * 20, maxTokens: 30 })));
      }
      nothingLeft(it);
    });
  }
}

loop('static gives up the slots of finished rows before it preempts', async () => {
  const it = make({ policy: 'static', rows: 3, slots: 192 });
  it.loop.add(request(1, { prompt: 30, maxTokens: 2 }));
  it.loop.add(request(2, { prompt: 30, maxTokens: 2 }));
  it.loop.add(request(3, { prompt: 30, maxTokens: 150 }));
  await drain(it.loop);
  assert.equal([it.finished.length, it.loop.stats().preemptions], [3, 0]);
});

loop('static computes the last computed token of a finished row, and gives it no more slots', async () => {
  const it = make({ policy: 'static', rows: 2 });
  it.loop.add(request(1, { prompt: 60, maxTokens: 5 })); // ends with 64 computed: its span is full
  it.loop.add(request(2, { prompt: 2, maxTokens: 8 }));
  await drain(it.loop);
  const dead = it.native.plans.flatMap(({ runs }, step) => (step > 5 ? runs : [])).filter(([row]) => row === 0);
  assert.equal(dead.slice(0, 2), [[0, 63, 1], [0, 63, 1]]);
  assert.is(it.loop.stats().arena.peak, 128);
});

loop('static takes nobody into a batch that is being prefilled', async () => {
  const it = make({ policy: 'static', rows: 2, stepTokens: 8 });
  it.loop.add(request(1, { prompt: 30, maxTokens: 2 }));
  await it.loop.tick();
  it.loop.add(request(2, { prompt: 3, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.finished.map(([id]) => id), [1, 2]);
  assert.ok(it.native.plans.every(({ rows }) => rows.length < 2));
});

loop('static computes no finished row while every other is held', async () => {
  const it = make({ policy: 'static', rows: 2 });
  const held = request(2, { prompt: 2, maxTokens: 3 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 1 }));
  it.loop.add(held);
  await it.loop.tick();
  await it.loop.tick();
  held.held = true;
  const steps = it.loop.stats().steps;
  const tick = it.loop.tick();
  await new Promise((resolve) => setImmediate(resolve));
  assert.is(it.loop.stats().steps, steps);
  held.held = false;
  await tick;
  await drain(it.loop);
});

loop('static lets go at once of rows that failed or were aborted', async () => {
  const it = make({ policy: 'static', rows: 3 });
  it.native.broken = (seed) => seed === 1;
  const all = [1, 2, 3].map((id) => request(id, { prompt: 2, maxTokens: 9 }));
  for (const one of all) it.loop.add(one);
  await it.loop.tick();
  await it.loop.tick();
  it.loop.abort(all[1]!);
  await it.loop.tick();
  assert.is(it.loop.stats().rowsUsed, 1);
  await drain(it.loop);
  assert.is(it.loop.stats().idle.deadTokens, 0);
});

loop('counts rows that a policy leaves out of a step as stalled', async () => {
  const it = make({ rows: 2 });
  const relay = it.loop.policy;
  const alternating: Policy = {
    keepsFinished: false,
    admit: (state: LoopState) => relay.admit(state),
    plan: ({ batch, pool }: LoopState) => {
      const { plan } = batch;
      if (batch.length === 0) for (const one of pool.requests.splice(0)) plan.decode(batch.embed(one), one);
      else plan.decode(it.loop.metrics.steps % 2, batch.rows[it.loop.metrics.steps % 2]!);
    },
  };
  Object.assign(it.loop, { policy: alternating });
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 2, maxTokens: 9 }));
  for (let tick = 0; tick < 4; tick++) await it.loop.tick();
  const { stallMs, share, rowMs } = it.loop.stats().idle;
  assert.equal([stallMs, share, rowMs], [3, 3 / 8, 8]);
});

for (const [policy, overlap] of POLICIES.flatMap((name) => [[name, false], [name, true]] as const)) {
  const how = `${policy}${overlap ? ', overlapping' : ''}`;
  loop(`${how}: an abort in any place, at any await, gives the memory back by the next tick`, async () => {
    const steps = async (abort?: { at: number; during: boolean }) => {
      const it = make({ policy, overlap, rows: 2, slots: 512, stepTokens: 32, chunkTokens: 8 });
      const all = [1, 2, 3, 4, 5].map((id) => request(id, { prompt: 10 * id, maxTokens: 3 + id }));
      for (const one of all) it.loop.add(one);
      let victim: Request | undefined;
      const strike = (id: number) => {
        victim = all[id]!;
        it.loop.abort(victim);
        it.loop.abort(victim);
      };
      let ticks = 0;
      for (let id = 0; !it.loop.idle; ticks++, id = ticks % 5) {
        if (abort?.at === ticks && !abort.during) strike(id);
        it.native.during = () => void (abort?.at === ticks && abort.during && strike(id));
        await it.loop.tick();
        if (abort?.at === ticks) {
          if (abort.during && !it.loop.idle) await it.loop.tick();
          if (victim === undefined) continue; // no step began in that tick
          if (victim.aborted) assert.is(victim.span, undefined);
          assert.ok(it.finished.some(([one]) => one === victim?.id));
          if (abort.during) ticks++;
        }
      }
      assert.is(it.finished.length, 5);
      assert.is(new Set(it.finished.map(([id]) => id)).size, 5);
      nothingLeft(it);
      for (const one of all) {
        const whole = await solo(options(one.id, { prompt: one.promptLength, maxTokens: one.maxTokens }));
        assert.equal(one.tokens, one.aborted ? whole.slice(0, one.tokens.length) : whole);
      }
      return ticks;
    };
    const ticks = await steps();
    for (let at = 0; at < ticks - 1; at++) for (const during of [false, true]) await steps({ at, during });
  });
}

loop('an abort changes nothing for who has the last token', async () => {
  const it = make({ onToken: (one) => it.loop.abort(one) });
  const one = request(1, { prompt: 2, maxTokens: 1 });
  it.loop.add(one);
  await drain(it.loop);
  assert.equal(it.finished, [[1, 'length']]);
  it.loop.abort(one);
  assert.ok(it.loop.idle);
});

loop('plans nothing for a held request, which keeps its row', async () => {
  const it = make({ rows: 2 });
  const held = request(1, { prompt: 2, maxTokens: 5 });
  it.loop.add(held);
  it.loop.add(request(2, { prompt: 2, maxTokens: 5 }));
  await it.loop.tick();
  held.held = true;
  await it.loop.tick();
  await it.loop.tick();
  assert.equal([held.generated, it.loop.stats().rowsUsed, it.loop.stats().idle.share], [1, 2, 0]);
  held.held = false;
  await drain(it.loop);
  assert.equal(held.tokens, await solo(options(1, { prompt: 2, maxTokens: 5 })));
});

for (const [how, act] of [
  ['is no longer held', (it, one) => void (one.held = false)],
  ['is aborted', (it, one) => it.loop.abort(one)],
  ['is stopped', (it, one) => it.loop.stop(one)],
  ['gets company', (it) => it.loop.add(request(2, { prompt: 1, maxTokens: 1 }))],
  ['fails with the loop', (it) => it.loop.fail(new EngineError('CLOSED', 'closed'))],
] as [string, (it: ReturnType<typeof make>, one: Request) => void][]) {
  loop(`sleeps while every request is held, until one ${how}`, async () => {
    const it = make();
    const one = request(1, { prompt: 1, maxTokens: 2 });
    it.loop.add(one);
    await it.loop.tick();
    one.held = true;
    let awake = false;
    const tick = it.loop.tick().then(() => (awake = true));
    await new Promise((resolve) => setImmediate(resolve));
    assert.is(awake, false);
    act(it, one);
    await tick;
    one.held = false;
    await drain(it.loop);
    assert.ok(it.finished.some(([id]) => id === 1));
  });
}

loop('does not sleep in a tick that preempted: somebody can be admitted in the next', async () => {
  const it = make({ rows: 2, preemptEvery: 1 });
  const held = request(1, { prompt: 2, maxTokens: 9 });
  const other = request(2, { prompt: 2, maxTokens: 3 });
  it.loop.add(held);
  it.loop.add(other);
  await it.loop.tick();
  held.held = true;
  for (let tick = 0; tick < 20 && !other.finished; tick++) await it.loop.tick();
  assert.ok(other.finished);
  held.held = false;
  await drain(it.loop);
});

loop('ends a request whose logits hold nothing finite; its neighbours go on', async () => {
  const errors: (number | string | undefined)[] = [];
  const it = make({ onFinish: (one, reason, error) => void errors.push(one.id, reason, error?.code) });
  it.native.broken = (seed, length) => seed === 1 && length === 5;
  const neighbour = request(2, { prompt: 2, maxTokens: 6 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 6 }));
  it.loop.add(neighbour);
  await drain(it.loop);
  assert.equal(errors, [1, 'error', 'INVALID_LOGITS', 2, 'length', undefined]);
  assert.equal(neighbour.tokens, await solo(options(2, { prompt: 2, maxTokens: 6 })));
  nothingLeft(it);
});

loop('a step that rejects fails every request with its code, and the loop is closed', async () => {
  const errors: [number, string, string | undefined][] = [];
  const it = make({ rows: 1, onFinish: (one, reason, error) => void errors.push([one.id, reason, error?.code]) });
  it.native.during = () => {
    throw Object.assign(new Error('gone'), { code: 'DEVICE_LOST' });
  };
  for (const id of [1, 2, 3, 4]) it.loop.add(request(id, { prompt: 2, maxTokens: 2 }));
  let thrown: unknown;
  await it.loop.tick().catch((error) => (thrown = error));
  assert.is((thrown as EngineError).code, 'DEVICE_LOST');
  assert.equal(errors.sort(([a], [b]) => a - b), [1, 2, 3, 4].map((id) => [id, 'error', 'DEVICE_LOST']));
  assert.ok(it.loop.idle);
  nothingLeft(it);
  assert.is(code(() => it.loop.add(request(5, { prompt: 1, maxTokens: 1 }))), 'CLOSED');
});

loop('a failure during a step drops the tokens of that step', async () => {
  const it = make();
  it.native.during = () => it.loop.fail(new EngineError('CLOSED', 'closed'));
  it.loop.add(request(1, { prompt: 2, maxTokens: 2 }));
  await it.loop.tick();
  assert.equal([it.finished, it.reported.size, it.loop.idle], [[[1, 'error']], 0, true]);
  assert.is(it.loop.stats().steps, 0);
  nothingLeft(it);
});

loop('a failure from a callback ends the accepting', async () => {
  const it = make({ onToken: () => it.loop.fail(new EngineError('CLOSED', 'closed')) });
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 2, maxTokens: 2 }));
  await it.loop.tick();
  assert.equal(it.finished, [[1, 'error'], [2, 'error']]);
  nothingLeft(it);
});

loop('callbacks may add and abort', async () => {
  let next = 3;
  const it = make({
    rows: 2,
    onFinish: (one) => {
      it.finished.push([one.id, one.finishReason!]);
      if (next < 20) it.loop.add(request(next++, { prompt: 3, maxTokens: 2 }));
      if (one.id === 1) it.loop.abort(second);
    },
  });
  const second = request(2, { prompt: 2, maxTokens: 50 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 2 }));
  it.loop.add(second);
  for (let tick = 0; tick < 3; tick++) await it.loop.tick();
  assert.equal(it.finished, [[1, 'length'], [2, 'abort']]); // in the same tick: nothing is planned for it any more
  assert.is(second.span, undefined);
  await drain(it.loop);
  assert.is(it.finished.length, 19);
  nothingLeft(it);
});

loop('refuses a tick inside a tick, and survives it', async () => {
  const it = make();
  it.loop.add(request(1, { prompt: 2, maxTokens: 2 }));
  const first = it.loop.tick();
  let refused: unknown;
  await it.loop.tick().catch((error) => (refused = error));
  assert.is((refused as EngineError).code, 'INTERNAL');
  await first;
  await drain(it.loop);
  assert.equal(it.finished, [[1, 'length']]);
});

loop('notes when a request was queued, started, given tokens and finished', async () => {
  const it = make({ rows: 1, stepTokens: 16, chunkTokens: 8 });
  const [first, second] = [request(1, { prompt: 2, maxTokens: 4 }), request(2, { prompt: 20, maxTokens: 2 })];
  it.loop.add(first);
  await it.loop.tick();
  it.loop.add(second);
  await drain(it.loop);
  assert.equal(first.times, { queued: 0, started: 0, firstToken: 1, lastToken: 4, finished: 4 });
  assert.equal(second.times, { queued: 1, started: 1, firstToken: 5, lastToken: 6, finished: 6 });
});

loop('counts steps, tokens and rows', async () => {
  const lines: string[] = [];
  const it = make({ rows: 2, trace: (line) => void lines.push(line) });
  it.loop.add(request(1, { prompt: 10, maxTokens: 3 }));
  it.loop.add(request(2, { prompt: 20, maxTokens: 3 }));
  await it.loop.tick();
  const { rows, rowsUsed, arena, steps, tokens } = it.loop.stats();
  assert.equal([rows, rowsUsed, steps, tokens], [2, 2, 1, { prompt: 30, cached: 0, generated: 2 }]);
  assert.equal(arena, { slots: 4096, used: 30, padding: 98, free: 3968, cached: 0, peak: 128 });
  await drain(it.loop);
  assert.equal(it.loop.stats().stepMs, { mean: 1, p50: 1, p90: 1, p99: 1 });
  assert.is(lines.length, 3);
  assert.match(lines[0]!, /^step 1: 1\.00 ms, rows 2\/2, runs 2, tokens 30/);
});

loop.run();
