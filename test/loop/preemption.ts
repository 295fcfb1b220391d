import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import type { LoopOptions } from '../../src/loop/loop.ts';
import { MOVE_START_MS, PreemptionCosts } from '../../src/loop/preemption.ts';
import type { Request } from '../../src/loop/request.ts';
import { emptyLoad, STEP_TERMS, type StepCoefficients, StepTime } from '../../src/loop/step-time.ts';
import { drain, left, type Made, make, NOTHING, options, request, solo, type Wanted } from './fake/requests.ts';

const choice = suite('Parking or computing again');
const preemption = suite('Preemption');
const priority = suite('Priority');
const pause = suite('Pause');

const COEFFICIENTS = Object.fromEntries(STEP_TERMS.map((term) => [term, 0])) as StepCoefficients;
/** Milliseconds: 2 a step, `token` a token, 0.002 a slot that is moved. */
function stepTime(token: number): StepTime {
  return StepTime.fromCoefficients({ ...COEFFICIENTS, step: 2, token, movedSlot: 0.002 });
}

choice('parks what is longer than the crossover', () => {
  const costs = new PreemptionCosts(25_000, stepTime(0.03)); // 0.005 ms a slot
  const crossover = (2 * MOVE_START_MS) / (0.03 - 2 * 0.005);
  assert.equal([crossover - 1, crossover + 1].map((computed) => costs.parkingPays(computed)), [false, true]);
  const dear = new PreemptionCosts(25_000, stepTime(0.01));
  assert.is(dear.parkingPays(1e6), false); // never, if copying twice costs as much
});

choice('counts the keys that a prompt computed again would read', () => {
  const keys = StepTime.fromCoefficients({ ...COEFFICIENTS, token: 0.001, chunkContext: 0.0001 });
  const costs = new PreemptionCosts(25_000, keys);
  assert.equal([100, 1000].map((computed) => costs.parkingPays(computed)), [false, true]);
});

choice('parks until steps can be predicted', () => {
  const costs = new PreemptionCosts(25_000, new StepTime());
  assert.is(costs.parkingPays(1), true);
});

choice('learns what a copy takes from steps that copied much and computed no prompt', () => {
  const costs = new PreemptionCosts(1000, stepTime(0.02));
  const decode = { ...emptyLoad(), decodeRows: 8 };
  for (let i = 0; i < 40; i++) {
    costs.observe({ ...decode, movedSlots: 150 }, 100, 2.16 + 50 * 0.002 + 100 * 0.01); // 50 of them within the arena
    costs.observe({ ...decode, movedSlots: 100, chunkTokens: 9 }, 100, 99);
    costs.observe({ ...decode, movedSlots: 9 }, 9, 99);
  }
  assert.ok(Math.abs(costs.moveMs - 0.01) < 1e-5, `${costs.moveMs} ms`);
  assert.is(costs.parkingPays(1000), false);
});

async function asAlone(all: readonly Request[], wanted: (id: number) => Wanted): Promise<void> {
  for (const one of all) assert.equal(one.tokens, await solo(options(one.id, wanted(one.id))), `request ${one.id}`);
}

function computedTokens({ native }: Made): number {
  return native.plans.reduce((sum, { tokens }) => sum + tokens, 0);
}

const EVERY_WAY = (['relay', 'static'] as const).flatMap((policy) =>
  [false, true].flatMap((overlap) =>
    (['optimistic', 'reserve'] as const).map((admission) => ({ policy, overlap, admission })),
  ),
);

