import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { generator } from '../../src/loop/workloads.ts';
import type { StepPlan } from '../../src/native.ts';
import { measureLoad } from '../../src/simulator/load.ts';

const load = suite('Load');

type Run = readonly [row: number, position: number, tokens: number];

function plan(runs: readonly Run[], moves: readonly (readonly number[])[] = []): StepPlan {
  const tokenCount = runs.reduce((sum, [, , tokens]) => sum + tokens, 0);
  return {
    moves: Int32Array.from(moves.flat()),
    moveCount: moves.length,
    rowMoves: new Int32Array(0),
    rowMoveCount: 0,
    starts: [],
    runs: Int32Array.from(runs.flatMap(([row, position, tokens]) => [row, 64, 3, position, tokens])),
    runCount: runs.length,
    tokens: new Int32Array(tokenCount),
    tokenCount,
  };
}

load('a decode row reads all keys before it and its own', () => {
  const { decodeRows, contextTokens, chunkTokens, chunkContext, sampledRows } = measureLoad(
    plan([
      [0, 9, 1],
      [1, 4, 1],
    ]),
  );
  assert.equal([decodeRows, contextTokens, chunkTokens, chunkContext, sampledRows], [2, 15, 0, 0, 2]);
});

load('a chunk draws nothing, and each of its tokens reads one key more', () => {
  const { decodeRows, contextTokens, chunkTokens, chunkContext, sampledRows } = measureLoad(plan([[-1, 5, 3]]));
  assert.equal([decodeRows, contextTokens, chunkTokens, chunkContext, sampledRows], [0, 0, 3, 6 + 7 + 8, 0]);
});

load('moves count by their slots', () => {
  assert.is(
    measureLoad(
      plan(
        [[0, 9, 1]],
        [
          [0, 64, 40],
          [128, 256, 2],
        ],
      ),
    ).movedSlots,
    42,
  );
});

load('what memory of earlier plans lies behind the counts is not read', () => {
  const full = plan(
    [
      [0, 9, 1],
      [1, 4, 1],
    ],
    [[0, 64, 40]],
  );
  assert.equal(measureLoad({ ...full, runCount: 0, tokenCount: 0, moveCount: 0 }), measureLoad(plan([])));
});

load('every token of random plans is counted once, with the keys it reads', () => {
  const seed = 11;
  const uniform = generator(seed);
  const integer = (most: number) => Math.floor(uniform() * most);
  for (let round = 0; round < 200; round++) {
    const runs = Array.from({ length: 1 + integer(5) }, (_, i): Run => [
      uniform() < 0.5 ? i : -1,
      integer(50),
      1 + integer(9),
    ]);
    const expected = {
      decodeRows: 0,
      contextTokens: 0,
      chunkTokens: 0,
      chunkContext: 0,
      sampledRows: 0,
      movedSlots: 0,
    };
    for (const [row, position, tokens] of runs) {
      for (let i = 0; i < tokens; i++) {
        const draws = row >= 0 && i === tokens - 1;
        expected[draws ? 'decodeRows' : 'chunkTokens']++;
        expected[draws ? 'contextTokens' : 'chunkContext'] += position + i + 1;
        if (draws) expected.sampledRows++;
      }
    }
    assert.equal(measureLoad(plan(runs)), expected, `seed ${seed}, round ${round}`);
  }
});

load.run();
