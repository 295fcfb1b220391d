import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Request } from '../../../src/loop/request.ts';
import { drain, type Made, make, options, request, solo } from '../fake/requests.ts';

const batonPd = suite('BatonPd');

async function assertSolo(it: Made, all: readonly Request[]): Promise<void> {
  await drain(it.loop);
  for (const one of all) {
    assert.equal(one.tokens, await solo(options(one.id, { prompt: one.promptLength, maxTokens: one.maxTokens })));
  }
  assert.is(it.loop.arena.free, it.loop.arena.slots);
}

batonPd('computes prompts alone while the rows stall, and every row enters with exactly one token', async () => {
  const it = make({ policy: 'baton-pd', rows: 2 });
  const all = [request(1, { prompt: 5, maxTokens: 6 }), request(2, { prompt: 4, maxTokens: 3 })];
  it.loop.add(all[0]!);
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  it.loop.add(all[1]!);
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  assert.equal(it.native.plans.map(({ runs }) => runs), [
    [[-1, 0, 4]],
    [[0, 4, 1]],
    [[-1, 0, 3]], // the row stalls
    [[0, 5, 1], [1, 3, 1]],
  ]);
  const { padTokens, stallMs, emptyRows, share } = it.loop.stats().idle;
  assert.equal([padTokens, stallMs, emptyRows], [0, 1, 2]); // the first had no row in its step, nor had the second
  assert.is(share, 3 / 6);
  await assertSolo(it, all);
});

batonPd('embeds by copy, behind masked slots', async () => {
  const it = make({ policy: 'baton-pd', rows: 2, slots: 1024 });
  it.loop.add(request(1, { prompt: 30, maxTokens: 6 }));
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  assert.equal(it.native.plans[1]?.moves, [[960, 0, 29]]);
  it.loop.add(request(2, { prompt: 4, maxTokens: 3 }));
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  assert.equal(it.native.plans[3]?.moves, [[0, 64, 30], [960, 128 + 27, 3]]); // the old row is copied with it
  assert.equal(it.loop.stats().arena, { slots: 1024, used: 35, padding: 128 - 35, free: 896, peak: 256, cached: 0 });
});

batonPd('fills the pool when it has run dry: for all free rows and a quarter of all', async () => {
  const it = make({ policy: 'baton-pd', rows: 8 });
  for (let id = 0; id < 20; id++) it.loop.add(request(id, { prompt: 4, maxTokens: id === 0 ? 2 : 4 }));
  await it.loop.tick();
  assert.is(it.loop.stats().pooled, 10);
  await it.loop.tick();
  assert.equal([it.loop.stats().pooled, it.loop.stats().rowsUsed], [2, 8]);
  const { steps } = it.loop.stats();
  for (let tick = 0; tick < 2; tick++) await it.loop.tick();
  assert.equal([it.loop.stats().pooled, it.loop.stats().rowsUsed], [1, 8]); // the row that 0 left is taken at once
  assert.is(it.native.plans.slice(steps).filter(({ chunkTokens }) => chunkTokens > 0).length, 0);
});

batonPd('takes no more prompts at once than go into a step, but for the last', async () => {
  const it = make({ policy: 'baton-pd', rows: 8, stepTokens: 32 });
  for (let id = 0; id < 8; id++) it.loop.add(request(id, { prompt: 15, maxTokens: 4 }));
  await it.loop.tick();
  assert.equal([it.loop.stats().pooled, it.native.plans[0]?.runs], [3, [[-1, 0, 14], [-1, 0, 14], [-1, 0, 4]]]);
});

batonPd('what is prefilled waits while the layout has no room for it, and gets the row of who leaves', async () => {
  const it = make({ policy: 'baton-pd', rows: 2, slots: 256, admission: 'reserve' });
  const all = [1, 2].map((id) => request(id, { prompt: 60, maxTokens: 60 }));
  for (const one of all) it.loop.add(one);
  for (let tick = 0; tick < 6; tick++) await it.loop.tick();
  assert.equal([it.loop.stats().rowsUsed, it.loop.stats().pooled], [1, 1]);
  await assertSolo(it, all);
  assert.is(it.loop.stats().preemptions, 0);
});

batonPd('a row that is alone grows over the whole arena, whoever waits in the pool', async () => {
  const it = make({ policy: 'baton-pd', rows: 2, slots: 320 });
  const all = [request(1, { prompt: 10, maxTokens: 310 }), request(2, { prompt: 100, maxTokens: 20 })];
  for (const one of all) it.loop.add(one);
  await assertSolo(it, all);
  assert.is(it.loop.stats().arena.peak, 320);
});

batonPd.run();
