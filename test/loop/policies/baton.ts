import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Request } from '../../../src/loop/request.ts';
import { drain, type Made, make, options, request, solo } from '../fake/requests.ts';

const baton = suite('Baton');

async function assertSolo(it: Made, all: readonly Request[]): Promise<void> {
  await drain(it.loop);
  for (const one of all) {
    assert.equal(one.tokens, await solo(options(one.id, { prompt: one.promptLength, maxTokens: one.maxTokens })));
  }
  assert.is(it.loop.arena.free, it.loop.arena.slots);
}

baton('every row enters with as many tokens as the inserted prompt has, all but one of them padding', async () => {
  const it = make({ policy: 'baton', rows: 3 });
  const all = [request(1, { prompt: 4, maxTokens: 6 }), request(2, { prompt: 2, maxTokens: 6 })];
  for (const one of all) it.loop.add(one);
  await it.loop.tick();
  all.push(request(3, { prompt: 5, maxTokens: 2 }));
  it.loop.add(all[2]!);
  await it.loop.tick();
  assert.equal(it.native.plans.map(({ runs }) => runs), [
    [[0, 0, 4], [-1, 0, 2], [1, 0, 2]], // inserted together: the shorter prompt is padded to the longer one
    [[-1, 0, 4], [0, 4, 1], [-1, 0, 4], [1, 2, 1], [2, 0, 5]], // 2 rows × (5 − 1)
  ]);
  await it.loop.tick();
  assert.equal(it.native.plans[2]?.runs, [[0, 5, 1], [1, 3, 1], [2, 5, 1]]);
  const { padTokens, stallMs, wastedMs, rowMs, padKv } = it.loop.stats().idle;
  assert.equal([padTokens, stallMs, padKv], [2 + 8, 0, 0]);
  assert.equal([wastedMs.pad, rowMs], [2 * (2 / 8) + 3 * (8 / 15), 2 + 3 + 3]);
  await assertSolo(it, all);
});

baton('an insertion copies the whole batch, and so does a removal', async () => {
  const it = make({ policy: 'baton', rows: 3 });
  const all = [request(1, { prompt: 10, maxTokens: 4 }), request(2, { prompt: 20, maxTokens: 2 })];
  it.loop.add(all[0]!);
  await it.loop.tick();
  it.loop.add(all[1]!);
  await it.loop.tick();
  assert.equal([it.native.plans[1]?.moves, it.loop.stats().movedSlots], [[[0, 64 + 9, 10]], 10]);
  await it.loop.tick();
  assert.is(it.loop.stats().movedSlots, 10);
  await it.loop.tick();
  assert.equal(it.native.plans[3]?.moves, [[64 + 9, 0, 12]]); // 9 columns are dropped
  assert.is(it.loop.stats().movedSlots, 10 + 12);
  await assertSolo(it, all);
});

baton('the layout is padded to its longest row', async () => {
  const it = make({ policy: 'baton', rows: 3 });
  for (const [id, prompt] of [70, 3, 30].entries()) it.loop.add(request(id, { prompt, maxTokens: 2 }));
  await it.loop.tick();
  assert.equal(it.loop.batch.rows.map(({ span }) => [span?.offset, span?.capacity, span?.masked]), [
    [0, 128, 0],
    [128, 128, 67],
    [256, 128, 40],
  ]);
  assert.equal(it.loop.stats().arena, { slots: 4096, used: 103, padding: 384 - 103, free: 4096 - 384, peak: 384, cached: 0 });
});

baton('columns that do not fit in a step are computed in several; old rows stall until the last', async () => {
  const it = make({ policy: 'baton', rows: 2, stepTokens: 8 });
  const all = [request(1, { prompt: 2, maxTokens: 6 }), request(2, { prompt: 10, maxTokens: 2 })];
  it.loop.add(all[0]!);
  await it.loop.tick();
  it.loop.add(all[1]!);
  for (let tick = 0; tick < 3; tick++) await it.loop.tick();
  assert.equal(it.native.plans.slice(1).map(({ runs }) => runs), [
    [[-1, 0, 4], [-1, 0, 4]],
    [[-1, 0, 4], [-1, 4, 4]],
    [[-1, 0, 1], [0, 2, 1], [1, 8, 2]],
  ]);
  const { padTokens, stallMs, wastedMs, emptyRows } = it.loop.stats().idle;
  assert.equal([padTokens, stallMs, emptyRows, wastedMs.pad], [9, 2, 2, 2 * (1 / 4)]); // a stall is not counted twice
  await assertSolo(it, all);
});

