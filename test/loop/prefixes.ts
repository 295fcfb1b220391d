import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import type { Request } from '../../src/loop/request.ts';
import { drain, type Made, make, options, request, solo, type Wanted } from './fake/requests.ts';

const prefixes = suite('Prefixes');

const text = (length: number, from = 0) => Array.from({ length }, (_, i) => ((from + i) * 13 + ((from + i) >> 3)) % 97);

function add(it: Made, id: number, wanted: Wanted): Request {
  const one = request(id, wanted);
  it.loop.add(one);
  return one;
}

/** Runs one request to its end. */
async function run(it: Made, id: number, wanted: Wanted): Promise<Request> {
  const one = add(it, id, wanted);
  await drain(it.loop);
  assert.equal(one.tokens, await solo(options(id, wanted)));
  return one;
}

/** Prompt tokens that were computed, by all steps. */
const computed = ({ loop }: Made) => loop.stats().tokens.prompt;

prefixes('copies what a finished request has computed of the prompt, to the token', async () => {
  const it = make();
  await run(it, 1, { prompt: [...text(150), 5], maxTokens: 4 });
  const second = await run(it, 2, { prompt: [...text(150), 6, 7], maxTokens: 4 });
  assert.equal([second.cachedTokens, computed(it), it.loop.stats().tokens.cached], [150, 151 + 2, 150]);
  assert.equal(it.native.plans[4]?.moves.map(([, , slots]) => slots), [150]);
});

prefixes('copies output as well as prompt: the next turn of a conversation computes only what is new', async () => {
  const it = make();
  const first = await run(it, 1, { prompt: text(40), maxTokens: 60 });
  const second = await run(it, 2, { prompt: [...first.tokens, 1, 2, 3], maxTokens: 4 });
  assert.is(second.cachedTokens, 99); // the last token was drawn, and never computed
  assert.is(computed(it), 40 + 4);
});

prefixes('copies all but the last token of the same prompt, however short', async () => {
  const it = make();
  for (const [id, length] of [30, 64, 65, 129].entries()) {
    await run(it, 2 * id, { prompt: text(length, 1000 * id), maxTokens: 2 });
    const same = await run(it, 2 * id + 1, { prompt: text(length, 1000 * id), maxTokens: 2 });
    assert.is(same.cachedTokens, length - 1);
  }
});

prefixes('takes over the place of what it begins with, and moves nothing', async () => {
  const it = make({ slots: 192 });
  const first = await run(it, 1, { prompt: text(100), maxTokens: 60 });
  const second = await run(it, 2, { prompt: [...first.tokens, 1], maxTokens: 31 });
  const { movedSlots, arena } = it.loop.stats();
  assert.equal([second.cachedTokens, movedSlots, arena.cached], [159, 0, 191]);
});

prefixes('takes that place rather than another’s, even if it was left last', async () => {
  const it = make({ slots: 384 });
  const all = [];
  for (const id of [1, 2]) all.push(await run(it, id, { prompt: text(100, 500 * id), maxTokens: 60 }));
  await run(it, 3, { prompt: [...all[1]!.tokens, 1], maxTokens: 31 });
  assert.is((await run(it, 4, { prompt: [...all[0]!.tokens, 1], maxTokens: 31 })).cachedTokens, 159);
});

prefixes('forgets what a request begins with, once that has a copy of all of it', async () => {
  const it = make();
  const first = await run(it, 1, { prompt: text(100), maxTokens: 2 });
  await run(it, 2, { prompt: [...first.tokens, 1, 2, 3], maxTokens: 2 });
  assert.is(it.loop.stats().arena.cached, 106);
});

prefixes('copies from the longest of several', async () => {
  const it = make();
  await run(it, 1, { prompt: text(100), maxTokens: 1 });
  await run(it, 2, { prompt: [...text(200), 1, 2], maxTokens: 1 });
  await run(it, 3, { prompt: [...text(150), 1, 2], maxTokens: 1 });
  assert.is((await run(it, 4, { prompt: text(250), maxTokens: 1 })).cachedTokens, 200);
});

