import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import type { LoopOptions } from '../../src/loop/loop.ts';
import { Request } from '../../src/loop/request.ts';
import { DRAWN } from '../../src/native.ts';
import type { FakeEngine } from '../fake/engine.ts';
import { drain, left, type Made, make, NOTHING, options, request, solo } from './fake/requests.ts';
import { LENGTHS, SETTING } from './fake/settings.ts';

const overlap = suite('Overlapping steps');

/** The tokens of every step, as it is asked for. */
function asked(native: FakeEngine): number[][] {
  const steps: number[][] = [];
  const step = native.step.bind(native);
  native.step = (plan, result) => {
    steps.push(Array.from(plan.tokens.subarray(0, plan.tokenCount)));
    return step(plan, result);
  };
  return steps;
}

/** Makes steps last until they are let go. */
function gate(native: FakeEngine): (() => void)[] {
  const running: (() => void)[] = [];
  native.during = () => new Promise<void>((resolve) => running.push(resolve));
  return running;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function nothingLeft(it: Made): void {
  assert.equal([left(it), it.loop.idle], [NOTHING, true]);
}

overlap('asks for a step while the one before is on its way, with the token it draws', async () => {
  const it = make({ overlap: true });
  const steps = asked(it.native);
  const running = gate(it.native);
  it.loop.add(request(1, { prompt: [10, 11, 12], maxTokens: 3 }));
  await it.loop.tick();
  assert.equal(steps, [[10, 11, 12]]);
  const tick = it.loop.tick();
  await turn();
  assert.equal([steps, it.reported.size], [[[10, 11, 12], [DRAWN]], 0]);
  running.shift()!();
  await tick;
  assert.is(it.reported.get(1)?.length, 1);
  it.native.during = () => {};
  running.shift()!();
  await drain(it.loop);
  assert.equal(it.reported.get(1), (await solo(options(1, { prompt: [10, 11, 12], maxTokens: 3 }))).slice(3));
  nothingLeft(it);
});

overlap('gives a row on while the last token of the request before is being drawn', async () => {
  const known: number[] = []; // tokens of request 1, when a step was asked for
  const it = make({ overlap: true, rows: 1 });
  const step = it.native.step.bind(it.native);
  it.native.step = (plan, result) => {
    known.push(it.reported.get(1)?.length ?? 0);
    return step(plan, result);
  };
  it.loop.add(request(1, { prompt: [10], maxTokens: 2 }));
  it.loop.add(request(2, { prompt: [20], maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.native.plans.map((plan) => plan.runs), [[[0, 0, 1]], [[0, 1, 1]], [[0, 0, 1]], [[0, 1, 1]]]);
  assert.equal(known, [0, 0, 1, 2]);
  assert.equal([it.loop.stats().idle.share, it.loop.stats().idle.emptyRows], [0, 0]);
  nothingLeft(it);
});

overlap('draws one surplus token for who stops, and none for anybody else', async () => {
  const third = (await solo(options(1, { prompt: 5, maxTokens: 8 })))[7]!;
  const records: number[][] = [];
  const it = make({ overlap: true, rows: 1, onStep: ({ rows }) => void records.push(Array.from(rows)) });
  const one = request(1, { prompt: 5, maxTokens: 8, stop: [third] });
  it.loop.add(one);
  it.loop.add(request(2, { prompt: 3, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal([one.last, it.reported.get(1)?.length], [third, 3]);
  assert.equal(records, [[1], [1], [1], [-3], [2], [2]]);
  const { deadTokens, share } = it.loop.stats().idle;
  assert.equal([deadTokens, share], [1, 1 / 6]);
  nothingLeft(it);
});

overlap('who is held is given the token that was being drawn; the step after knows it', async () => {
  const it = make({ overlap: true });
  const steps = asked(it.native);
  const held = request(1, { prompt: [7], maxTokens: 5 });
  it.loop.add(held);
  await it.loop.tick();
  await it.loop.tick();
  held.held = true;
  await it.loop.tick();
  assert.equal([held.generated, steps.length], [2, 2]);
  const tick = it.loop.tick(); // sleeps: nothing is on its way
  await turn();
  assert.equal([held.generated, steps.length], [2, 2]);
  held.held = false;
  await tick;
  await it.loop.tick();
  assert.equal(steps[2], [held.tokens[2]]);
  await drain(it.loop);
  assert.equal(held.tokens, await solo(options(1, { prompt: [7], maxTokens: 5 })));
});

overlap('who is preempted gets the token that was being drawn, and goes on after it', async () => {
  const it = make({ overlap: true, rows: 2, preemptEvery: 4 });
  const all = [1, 2].map((id) => request(id, { prompt: 3, maxTokens: 12 }));
  for (const one of all) it.loop.add(one);
  while (it.loop.stats().preemptions === 0) await it.loop.tick();
  assert.equal([all[1]!.generated, all[1]!.computed, all[1]!.drawing, it.loop.queue.peek()?.id], [3, 0, 0, 2]);
  await drain(it.loop);
  for (const one of all) assert.equal(one.tokens, await solo(options(one.id, { prompt: 3, maxTokens: 12 })));
  nothingLeft(it);
});

overlap('an abort still finds who waits for the last token without a row', async () => {
  const it = make({ overlap: true, rows: 1 });
  const steps = asked(it.native);
  const running = gate(it.native);
  const one = request(1, { prompt: 2, maxTokens: 1 });
  it.loop.add(one);
  it.loop.add(request(2, { prompt: 2, maxTokens: 1 }));
  await it.loop.tick();
  const tick = it.loop.tick();
  await turn();
  assert.equal([steps.length, it.loop.batch.rows.map(({ id }) => id), one.finished], [2, [2], false]);
  it.loop.abort(one);
  it.native.during = () => {};
  for (const end of running) end();
  await tick;
  await drain(it.loop);
  assert.equal([it.finished, one.generated, it.reported.has(1)], [[[1, 'abort'], [2, 'length']], 0, false]);
  nothingLeft(it);
});

overlap('a failure reaches everybody once, with two steps on their way', async () => {
  const it = make({ overlap: true, rows: 2 });
  const running = gate(it.native);
  it.loop.add(request(1, { prompt: 2, maxTokens: 1 })); // has no place any more when the failure comes
  for (const id of [2, 3, 4, 5, 6]) it.loop.add(request(id, { prompt: 2, maxTokens: 9 }));
  await it.loop.tick();
  const tick = it.loop.tick();
  await turn();
  it.loop.fail(new EngineError('CLOSED', 'closed'));
  assert.equal(it.finished.toSorted(([a], [b]) => a - b), [1, 2, 3, 4, 5, 6].map((id) => [id, 'error']));
  nothingLeft(it);
  it.native.during = () => {};
  for (const end of running) end();
  await tick;
  assert.equal([it.finished.length, it.reported.size, it.loop.stats().steps], [6, 0, 0]);
});

overlap('where one step fails the next may fail too, and nobody is left with its rejection', async () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => void unhandled.push(reason);
  process.on('unhandledRejection', note);
  const it = make({ overlap: true, rows: 1 });
  it.native.during = (step) => {
    if (step >= 2) throw Object.assign(new Error(`step ${step}`), { code: 'DEVICE_LOST' });
  };
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 2, maxTokens: 9 }));
  let thrown: unknown;
  for (let tick = 0; thrown === undefined; tick++) await it.loop.tick().catch((error) => (thrown = error));
  await turn();
  await turn();
  process.off('unhandledRejection', note);
  assert.equal([(thrown as EngineError).code, (thrown as EngineError).message], ['DEVICE_LOST', 'step 2']);
  assert.equal([unhandled, it.native.plans.length, it.finished.length], [[], 4, 2]);
  nothingLeft(it);
});

overlap('a failure from a callback ends those whose step comes after, too', async () => {
  const it = make({ overlap: true, rows: 1, onToken: () => it.loop.fail(new EngineError('CLOSED', 'closed')) });
  for (const id of [1, 2, 3]) it.loop.add(request(id, { prompt: 2, maxTokens: 1 }));
  await drain(it.loop);
  assert.equal(it.finished.toSorted(([a], [b]) => a - b), [[1, 'length'], [2, 'error'], [3, 'error']]);
  nothingLeft(it);
});

overlap('ends a request whose logits hold nothing finite; its neighbours go on', async () => {
  const it = make({ overlap: true });
  it.native.broken = (seed, length) => seed === 1 && length === 5;
  const neighbour = request(2, { prompt: 2, maxTokens: 8 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 8 }));
  it.loop.add(neighbour);
  await drain(it.loop);
  assert.equal([it.finished, it.loop.stats().idle.deadTokens], [[[1, 'error'], [2, 'length']], 1]);
  assert.equal(neighbour.tokens, await solo(options(2, { prompt: 2, maxTokens: 8 })));
  nothingLeft(it);
});

overlap('static goes on to the next batch while the last tokens of this one are being drawn', async () => {
  const it = make({ overlap: true, policy: 'static', rows: 2 });
  const steps = asked(it.native);
  const running = gate(it.native);
  for (const id of [1, 2, 3]) it.loop.add(request(id, { prompt: 1, maxTokens: 1 }));
  await it.loop.tick();
  const tick = it.loop.tick();
  await turn();
  assert.equal([steps.length, it.loop.batch.rows.map(({ id }) => id), it.finished], [2, [3], []]);
  it.native.during = () => {};
  for (const end of running) end();
  await tick;
  await drain(it.loop);
  nothingLeft(it);
});

overlap('static gives a row whose last token is being drawn no slots, and takes them before it preempts', async () => {
  const filled = make({ overlap: true, policy: 'static', rows: 2 });
  filled.loop.add(request(1, { prompt: 60, maxTokens: 5 })); // ends with 64 computed: its span is full
  filled.loop.add(request(2, { prompt: 2, maxTokens: 8 }));
  await drain(filled.loop);
  assert.is(filled.loop.stats().arena.peak, 128);

  const full = make({ overlap: true, policy: 'static', rows: 2, slots: 128 });
  full.loop.add(request(1, { prompt: 30, maxTokens: 3 })); // its last token is being drawn when the other grows
  full.loop.add(request(2, { prompt: 62, maxTokens: 6 }));
  await drain(full.loop);
  assert.equal([full.finished.length, full.loop.stats().preemptions], [2, 0]);
});

overlap('static computes no row whose last token is being drawn while every other is held', async () => {
  const it = make({ overlap: true, policy: 'static', rows: 2 });
  const held = request(2, { prompt: 1, maxTokens: 2 });
  it.loop.add(request(1, { prompt: 1, maxTokens: 1 }));
  it.loop.add(held);
  await it.loop.tick();
  held.held = true;
  await it.loop.tick();
  assert.equal([it.native.plans.length, it.reported.get(1)?.length], [1, 1]);
  held.held = false;
  await drain(it.loop);
  nothingLeft(it);
});

overlap('counts the time of a step from the end of the one before', async () => {
  const it = make({ overlap: true });
  it.loop.add(request(1, { prompt: 2, maxTokens: 6 }));
  await drain(it.loop);
  const { rowMs } = it.loop.stats().idle;
  assert.equal([it.clock.ms, rowMs], [6, 6]);
});

const wanted = fc.record({ ...LENGTHS, priority: fc.integer({ min: -1, max: 1 }) });

/** What befalls a request when it has so many tokens; the same whenever that is. */
const fate = fc.record({
  wanted,
  stop: fc.array(fc.nat({ max: 96 }), { maxLength: 3 }),
  minTokens: fc.nat({ max: 10 }),
  arrival: fc.nat({ max: 40 }), // tick
  abort: fc.option(fc.integer({ min: 1, max: 60 }), { freq: 2 }),
  end: fc.option(fc.integer({ min: 1, max: 60 }), { freq: 2 }),
  hold: fc.option(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 20 })), { freq: 2 }),
});

