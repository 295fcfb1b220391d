import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { drain, make, options, request, solo } from '../fake/requests.ts';

const orca = suite('Orca');

orca('computes the whole prompt of who gets a row in the same step as the tokens of the others', async () => {
  const it = make({ policy: 'orca', rows: 2 });
  it.loop.add(request(1, { prompt: 3, maxTokens: 4 }));
  await it.loop.tick();
  it.loop.add(request(2, { prompt: 40, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.native.plans.map(({ runs }) => runs), [
    [[0, 0, 3]],
    [[0, 3, 1], [1, 0, 40]],
    [[0, 4, 1], [1, 40, 1]],
    [[0, 5, 1]],
  ]);
  const { padTokens, emptyRows, stallMs, share } = it.loop.stats().idle;
  assert.equal([padTokens, emptyRows, stallMs, share], [0, 0, 0, 0]);
});

orca('admits as many as there are free rows, and nobody ahead of need', async () => {
  const it = make({ policy: 'orca', rows: 2 });
  for (const id of [1, 2, 3]) it.loop.add(request(id, { prompt: 5, maxTokens: 3 }));
  await it.loop.tick();
  const { queued, pooled, rowsUsed } = it.loop.stats();
  assert.equal([queued, pooled, rowsUsed], [1, 0, 2]);
});

orca('a prompt that does not fit beside earlier ones waits for the next step, and nobody overtakes it', async () => {
  const it = make({ policy: 'orca', rows: 4, stepTokens: 24 });
  for (const [id, prompt] of [4, 20, 18, 2].entries()) it.loop.add(request(id, { prompt, maxTokens: 1 }));
  await drain(it.loop);
  assert.equal(it.native.plans.map(({ runs }) => runs), [
    [[0, 0, 4], [1, 0, 20]],
    [[0, 0, 18], [1, 0, 2]],
  ]);
});

orca('a prompt that fits no step is computed in as many as it needs', async () => {
  const it = make({ policy: 'orca', rows: 2, stepTokens: 16 });
  it.loop.add(request(1, { prompt: 2, maxTokens: 6 }));
  await it.loop.tick();
  it.loop.add(request(2, { prompt: 40, maxTokens: 2 }));
  await drain(it.loop);
  assert.equal(it.native.plans.slice(0, 4).map(({ runs }) => runs), [
    [[0, 0, 2]],
    [[0, 2, 1], [-1, 0, 15]],
    [[0, 3, 1], [-1, 15, 15]],
    [[0, 4, 1], [1, 30, 10]],
  ]);
  assert.equal(it.reported.get(2), (await solo(options(2, { prompt: 40, maxTokens: 2 }))).slice(40));
});

orca('plans nothing for who is held before it gets its row', async () => {
  const it = make({ policy: 'orca', rows: 2, stepTokens: 16 });
  const held = request(1, { prompt: 30, maxTokens: 2 });
  it.loop.add(held);
  await it.loop.tick();
  held.held = true;
  it.loop.add(request(2, { prompt: 3, maxTokens: 2 }));
  await it.loop.tick();
  assert.equal([held.computed, it.native.plans.at(-1)?.runs], [16, [[0, 0, 3]]]);
  held.held = false;
  await drain(it.loop);
  assert.is(it.finished.length, 2);
});

orca.run();