prefixes('copies from a request that is decoding', async () => {
  const it = make();
  const first = add(it, 1, { prompt: text(100), maxTokens: 50 });
  for (let tick = 0; tick < 20; tick++) await it.loop.tick();
  const second = add(it, 2, { prompt: [...text(100), 3, 4], maxTokens: 5 });
  await drain(it.loop);
  assert.is(second.cachedTokens, 100);
  assert.equal(first.tokens, await solo(options(1, { prompt: text(100), maxTokens: 50 })));
});

for (const policy of ['relay', 'static'] as const) {
  for (const overlap of [false, true]) {
    prefixes(`${policy}${overlap ? ', overlapping' : ''}: requests made together compute a prompt once`, async () => {
      const it = make({ policy, overlap, rows: 8 });
      const all = Array.from({ length: 8 }, (_, id) => add(it, id, { prompt: text(120), maxTokens: 6, seed: id }));
      await drain(it.loop);
      for (const one of all) {
        assert.equal(one.tokens, await solo(options(one.id, { prompt: text(120), maxTokens: 6, seed: one.id })));
      }
      assert.equal([computed(it), it.loop.stats().tokens.cached], [120 + 7, 7 * 119]);
      assert.equal(all.map(({ cachedTokens }) => cachedTokens), [0, ...Array.from({ length: 7 }, () => 119)]);
    });
  }
}

prefixes('waits for a system prompt in chunks, no longer than it takes', async () => {
  const it = make({ rows: 4, stepTokens: 64 });
  const all = [0, 1, 2].map((id) => add(it, id, { prompt: [...text(150), id, id], maxTokens: 3 }));
  for (let tick = 0; tick < 3; tick++) await it.loop.tick();
  assert.equal(all.map(({ following }) => following), [false, true, false]); // the third is in the queue
  await drain(it.loop);
  assert.equal(all.map(({ cachedTokens }) => cachedTokens), [0, 150, 150]);
  assert.is(computed(it), 152 + 2 + 2);
  assert.is(it.native.plans.findIndex(({ rows }) => rows.length === 3), 3); // the first has its row in the step before
});

prefixes('does not wait for what is computed sooner than waited for', async () => {
  const it = make({ rows: 4 });
  for (let id = 0; id < 4; id++) add(it, id, { prompt: text(16), maxTokens: 2, seed: id });
  await it.loop.tick();
  assert.equal([it.native.plans[0]?.rows.length, computed(it)], [4, 64]);
  await drain(it.loop);
});

prefixes('does not wait for the last token of a prompt, which waits for a row', async () => {
  const it = make({ rows: 1, stepTokens: 64, chunkTokens: 60 });
  const [busy, , third] = [
    add(it, 1, { prompt: text(5, 900), maxTokens: 30 }),
    add(it, 2, { prompt: text(100), maxTokens: 3 }),
    add(it, 3, { prompt: [...text(100), 7, 8], maxTokens: 3 }),
  ];
  for (let tick = 0; tick < 8; tick++) await it.loop.tick();
  assert.equal([busy.finished, third.following, third.computed], [false, false, 101]);
  await drain(it.loop);
});

prefixes('waits for who waits: equal prompts are computed once, whoever else begins like them', async () => {
  const it = make({ rows: 4, stepTokens: 150 });
  const [, second, third] = [
    add(it, 1, { prompt: [...text(200), 1], maxTokens: 3 }),
    add(it, 2, { prompt: [...text(180), ...text(120, 700)], maxTokens: 3 }),
    add(it, 3, { prompt: [...text(180), ...text(120, 700)], maxTokens: 3, seed: 9 }),
  ];
  await it.loop.tick();
  for (const one of [second, third]) if (one.span === undefined) assert.is(it.loop.admission.admit(), one);
  assert.equal([second.following, third.following], [true, true]);
  await drain(it.loop);
  assert.equal([second.cachedTokens, third.cachedTokens], [180, 299]);
});

