import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Loop, LoopOptions } from '../../src/loop/loop.ts';
import { Request } from '../../src/loop/request.ts';
import { STEP_TERMS, type StepCoefficients, StepTime } from '../../src/loop/step-time.ts';
import { left, make, NOTHING, options, solo, type Wanted } from './fake/requests.ts';
import { LENGTHS, SETTING } from './fake/settings.ts';

const property = suite('Loop properties');

interface Life {
  readonly wanted: Wanted;
  readonly arrival: number; // tick
  readonly abort: number | null; // ticks after arrival; in a step if odd
  readonly hold: readonly [from: number, ticks: number] | null; // after arrival
}

const SLOTS = [192, 256, 320, 512, 1024];

/** Prompts that begin like others: with so many tokens of one of two texts. */
const familiar = fc
  .tuple(fc.nat({ max: 1 }), fc.integer({ min: 1, max: 160 }), fc.array(fc.nat({ max: 96 }), { maxLength: 12 }))
  .map(([text, same, own]) => [...Array.from({ length: same }, (_, i) => (i * 13 + text * 29) % 97), ...own]);

const lengths = fc.oneof(
  fc.record(LENGTHS),
  fc.record({ prompt: familiar, maxTokens: fc.integer({ min: 1, max: 20 }) }),
);

const manner = fc.record({
  seed: fc.nat({ max: 3 }),
  priority: fc.integer({ min: -1, max: 1 }),
  minTokens: fc.nat({ max: 10 }),
  stop: fc.array(fc.nat({ max: 96 }), { maxLength: 3 }),
  salt: fc.constantFrom<string[]>('', '', 'pepper'),
});

const life = fc.record({
  wanted: fc.tuple(lengths, manner).map(([length, rest]) => ({ ...length, ...rest })),
  arrival: fc.nat({ max: 60 }),
  abort: fc.option(fc.nat({ max: 80 }), { freq: 3 }),
  hold: fc.option(fc.tuple(fc.nat({ max: 40 }), fc.integer({ min: 1, max: 20 })), { freq: 2 }),
});

const setting = fc
  .record({
    ...SETTING,
    slots: fc.constantFrom(...SLOTS),
    overlap: fc.boolean(),
    rules: fc.record({ timed: fc.boolean(), lengthAware: fc.boolean(), memoryAware: fc.boolean() }),
    targetItlMs: fc.constantFrom(undefined, undefined, 0.1, 4, 20),
    known: fc.boolean(), // step times, from the first step on
    pause: fc.option(fc.tuple(fc.nat({ max: 60 }), fc.integer({ min: 1, max: 10 }))), // from tick, ticks
    prefixReuse: fc.constantFrom(true, true, true, false),
  })
  .map(({ moreTokens, ...rest }) => ({ ...rest, stepTokens: rest.rows + moreTokens }));

// Static preempts the last live row of a batch whose other rows are finished, while one who was held is in the pool.
const plain = (prompt: number, maxTokens: number, priority: number) => {
  return { prompt, maxTokens, seed: 0, priority, minTokens: 0, stop: [], salt: '' };
};
const LAST_LIVE_ROW = [
  { wanted: plain(1, 6, 0), arrival: 30, abort: null, hold: null },
  { wanted: plain(1, 1, -1), arrival: 21, abort: null, hold: [0, 10] as [number, number] },
  { wanted: plain(1, 2, 0), arrival: 37, abort: null, hold: null },
  { wanted: plain(20, 1, 1), arrival: 42, abort: null, hold: [16, 1] as [number, number] },
  { wanted: plain(5, 13, 0), arrival: 31, abort: null, hold: null },
];
const LAST_LIVE_ROW_SETTING = {
  policy: 'static' as const,
  admission: 'optimistic' as const,
  slots: 192,
  rows: 3,
  chunkTokens: 1,
  preemptEvery: 3,
  preemptBy: 'recompute' as const,
  hostSlots: 0,
  agingMs: 10_000,
  overlap: false,
  rules: { timed: false, lengthAware: false, memoryAware: false },
  targetItlMs: undefined,
  known: false,
  pause: null,
  prefixReuse: true,
  stepTokens: 3,
};

// A row is taken from whom a step on its way draws a token for, and the more urgent needs another step for its prompt.
const TAKEN_ROW = [
  { wanted: plain(1, 2, 0), arrival: 0, abort: null, hold: null },
  { wanted: plain(1, 2, 0), arrival: 0, abort: null, hold: null },
  { wanted: plain(1, 2, 0), arrival: 0, abort: null, hold: null },
  { wanted: plain(60, 1, 1), arrival: 0, abort: null, hold: null },
];
const TAKEN_ROW_SETTING = {
  ...LAST_LIVE_ROW_SETTING,
  policy: 'relay' as const,
  slots: 512,
  preemptEvery: 0,
  preemptBy: 'park' as const,
  overlap: true,
  rules: { timed: true, lengthAware: false, memoryAware: false },
  known: true,
  stepTokens: 13,
};