for (const given of EVERY_WAY) {
  const how = `${given.policy}, ${given.admission}${given.overlap ? ', overlapping' : ''}`;
  preemption(`${how}: preempted every k steps, parked or not, every request gets its tokens`, async () => {
    for (const preemptEvery of [1, 2, 3, 5]) {
      for (const preemptBy of ['park', 'recompute'] as const) {
        const sizes = { rows: 3, slots: 512, hostSlots: 512 };
        const it = make({ ...given, ...sizes, preemptEvery, preemptBy, prefixReuse: false }); // each would find its own
        const wanted = (id: number) => ({ prompt: 20 * id, maxTokens: 30 });
        const all = [1, 2, 3, 4, 5].map((id) => request(id, wanted(id)));
        for (const one of all) it.loop.add(one);
        await drain(it.loop);
        await asAlone(all, wanted);
        const { preemptions, parks } = it.loop.stats();
        assert.ok(preemptions > 0);
        assert.ok(preemptBy === 'park' ? parks > 0 : parks === 0, `${parks} of ${preemptions}`);
        const least = all.reduce((sum, one) => sum + one.tokens.length - 1, 0);
        if (preemptBy === 'park' && given.policy === 'relay') assert.is(computedTokens(it), least); // nothing twice
        if (preemptBy === 'recompute') assert.ok(computedTokens(it) > least);
        assert.equal(left(it), NOTHING);
      }
    }
  });
}

preemption('in an arena of a few tiles where everything is always parked or moved, no token changes', async () => {
  for (const overlap of [false, true]) {
    const it = make({ rows: 6, slots: 320, hostSlots: 2048, preemptBy: 'park', overlap, chunkTokens: 64 });
    const wanted = (id: number) => ({ prompt: 10 + 9 * id, maxTokens: 150 });
    const all = Array.from({ length: 12 }, (_, id) => request(id, wanted(id)));
    for (const one of all) it.loop.add(one);
    await drain(it.loop);
    await asAlone(all, wanted);
    const { parks, movedSlots } = it.loop.stats();
    assert.ok(parks >= 10 && movedSlots > 1000, `${parks} parks, ${movedSlots} slots`);
    assert.equal(left(it), NOTHING);
  }
});

preemption('a parked request waits in front of its equals with its slots in host memory', async () => {
  const it = make({ rows: 3, slots: 256, hostSlots: 256, chunkTokens: 64, preemptBy: 'park' });
  for (const id of [1, 2, 3, 4]) it.loop.add(request(id, { prompt: 50, maxTokens: 150 }));
  while (it.loop.stats().preemptions === 0) await it.loop.tick();
  const [first] = it.loop.queue;
  assert.equal([first?.id, first?.computed, it.loop.stats().parked, it.loop.stats().parks], [3, 64, 1, 1]);
  assert.equal(it.loop.stats().host, { slots: 256, free: 192 });
  assert.equal(it.native.plans.at(-1)?.moves.filter(([, to]) => to! >= 256).map(([, , slots]) => slots), [64]);
  await drain(it.loop);
  assert.equal(left(it), NOTHING);
});

preemption('computes again what host memory has no place for', async () => {
  const it = make({ rows: 3, slots: 512, hostSlots: 64, preemptBy: 'park', preemptEvery: 4 });
  const wanted = () => ({ prompt: 40, maxTokens: 60 });
  const all = [1, 2, 3].map((id) => request(id, wanted()));
  for (const one of all) it.loop.add(one);
  await drain(it.loop);
  const { parks, preemptions } = it.loop.stats();
  assert.ok(parks > 0 && parks < preemptions, `${parks} of ${preemptions}`);
  await asAlone(all, wanted);
  assert.equal(left(it), NOTHING);
});

for (const [how, end] of [
  ['aborted', (it, one) => it.loop.abort(one)],
  ['stopped', (it, one) => it.loop.stop(one)],
  ['failed with all others', (it) => it.loop.fail(new EngineError('CLOSED', 'closed'))],
] as [string, (it: Made, one: Request) => void][]) {
  preemption(`a parked request that is ${how} gives host memory back by the next tick`, async () => {
    for (const during of [false, true]) {
      const it = make({ rows: 2, slots: 512, hostSlots: 512, preemptBy: 'park', preemptEvery: 5 });
      for (const id of [1, 2]) it.loop.add(request(id, { prompt: 70, maxTokens: 60 }));
      while (it.loop.stats().parked === 0) await it.loop.tick();
      const [parked] = [...it.loop.queue];
      if (during) {
        it.native.during = () => end(it, parked!);
        await it.loop.tick();
        it.native.during = undefined;
      } else {
        end(it, parked!);
      }
      if (!it.loop.idle) await it.loop.tick();
      assert.equal([it.loop.stats().host.free, it.loop.stats().parked], [512, 0]);
      await drain(it.loop);
      assert.equal(left(it), NOTHING);
      assert.is(it.finished.length, 2);
    }
  });
}

