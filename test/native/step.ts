// step(): what a plan does, and how its arrays are used.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DRAWN, GREEDY } from '../../src/native.ts';
import { loadTales, makePlan, makeResult, start } from './fake/tales.ts';

const step = suite('step');

const PROMPT = [0, 1415, 327, 574, 260, 501, 406, 311, 260];

step('keeps what a row without a run had', async () => {
  const engine = await loadTales();
  const result = makeResult();
  result.sampled.fill(-7);
  result.logprobs.fill(-7);
  result.topTokens.fill(-7);
  await engine.step(makePlan({ starts: [start(2, PROMPT)], runs: [[2, 0, 0, 0, 9]], tokens: PROMPT }), result);
  const [a, b, c, d] = result.sampled;
  assert.equal([a, b, d], [-7, -7, -7]);
  assert.is(c, 632);
  assert.equal([...result.logprobs].filter((value) => value === -7).length, 3);
  assert.is(result.topTokens.indexOf(-7, 40), 60);
  await engine.close();
});

step('samples more rows than have logits at one time, each as if alone', async () => {
  const rows = 150;
  const engine = await loadTales({ rows, slots: rows * 64, stepTokens: 2 * rows, weights: 'f32' });
  const runs = Array.from({ length: rows }, (_, row) => [row, 64 * row, 0, 0, 2]);
  const tokens = runs.flatMap(([row]) => [0, 3 + row! * 7]);
  const starts = runs.map(([row]) => start(row!, tokens.slice(2 * row!, 2 * row! + 2)));
  const together = makeResult(rows);
  await engine.step(makePlan({ starts, runs, tokens }), together);
  const alone = makeResult(rows);
  for (const row of [0, 1, 63, 64, 65, 127, 128, 149]) {
    const own = tokens.slice(2 * row, 2 * row + 2);
    await engine.step(makePlan({ starts: [starts[row]!], runs: [runs[row]!], tokens: own }), alone);
    assert.is(together.sampled[row], alone.sampled[row], `row ${row}`);
    assert.is(together.logprobs[row], alone.logprobs[row], `row ${row}`);
  }
  assert.ok(new Set(together.sampled).size > 5, 'the rows are not all alike');
  await engine.close();
});

step('feeds a drawn token back, also to a row that moved, before the host has seen it', async () => {
  const engine = await loadTales();
  const sampling = { ...GREEDY, temperature: 1, seed: 5 };
  const begin = makePlan({ starts: [start(0, PROMPT, sampling)], runs: [[0, 0, 0, 0, 9]], tokens: PROMPT });
  const results = [makeResult(), makeResult(), makeResult()] as const;
  await Promise.all([
    engine.step(begin, results[0]),
    engine.step(makePlan({ runs: [[0, 0, 0, 9, 1]], tokens: [DRAWN] }), results[1]),
    engine.step(makePlan({ rowMoves: [[0, 3]], runs: [[3, 0, 0, 10, 1]], tokens: [DRAWN] }), results[2]),
  ]);
  const seen = makeResult();
  await engine.step(begin, seen);
  assert.is(results[0].sampled[0], seen.sampled[0]);
  await engine.step(makePlan({ runs: [[0, 0, 0, 9, 1]], tokens: [seen.sampled[0]!] }), seen);
  assert.is(results[1].logprobs[0], seen.logprobs[0]);
  await engine.step(makePlan({ runs: [[0, 0, 0, 10, 1]], tokens: [seen.sampled[0]!] }), seen);
  assert.is(results[2].sampled[3], seen.sampled[0]);
  assert.is(results[2].logprobs[3], seen.logprobs[0]);
  const fresh = makePlan({ starts: [start(0, PROMPT)], runs: [[0, 0, 0, 9, 1]], tokens: [DRAWN] });
  const error = await engine.step(fresh, seen).catch((cause: Error) => cause);
  assert.match(String(error), /row 0 to have drawn/);
  await engine.close();
});

step('computes chunks without sampling them, and continues behind masked slots', async () => {
  const engine = await loadTales();
  const whole = makeResult();
  await engine.step(makePlan({ starts: [start(0, PROMPT)], runs: [[0, 0, 0, 0, 9]], tokens: PROMPT }), whole);
  const chunked = makeResult();
  await engine.step(makePlan({ runs: [[-1, 64, 5, 0, 4]], tokens: PROMPT.slice(0, 4) }), chunked);
  assert.is(chunked.sampled[0], 0);
  await engine.step(
    makePlan({ starts: [start(0, PROMPT)], runs: [[0, 64, 5, 4, 5]], tokens: PROMPT.slice(4) }),
    chunked,
  );
  assert.is(chunked.sampled[0], whole.sampled[0]);
  assert.is(chunked.logprobs[0], whole.logprobs[0]);
  await engine.close();
});