/** One tick; calls `sleeping` if it sleeps, which it does only when nobody can run. */
async function ticked(loop: Loop, sleeping: () => void): Promise<void> {
  let ended = false;
  const tick = loop.tick().finally(() => (ended = true));
  tick.catch(() => {}); // thrown below
  await new Promise((resolve) => setImmediate(resolve));
  if (!ended) sleeping();
  await tick;
}

const NO_TIME = Object.fromEntries(STEP_TERMS.map((term) => [term, 0])) as StepCoefficients;
const COEFFICIENTS = { ...NO_TIME, step: 2, token: 0.05, contextToken: 0.01, chunkContext: 0.001 };

interface Setting extends Partial<LoopOptions> {
  readonly slots: number;
  readonly hostSlots: number;
  readonly known: boolean;
  readonly pause: readonly [from: number, ticks: number] | null;
}

function made({ known, pause: _, ...given }: Setting) {
  return make({ ...given, ...(known ? { stepTime: StepTime.fromCoefficients(COEFFICIENTS) } : {}) });
}

async function live(lives: readonly Life[], given: Setting) {
  const { pause } = given;
  const it = made(given);
  const all = lives.map(({ wanted }, id) => new Request(id, options(id, wanted)));
  const act = (tick: number, during: boolean) => {
    if (pause !== null && tick === pause[0]) void it.loop.pause();
    if (pause !== null && tick === pause[0] + pause[1]) it.loop.resume();
    lives.forEach(({ arrival, abort, hold }, id) => {
      const request = all[id]!;
      if (tick === arrival && !during) it.loop.add(request);
      if (abort !== null && tick === arrival + abort && during === (abort % 2 === 1)) it.loop.abort(request);
      if (hold !== null && tick >= arrival && !during) {
        const held = tick >= arrival + hold[0] && tick < arrival + hold[0] + hold[1];
        if (request.held !== held) request.held = held;
      }
    });
  };
  let now = 0;
  it.native.during = () => act(now, true);
  for (; now < 200 || !it.loop.idle; now++) {
    assert.ok(now < 50_000, 'the loop does not come to an end');
    act(now, false);
    if (it.loop.idle) continue;
    const held = all.filter((request) => request.held).map((request) => ({ request, computed: request.computed }));
    await ticked(it.loop, () => {
      if (it.loop.stats().paused) return it.loop.resume();
      for (const request of it.loop.batch.rows) assert.ok(request.held || request.finished, `${request.id} could run`);
      for (const request of all) request.held = false;
    });
    for (const { request, computed } of held) {
      if (request.held) assert.ok(request.computed <= computed, `request ${request.id} has run, though held`);
    }
  }
  return { it, all };
}

property('tokens equal the solo run, whatever happens around a request, and nothing is left behind', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 16 }), setting, async (lives, given) => {
      const { it, all } = await live(lives, given);
      for (const request of all) {
        const expected = await solo(options(request.id, lives[request.id]!.wanted));
        if (request.aborted) assert.equal(request.tokens, expected.slice(0, request.tokens.length));
        else assert.equal(request.tokens, expected);
        assert.equal(it.reported.get(request.id) ?? [], request.tokens.slice(request.promptLength));
        assert.is(request.span, undefined);
      }
      assert.equal(it.finished.map(([id]) => id).sort((a, b) => a - b), all.map(({ id }) => id));
      assert.equal(left(it), NOTHING);
    }),
    { numRuns: 250, examples: [[LAST_LIVE_ROW, LAST_LIVE_ROW_SETTING]] },
  );
});

property('a failure at any step fails everybody once and leaves nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 8 }), setting, fc.nat(60), async (lives, given, at) => {
      const it = made(given);
      it.native.during = (step) => {
        if (step === at) throw new Error('gone');
      };
      lives.forEach(({ wanted }, id) => it.loop.add(new Request(id, options(id, wanted))));
      let failed = false;
      for (let tick = 0; !it.loop.idle && tick < 50_000; tick++) await it.loop.tick().catch(() => (failed = true));
      assert.is(failed, it.native.plans.length > at);
      assert.equal(it.finished.map(([id]) => id).sort((a, b) => a - b), lives.map((_, id) => id));
      assert.equal(left(it), NOTHING);
    }),
    { numRuns: 100 },
  );
});

property('relay leaves no row empty while somebody is ready for it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 16 }), setting, async (lives, given) => {
      const it = made({ ...given, policy: 'relay', targetItlMs: undefined });
      it.native.during = () => {
        const { batch, pool } = it.loop;
        const left = given.stepTokens - it.native.plans.at(-1)!.tokens;
        if (batch.free > 0 && left > 0) assert.is(pool.ready, 0);
      };
      lives.forEach(({ wanted }, id) => it.loop.add(new Request(id, options(id, wanted))));
      while (!it.loop.idle) await it.loop.tick();
    }),
    { numRuns: 100, examples: [[TAKEN_ROW, TAKEN_ROW_SETTING]] },
  );
});

property.run();