preemption('a row whose next slots are still being parked waits for one step, and nobody else must go', async () => {
  const it = make({ rows: 3, slots: 256, hostSlots: 256, preemptBy: 'park' });
  const wanted = (id: number) => ({ prompt: [30, 20, 58][id]!, maxTokens: 70 });
  const all = [0, 1, 2].map((id) => request(id, wanted(id)));
  for (const one of all) it.loop.add(one);
  await drain(it.loop);
  await asAlone(all, wanted);
  const { preemptions, idle } = it.loop.stats();
  assert.equal([preemptions, idle.stallMs], [1, 1]);
});

preemption('a row that stands still for a step is not given to others, as that of a held request would be', async () => {
  for (const taken of [false, true]) {
    const it = make({ rows: 1 });
    const one = request(1, { prompt: 10, maxTokens: 20 });
    it.loop.add(one);
    await it.loop.tick();
    it.loop.add(request(2, { prompt: 90, maxTokens: 20 })); // three chunks, with nothing beside them
    if (taken) one.held = true;
    else one.stalled = true;
    for (let tick = 0; tick < 3; tick++) await it.loop.tick();
    assert.is(it.loop.stats().preemptions, taken ? 1 : 0);
    one.stalled = one.held = false;
    await drain(it.loop);
  }
});

preemption('a tick with nothing to run takes the moves that somebody waits for', async () => {
  const it = make({ rows: 2, slots: 128, hostSlots: 128, preemptBy: 'park' });
  const held = [1, 2].map((id) => request(id, { prompt: 20, maxTokens: 30 }));
  for (const one of held) it.loop.add(one);
  await it.loop.tick();
  for (const one of held) one.held = true;
  const third = request(3, { prompt: 70, maxTokens: 2 });
  it.loop.add(third);
  for (let tick = 0; tick < 10 && !third.finished; tick++) await it.loop.tick();
  assert.ok(third.finished, 'though all memory belonged to requests whose readers were behind');
  assert.ok(it.native.plans.some(({ runs, moves }) => runs.length === 0 && moves.length > 0));
  for (const one of held) one.held = false;
  await drain(it.loop);
  await asAlone(held, () => ({ prompt: 20, maxTokens: 30 }));
  assert.equal(left(it), NOTHING);
});

preemption('requests whose readers are behind give way where enough is free, but in pieces', async () => {
  const it = make({ slots: 512, hostSlots: 512, preemptBy: 'park', check: false }); // the fillers have no owner
  const fillers = Array.from({ length: 8 }, () => it.loop.arena.allocate({ computed: 0, length: 0, limit: 0 }, 64)!);
  const clear = (...tiles: number[]) => {
    for (const one of fillers) if (tiles.includes(one.offset / 64)) it.loop.arena.release(one);
  };
  const held: Request[] = [];
  for (const tiles of [[1, 2], [3, 4], [5, 6]]) {
    clear(...tiles);
    held.push(request(held.length, { prompt: 100, maxTokens: 20 }));
    it.loop.add(held.at(-1)!);
    await it.loop.tick();
  }
  clear(0, 7);
  assert.equal([held.map(({ span }) => span?.offset), it.loop.arena.free], [[64, 192, 320], 128]);
  for (const one of held) one.held = true;
  const last = request(3, { prompt: 100, maxTokens: 3 });
  it.loop.add(last);
  for (let tick = 0; tick < 10 && !last.finished; tick++) await it.loop.tick();
  assert.equal([last.finished, it.loop.stats().parks], [true, 1]);
  for (const one of held) one.held = false;
  await drain(it.loop);
  await asAlone(held, () => ({ prompt: 100, maxTokens: 20 }));
});