const setting = fc
  .record({
    ...SETTING,
    slots: fc.constantFrom(192, 256, 320, 512, 1024),
  })
  .map(({ moreTokens, ...rest }) => ({ ...rest, stepTokens: rest.rows + moreTokens }));

type Event = readonly [id: number, what: number | string];

overlap('where all end by length, takes the same steps as without, and tells of them in the same order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(wanted, { minLength: 1, maxLength: 16 }), setting, async (all, given) => {
      const played = async (overlapping: boolean) => {
        const events: Event[] = [];
        const rows: number[][] = [];
        const it = make({
          ...given,
          overlap: overlapping,
          rules: { timed: false, memoryAware: false }, // what is learnt from a step is known a step later
          onStep: (record) => void rows.push(Array.from(record.rows)),
          onToken: ({ id }, { token }) => void events.push([id, token]),
          onFinish: ({ id }, reason) => void events.push([id, reason]),
        });
        all.forEach((one, id) => it.loop.add(request(id, one)));
        await drain(it.loop);
        nothingLeft(it);
        const { idle, movedSlots, preemptions } = it.loop.stats();
        const { deadTokens, emptyRows, stallMs } = idle;
        return { plans: it.native.plans, events, rows, deadTokens, emptyRows, stallMs, movedSlots, preemptions };
      };
      assert.equal(await played(true), await played(false));
    }),
    { numRuns: 150 },
  );
});