baton('nobody joins an insertion under way', async () => {
  const it = make({ policy: 'baton', rows: 3, stepTokens: 8 });
  const all = [request(1, { prompt: 20, maxTokens: 2 }), request(2, { prompt: 5, maxTokens: 2 })];
  it.loop.add(all[0]!);
  await it.loop.tick();
  it.loop.add(all[1]!);
  await it.loop.tick();
  assert.equal([it.loop.stats().queued, it.native.plans[1]?.runs], [1, [[-1, 8, 8]]]);
  await assertSolo(it, all);
});

baton('padding that finds few slots takes more steps', async () => {
  const it = make({ policy: 'baton', rows: 2, slots: 320, admission: 'reserve' });
  const all = [request(1, { prompt: 120, maxTokens: 6 }), request(2, { prompt: 120, maxTokens: 7 })];
  it.loop.add(all[0]!);
  await it.loop.tick();
  it.loop.add(all[1]!);
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  assert.equal(it.native.plans.slice(1).map(({ runs }) => runs), [
    [[-1, 0, 64], [-1, 0, 64]], // the slots that the layout leaves
    [[-1, 0, 55], [0, 120, 1], [1, 64, 56]],
  ]);
  await assertSolo(it, all);
});

baton('where padding finds no slots the insertion waits until a row has left', async () => {
  const it = make({ policy: 'baton', rows: 2, slots: 256, admission: 'reserve' });
  const all = [request(1, { prompt: 120, maxTokens: 8 }), request(2, { prompt: 110, maxTokens: 7 })];
  it.loop.add(all[0]!);
  await it.loop.tick();
  it.loop.add(all[1]!);
  await it.loop.tick();
  assert.equal([it.loop.stats().pooled, it.native.plans[1]?.runs], [1, [[0, 120, 1]]]);
  await assertSolo(it, all);
  assert.equal([it.loop.stats().idle.padTokens, it.finished.map(([id]) => id)], [0, [1, 2]]);
});

baton('who was held in an insertion goes on alone if padding for the others finds no slots', async () => {
  const it = make({ policy: 'baton', rows: 2, slots: 128, stepTokens: 20, admission: 'reserve' });
  const all = [1, 2].map((id) => request(id, { prompt: 60, maxTokens: 4 }));
  for (const one of all) it.loop.add(one);
  await it.loop.tick();
  all[0]!.held = true;
  await it.loop.tick();
  all[0]!.held = false;
  assert.equal(all.map(({ computed }) => computed), [10, 30]);
  await it.loop.tick();
  assert.equal(it.native.plans[2]?.runs, [[-1, 10, 20]]);
  await assertSolo(it, all);
});

baton('who is held enters with nothing, not even padding', async () => {
  const it = make({ policy: 'baton', rows: 2 });
  const all = [request(1, { prompt: 4, maxTokens: 6 }), request(2, { prompt: 30, maxTokens: 4 })];
  it.loop.add(all[0]!);
  await it.loop.tick();
  all[0]!.held = true;
  it.loop.add(all[1]!);
  await it.loop.tick();
  assert.equal(it.native.plans[1]?.runs, [[1, 0, 30]]);
  all[0]!.held = false;
  await assertSolo(it, all);
});

baton('a prompt computed again after a preemption is padded for again', async () => {
  const it = make({ policy: 'baton', rows: 2, preemptEvery: 4 });
  const all = [1, 2].map((id) => request(id, { prompt: 5, maxTokens: 6 }));
  for (const one of all) it.loop.add(one);
  while (it.loop.stats().preemptions === 0) await it.loop.tick();
  await it.loop.tick();
  assert.equal(it.native.plans.at(-1)?.runs, [[-1, 0, 7], [0, 8, 1], [1, 0, 8]]);
  await assertSolo(it, all);
});

baton.run();