priority('an urgent request takes the row of the last in turn, which keeps its slots and goes on later', async () => {
  for (const overlap of [false, true]) {
    const it = make({ rows: 2, chunkTokens: 64, overlap, hostSlots: 512 });
    const slow = [1, 2].map((id) => request(id, { prompt: 10, maxTokens: 40 }));
    for (const one of slow) it.loop.add(one);
    for (let tick = 0; tick < 5; tick++) await it.loop.tick();
    it.loop.add(request(3, { prompt: 20, maxTokens: 5, priority: 1 }));
    await drain(it.loop);
    assert.equal(it.finished.map(([id]) => id), [3, 1, 2]);
    assert.equal([it.loop.stats().preemptions, it.loop.stats().movedSlots], [1, 0]);
    await asAlone(slow, () => ({ prompt: 10, maxTokens: 40 }));
    assert.equal(left(it), NOTHING);
  }
});

priority('an urgent request takes memory from the last in turn, be it the last active one', async () => {
  const it = make({ rows: 2, slots: 256, hostSlots: 256, preemptBy: 'park' });
  const slow = request(1, { prompt: 120, maxTokens: 100 });
  it.loop.add(slow);
  for (let tick = 0; tick < 5; tick++) await it.loop.tick();
  it.loop.add(request(2, { prompt: 130, maxTokens: 5, priority: 3 }));
  await drain(it.loop);
  assert.equal([it.finished.map(([id]) => id), it.loop.stats().parks], [[2, 1], 1]);
  await asAlone([slow], () => ({ prompt: 120, maxTokens: 100 }));
  assert.equal(left(it), NOTHING);
});

priority('nothing is taken if all that may be taken would not do', async () => {
  const it = make({ rows: 3, slots: 256, hostSlots: 256, preemptBy: 'park' });
  it.loop.add(request(1, { prompt: 100, maxTokens: 20, priority: 3 })); // two tiles
  it.loop.add(request(2, { prompt: 60, maxTokens: 3 }));
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  it.loop.add(request(3, { prompt: 190, maxTokens: 5, priority: 3 }));
  await drain(it.loop);
  assert.equal([it.finished.map(([id]) => id), it.loop.stats().preemptions], [[2, 1, 3], 0]);
});

priority('with spans reserved nobody loses one to an urgent request, only a row', async () => {
  const it = make({ rows: 2, slots: 512, hostSlots: 512, preemptBy: 'park', admission: 'reserve' });
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 100, maxTokens: 60 }));
  for (let tick = 0; tick < 5; tick++) await it.loop.tick();
  it.loop.add(request(3, { prompt: 100, maxTokens: 100, priority: 3 })); // no memory
  await it.loop.tick();
  assert.equal([it.loop.stats().queued, it.loop.stats().preemptions], [1, 0]);
  it.loop.add(request(4, { prompt: 20, maxTokens: 20, priority: 4 }));
  await drain(it.loop);
  assert.equal([it.finished.map(([id]) => id), it.loop.stats().parks], [[4, 1, 2, 3], 0]);
});

priority('nobody gives way to an equal, nor to one that is half a level ahead', async () => {
  for (const [agingMs, preemptions] of [[10_000, 1], [50, 1], [30, 0], [10, 0]] as const) {
    const it = make({ rows: 1, agingMs });
    it.loop.add(request(1, { prompt: 10, maxTokens: 100 }));
    for (let tick = 0; tick < 20; tick++) await it.loop.tick(); // 20 ms
    it.loop.add(request(2, { prompt: 10, maxTokens: 5, priority: 1 }));
    it.loop.add(request(3, { prompt: 10, maxTokens: 5 }));
    await drain(it.loop);
    assert.is(it.loop.stats().preemptions, preemptions, `agingMs ${agingMs}`);
  }
});

priority('no tick both admits and preempts, be it for memory or for rows', async () => {
  for (const slots of [640, 4096]) {
    const it = make({ rows: 6, slots, hostSlots: 2048, preemptBy: 'park' });
    const all = Array.from({ length: 60 }, (_, id) => {
      return request(id, { prompt: 5 + ((id * 37) % 120), maxTokens: 5 + ((id * 13) % 60), priority: (id * 7) % 5 });
    });
    let [both, preempted] = [0, 0];
    for (let tick = 0; all.length > 0 || !it.loop.idle; tick++) {
      if (tick % 10 === 0) for (const one of all.splice(0, 6)) it.loop.add(one);
      if (it.loop.idle) continue;
      const { admissions, preemptions } = it.loop.admission;
      await it.loop.tick();
      const more = it.loop.admission.preemptions - preemptions;
      if (more > 0 && it.loop.admission.admissions > admissions) both++;
      preempted += more;
    }
    assert.ok(preempted > 0, `${preempted}`);
    assert.is(both, 0);
    assert.equal([it.finished.length, left(it)], [60, NOTHING]);
  }
});