prefixes('counts who waits for a prefix as waiting for a row', async () => {
  const it = make({ rows: 2 });
  for (let id = 0; id < 2; id++) add(it, id, { prompt: text(100), maxTokens: 3, seed: id });
  await drain(it.loop);
  assert.is(it.loop.stats().idle.emptyRows, 1);
});

prefixes('nobody waits for a request of a lower priority, or for one that is held', async () => {
  for (const spoil of ['priority', 'held'] as const) {
    const it = make({ rows: 1, stepTokens: 32 });
    const first = add(it, 1, { prompt: text(100), maxTokens: 2 });
    await it.loop.tick();
    if (spoil === 'held') first.held = true;
    const second = add(it, 2, { prompt: text(100), maxTokens: 2, seed: 1, priority: spoil === 'priority' ? 1 : 0 });
    assert.is(it.loop.admission.admit(), second);
    assert.equal([second.following, second.computed], [false, 32]);
    first.held = false;
    await drain(it.loop);
  }
});

for (const [how, end] of [
  ['is aborted', (it: Made, one: Request) => it.loop.abort(one)],
  ['is preempted', (it: Made, one: Request) => it.loop.admission.preempt(one)],
  ['is held', (_: Made, one: Request) => void (one.held = true)],
] as const) {
  prefixes(`who waits goes on by itself when the other ${how}`, async () => {
    const it = make({ rows: 4, stepTokens: 32 });
    const [first, second] = [0, 1].map((id) => add(it, id, { prompt: text(100), maxTokens: 2, seed: id }));
    await it.loop.tick();
    await it.loop.tick();
    it.loop.admission.admit();
    assert.ok(second!.following);
    end(it, first!);
    await it.loop.tick();
    assert.is(second!.following, false);
    assert.ok(second!.computed >= 32);
    first!.held = false;
    await drain(it.loop);
    assert.equal(second!.tokens, await solo(options(1, { prompt: text(100), maxTokens: 2, seed: 1 })));
  });
}

prefixes('a preempted request finds what it had computed, if nobody needed the slots', async () => {
  const it = make({ rows: 2 });
  const one = add(it, 1, { prompt: text(70), maxTokens: 30 });
  for (let tick = 0; tick < 10; tick++) await it.loop.tick();
  it.loop.admission.preempt(one);
  const planned = () => it.native.plans.reduce((sum, { tokens }) => sum + tokens, 0);
  const before = planned();
  await drain(it.loop);
  assert.is(planned() - before, 20); // a token for each that is drawn
  assert.equal(one.tokens, await solo(options(1, { prompt: text(70), maxTokens: 30 })));
  assert.equal([one.cachedTokens, it.loop.stats().tokens.cached], [0, 0]); // its own is no hit
});

prefixes('shares nothing between salts, and what has the same salt', async () => {
  const it = make();
  await run(it, 1, { prompt: text(100), maxTokens: 2, salt: 'a' });
  assert.is((await run(it, 2, { prompt: text(100), maxTokens: 2 })).cachedTokens, 0);
  assert.is((await run(it, 3, { prompt: text(100), maxTokens: 2, salt: 'b' })).cachedTokens, 0);
  assert.is((await run(it, 4, { prompt: text(100), maxTokens: 2, salt: 'a' })).cachedTokens, 99);
});