overlap('changes no token and no end, whatever befalls requests, and computes little for nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fate, { minLength: 1, maxLength: 16 }), setting, async (fates, given) => {
      const played = async (overlapping: boolean) => {
        const events = fates.map((): (number | string)[] => []);
        const release: (number | undefined)[] = []; // [requests] when each is no longer held
        let tick = 0;
        const act: LoopOptions['onToken'] = (one, { token }) => {
          const { abort, end, hold } = fates[one.id]!;
          events[one.id]!.push(token);
          if (one.generated === hold?.[0]) {
            one.held = true;
            release[one.id] = tick + hold[1];
          }
          if (one.generated === end) it.loop.stop(one);
          if (one.generated === abort) it.loop.abort(one);
        };
        const onFinish: LoopOptions['onFinish'] = ({ id }, reason) => void events[id]!.push(reason);
        const it = make({ ...given, overlap: overlapping, onToken: act, onFinish });
        const all = fates.map(({ wanted: one, stop, minTokens }, id) => {
          return new Request(id, options(id, { ...one, stop, minTokens }));
        });
        for (; tick <= 40 || !it.loop.idle; tick++) {
          assert.ok(tick < 50_000, 'the loop does not come to an end');
          for (const one of all) if (fates[one.id]!.arrival === tick) it.loop.add(one);
          for (const one of all) if (one.held && release[one.id]! <= tick) one.held = false;
          if (it.loop.idle) continue;
          let ended = false;
          const ticking = it.loop.tick().finally(() => (ended = true));
          await turn();
          if (!ended) for (const one of all) one.held = false; // it sleeps
          await ticking;
        }
        nothingLeft(it);
        const early = events.filter((of) => of.at(-1) !== 'length').length;
        const { deadTokens } = it.loop.stats().idle;
        if (given.policy !== 'static') assert.ok(deadTokens <= (overlapping ? early : 0), `${deadTokens} for ${early}`);
        return events;
      };
      assert.equal(await played(true), await played(false));
    }),
    { numRuns: 120 },
  );
});

overlap.run();