priority('static takes no row from a batch that runs to completion', async () => {
  const it = make({ policy: 'static', rows: 2 });
  for (const id of [1, 2]) it.loop.add(request(id, { prompt: 10, maxTokens: 20 }));
  await it.loop.tick();
  it.loop.add(request(3, { prompt: 10, maxTokens: 5, priority: 9 }));
  await drain(it.loop);
  assert.equal([it.finished.map(([id]) => id), it.loop.stats().preemptions], [[1, 2, 3], 0]);
});

priority('a row whose reader is behind is given to anybody who can use it', async () => {
  const it = make({ rows: 1, hostSlots: 512 });
  const held = request(1, { prompt: 10, maxTokens: 20 });
  it.loop.add(held);
  await it.loop.tick();
  held.held = true;
  const other = request(2, { prompt: 10, maxTokens: 3, priority: -5 });
  it.loop.add(other);
  for (let tick = 0; tick < 8 && !other.finished; tick++) await it.loop.tick();
  assert.equal([other.finished, held.finished, it.loop.stats().movedSlots], [true, false, 0]);
  held.held = false;
  await drain(it.loop);
  await asAlone([held], () => ({ prompt: 10, maxTokens: 20 }));
});

priority('a row that is taken before it could grow has its slots when it goes on', async () => {
  const it = make({ rows: 1, hostSlots: 512, preemptBy: 'park' });
  const held = request(1, { prompt: 60, maxTokens: 20 });
  it.loop.add(held);
  while (held.length < 65) await it.loop.tick();
  assert.equal([held.computed, held.span?.capacity], [64, 64]);
  held.held = true;
  const other = request(2, { prompt: 10, maxTokens: 3 });
  it.loop.add(other);
  while (!other.finished) await it.loop.tick();
  held.held = false;
  await drain(it.loop);
  await asAlone([held], () => ({ prompt: 60, maxTokens: 20 }));
  assert.equal(left(it), NOTHING);
});

/** How long a request of priority 0 takes among urgent ones that alone keep the only row busy. */
async function among(urgent: number, given: Partial<LoopOptions>): Promise<{ waitMs: number; preemptions: number }> {
  const it = make({ rows: 1, slots: 256, hostSlots: 256, preemptBy: 'park', chunkTokens: 8, check: false, ...given });
  const low = request(0, { prompt: 30, maxTokens: 40 });
  const MOST_MS = 3000;
  let next = 1;
  for (; it.clock.ms < MOST_MS && !low.finished; ) {
    while (next <= it.clock.ms / 4 + 3) it.loop.add(request(next++, { prompt: 4, maxTokens: 4, priority: urgent }));
    if (next === 4 && low.times.queued === undefined) it.loop.add(low);
    await it.loop.tick();
  }
  const { preemptions } = it.loop.stats();
  const waitMs = low.finished ? it.clock.ms - low.times.queued! : Infinity;
  it.loop.fail(new EngineError('CLOSED', 'closed'));
  assert.equal(left(it), NOTHING);
  return { waitMs, preemptions };
}

priority('the wait of the lowest is bounded by what it ages, whatever stream of urgent requests comes', async () => {
  // It takes 40 ms itself. Who is added by 5 × agingMs goes first: 4 ms each, and they come as fast as they are served.
  for (const agingMs of [20, 50, 100]) {
    const { waitMs } = await among(5, { agingMs });
    assert.ok(waitMs <= 5 * agingMs + 4 * 4 + 40 + 8, `${waitMs} ms with agingMs ${agingMs}`);
    assert.ok(waitMs > 4 * agingMs, `${waitMs} ms with agingMs ${agingMs}: priority counts`);
  }
  assert.is((await among(5, { agingMs: 1e6 })).waitMs, Infinity); // without aging it starves
});