prefixes('compares tokens and salts, whatever the keys say', async () => {
  const imul = Math.imul;
  Math.imul = () => 0; // every key is equal
  try {
    const it = make();
    await run(it, 1, { prompt: text(200), maxTokens: 2 });
    assert.is((await run(it, 2, { prompt: [...text(70), 1, ...text(129, 71)], maxTokens: 2 })).cachedTokens, 70);
    assert.is((await run(it, 3, { prompt: text(200), maxTokens: 2, salt: 'a' })).cachedTokens, 0);
    it.loop.prefixes?.clear();
    assert.is(it.loop.stats().arena.cached, 0);
  } finally {
    Math.imul = imul;
  }
});

prefixes('keeps nothing of a request that failed', async () => {
  const it = make();
  it.native.broken = (seed) => seed === 1;
  add(it, 1, { prompt: text(100), maxTokens: 2 });
  await drain(it.loop);
  assert.equal([it.finished, it.loop.stats().arena.cached], [[[1, 'error']], 0]);
});

prefixes('keeps what an aborted request has computed', async () => {
  const it = make({ overlap: true });
  const one = add(it, 1, { prompt: text(100), maxTokens: 20 });
  for (let tick = 0; tick < 5; tick++) await it.loop.tick();
  it.loop.abort(one);
  await drain(it.loop);
  assert.is((await run(it, 2, { prompt: [...text(100), 9], maxTokens: 2 })).cachedTokens, 100);
});

prefixes('keeps no slot whose token nobody has been told', async () => {
  const it = make({ overlap: true });
  const one = add(it, 1, { prompt: text(100), maxTokens: 50 });
  it.native.during = (step) => void (step === 9 && it.loop.abort(one));
  await drain(it.loop);
  assert.ok(one.aborted);
  assert.is(it.loop.stats().arena.cached, one.tokens.length);
});

prefixes('what is kept is free: it is given up before anybody waits, the latest last', async () => {
  const it = make({ slots: 512, rows: 1 });
  for (const id of [1, 2, 3]) await run(it, id, { prompt: text(120, 200 * id), maxTokens: 8 });
  assert.equal([it.loop.stats().arena.free, it.loop.stats().arena.cached], [512, 3 * 127]);
  await run(it, 4, { prompt: text(200, 800), maxTokens: 50 }); // could also have the free place, and that of the third
  const cached: number[] = [];
  for (const id of [3, 2, 1]) {
    const one = add(it, 10 + id, { prompt: text(120, 200 * id), maxTokens: 1 });
    await drain(it.loop);
    cached.push(one.cachedTokens);
  }
  assert.equal(cached, [119, 0, 0]);
  assert.equal([it.loop.stats().preemptions, await full(it)], [0, 512]);
});

/** A request as large as the arena runs at once. */
async function full(it: Made): Promise<number> {
  const { slots } = it.loop.arena;
  const one = add(it, 99, { prompt: text(slots - 1, 5000), maxTokens: 1 });
  await it.loop.tick();
  assert.ok(one.computed > 0);
  await drain(it.loop);
  return one.tokens.length;
}

prefixes('does nothing when it is off', async () => {
  const it = make({ prefixReuse: false });
  await run(it, 1, { prompt: text(100), maxTokens: 2 });
  assert.is((await run(it, 2, { prompt: text(100), maxTokens: 2 })).cachedTokens, 0);
  assert.equal([it.loop.prefixes, it.loop.stats().arena.cached, it.loop.stats().movedSlots], [undefined, 0, 0]);
});

prefixes('forgets everything when the loop fails, and when told to', async () => {
  const it = make();
  await run(it, 1, { prompt: text(100), maxTokens: 2 });
  it.loop.prefixes?.clear();
  assert.is(it.loop.stats().arena.cached, 0);
  assert.is((await run(it, 2, { prompt: text(100), maxTokens: 2 })).cachedTokens, 0);
  add(it, 3, { prompt: text(100), maxTokens: 2 });
  await it.loop.tick();
  it.loop.fail(new EngineError('DEVICE_LOST', 'gone'));
  assert.equal([it.loop.stats().arena.cached, it.loop.arena.free], [0, it.loop.arena.slots]);
});

prefixes.run();