step('moves keys and values before it computes, with runs and without', async () => {
  const engine = await loadTales();
  const expected = makeResult();
  const next = { runs: [[0, 0, 0, 9, 1]], tokens: [632] };
  await engine.step(makePlan({ starts: [start(0, PROMPT)], runs: [[0, 0, 0, 0, 9]], tokens: PROMPT }), expected);
  await engine.step(makePlan(next), expected);
  const result = makeResult();
  await engine.step(makePlan({ moves: [[0, 256, 9]] }), result);
  await engine.step(makePlan({ moves: [[256, 130, 9]], runs: [[0, 128, 2, 9, 1]], tokens: [632] }), result);
  assert.is(result.sampled[0], expected.sampled[0]);
  assert.is(result.logprobs[0], expected.logprobs[0]);
  await engine.close();
});

step('parks keys and values in host memory, and brings them back to other slots', async () => {
  const engine = await loadTales({ hostSlots: 64 });
  assert.is(engine.hostSlots, 64);
  const expected = makeResult();
  await engine.step(makePlan({ starts: [start(0, PROMPT)], runs: [[0, 0, 0, 0, 9]], tokens: PROMPT }), expected);
  await engine.step(makePlan({ runs: [[0, 0, 0, 9, 1]], tokens: [632] }), expected);
  const result = makeResult();
  const other = { starts: [start(1, [5, 6])], runs: [[1, 0, 0, 0, 2]], tokens: [5, 6] };
  await engine.step(makePlan({ moves: [[0, engine.slots + 3, 9]], ...other }), result); // its slots are another's now
  await engine.step(
    makePlan({ moves: [[engine.slots + 3, 130, 9]], runs: [[0, 128, 2, 9, 1]], tokens: [632] }),
    result,
  );
  assert.is(result.sampled[0], expected.sampled[0]);
  assert.is(result.logprobs[0], expected.logprobs[0]);
  await engine.close();
});

step('reads a plan when it is called: the arrays may be filled for the next step at once', async () => {
  const engine = await loadTales();
  const result = makeResult();
  const plan = makePlan({ starts: [start(0, PROMPT)], runs: [[0, 0, 0, 0, 9]], tokens: PROMPT });
  const first = engine.step(plan, result);
  plan.starts.length = 0;
  plan.runs.set([1, 64, 0, 0, 1]);
  plan.tokens.set([5]);
  plan.tokenCount = 1;
  const second = engine.step(plan, result);
  plan.runs.fill(-1);
  plan.tokens.fill(-1);
  structuredClone(plan.runs, { transfer: [plan.runs.buffer as ArrayBuffer] });
  await Promise.all([first, second]);
  const [a, b] = result.sampled;
  const again = makeResult();
  await engine.step(makePlan({ runs: [[0, 0, 0, 0, 9]], tokens: PROMPT }), again);
  await engine.step(makePlan({ runs: [[1, 64, 0, 0, 1]], tokens: [5] }), again);
  assert.equal([a, b], [again.sampled[0], again.sampled[1]]);
  await engine.close();
});

step('refuses to write into arrays that were given away while it ran', async () => {
  const engine = await loadTales();
  const result = makeResult();
  const running = engine.step(makePlan({ runs: [[0, 0, 0, 0, 9]], tokens: PROMPT }), result);
  structuredClone(result.sampled, { transfer: [result.sampled.buffer as ArrayBuffer] });
  let code: unknown;
  await running.catch((error: { code: string }) => (code = error.code));
  assert.is(code, 'INVALID_ARGUMENT');
  await engine.close();
});

step('settles in the order of the calls', async () => {
  const engine = await loadTales();
  const result = makeResult();
  const order: number[] = [];
  const steps = Array.from({ length: 20 }, async (_, i) => {
    await engine.step(makePlan({ runs: [[0, 0, 0, i, 1]], tokens: [i] }), result);
    order.push(i);
  });
  await Promise.all(steps);
  assert.equal(
    order,
    [...order].sort((a, b) => a - b),
  );
  assert.is(order.length, 20);
  await engine.close();
});

step.run();