priority('who may pass is known: each urgent request preempts another at most once', async () => {
  const it = make({ rows: 2, slots: 512, hostSlots: 512, preemptBy: 'park', agingMs: 100 });
  const slow = [1, 2, 3].map((id) => request(id, { prompt: 20, maxTokens: 100 }));
  for (const one of slow) it.loop.add(one);
  let urgent = 0;
  for (let tick = 0; !it.loop.idle; tick++) {
    if (tick % 10 === 5 && urgent < 20) it.loop.add(request(100 + urgent++, { prompt: 8, maxTokens: 3, priority: 2 }));
    await it.loop.tick();
  }
  const { preemptions } = it.loop.stats();
  assert.ok(preemptions > 3 && preemptions <= urgent, `${preemptions} for ${urgent}`);
  await asAlone(slow, () => ({ prompt: 20, maxTokens: 100 }));
});

pause('plans no step until it is resumed; what is on its way is finished first', async () => {
  for (const overlap of [false, true]) {
    const it = make({ overlap });
    const one = request(1, { prompt: 5, maxTokens: 6 });
    it.loop.add(one);
    let quiet = false;
    it.native.during = (step) => {
      if (step === 1) void it.loop.pause().then(() => (quiet = true));
    };
    await it.loop.tick();
    await it.loop.tick();
    const ticking = it.loop.tick();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal([quiet, it.loop.stats().paused, it.loop.stats().rowsUsed], [true, true, 1]);
    assert.is(it.native.plans.length, one.generated); // every step that was taken has been given its token
    assert.ok(one.generated === 2 || (overlap && one.generated === 3), `${one.generated}`);
    it.loop.resume();
    await ticking;
    await drain(it.loop);
    assert.equal([it.loop.stats().paused, left(it)], [false, NOTHING]);
    await asAlone([one], () => ({ prompt: 5, maxTokens: 6 }));
  }
});

pause('takes, keeps and ends requests while paused', async () => {
  const it = make({ rows: 1 });
  const all = [1, 2, 3].map((id) => request(id, { prompt: 5, maxTokens: 6 }));
  it.loop.add(all[0]!);
  await it.loop.tick();
  await Promise.all([it.loop.pause(), it.loop.pause()]);
  it.loop.add(all[1]!);
  it.loop.add(all[2]!);
  await Promise.all([it.loop.tick(), new Promise((resolve) => setImmediate(() => resolve(it.loop.abort(all[0]!))))]);
  await Promise.all([it.loop.tick(), new Promise((resolve) => setImmediate(() => resolve(it.loop.abort(all[1]!))))]);
  it.loop.resume();
  it.loop.resume();
  assert.equal([it.finished, it.native.plans.length], [[[1, 'abort']], 1]);
  await drain(it.loop);
  assert.equal(it.finished, [[1, 'abort'], [2, 'abort'], [3, 'length']]);
  assert.equal(left(it), NOTHING);
});

pause('resolves when the steps end badly, when resumed, and when the loop fails', async () => {
  const broken = make({ overlap: true });
  broken.native.during = () => {
    throw new Error('gone');
  };
  broken.loop.add(request(1, { prompt: 5, maxTokens: 9 }));
  await broken.loop.tick();
  const quiet = broken.loop.pause();
  let thrown: unknown;
  await broken.loop.tick().catch((error) => (thrown = error));
  await quiet;
  assert.equal([(thrown as EngineError).message, left(broken)], ['gone', NOTHING]);
  for (const end of ['resume', 'fail'] as const) {
    const it = make({ overlap: true });
    it.loop.add(request(1, { prompt: 5, maxTokens: 9 }));
    await it.loop.tick();
    const quiet = it.loop.pause();
    if (end === 'resume') it.loop.resume();
    else it.loop.fail(new EngineError('CLOSED', 'closed'));
    await quiet;
    await drain(it.loop);
  }
});

choice.run();
preemption.run();
priority.run();
pause.run();
