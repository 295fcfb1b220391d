// Hostile plans: each is refused with a code and words, and changes nothing.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NativeEngine, RowStart, Sampling, StepPlan, StepResult } from '../../src/native.ts';
import { failure, loadTales, makePlan, makeResult, start, type PlanParts } from './fake/tales.ts';

const plan = suite('plan');
let engine: NativeEngine;
plan.before(async () => void (engine = await loadTales({ slots: 512, hostSlots: 128, rows: 4, stepTokens: 32, context: 128 })));
plan.after(() => engine.close());

const MOST = 2 ** 31 - 1;

function refuses(name: string, parts: PlanParts, message: RegExp): void {
  plan(`refuses ${name}`, () => expectRefusal(makePlan(parts), makeResult(), message));
}

async function expectRefusal(given: StepPlan, result: StepResult, message: RegExp): Promise<void> {
  const refused = await failure(() => engine.step(given, result));
  assert.is(refused.code, 'INVALID_ARGUMENT', refused.message);
  assert.match(refused.message, message);
}

function startWith(changes: Partial<Sampling>): PlanParts {
  return { starts: [start(0, [1, 2], changes)] };
}

refuses('a move from a negative slot', { moves: [[-1, 0, 1]] }, /moves\[0\]\.from.*got -1/);
refuses('a move to a negative slot', { moves: [[0, -64, 1]] }, /moves\[0\]\.to.*got -64/);
refuses('a move from behind host memory', { moves: [[640, 0, 1]] }, /moves\[0\]\.from.*below 512, or of the 128.*got 640/);
refuses('a move from the arena into host memory', { moves: [[500, 0, 20]] }, /moves\[0\]\.from.*got 500/);
refuses('parking over the end', { moves: [[0, 600, 41]] }, /moves\[0\]\.to.*got 600/);
refuses('a move within host memory', { moves: [[512, 576, 64]] }, /moves\[0\]\.from: expected an end in the arena/);
refuses('a run in host memory', { runs: [[0, 512, 0, 0, 1]], tokens: [1] }, /runs\[0\]/);
refuses('a move that runs over the end', { moves: [[448, 0, 65]] }, /moves\[0\]\.from/);
refuses('a move to over the end', { moves: [[0, 508, 5]] }, /moves\[0\]\.to/);
refuses('a move whose end overflows', { moves: [[MOST, 0, MOST]] }, /moves\[0\]/);
refuses('a move of nothing', { moves: [[0, 64, 0]] }, /moves\[0\]\.slots.*got 0/);
refuses('a move of less than nothing', { moves: [[0, 64, -5]] }, /moves\[0\]\.slots/);
refuses(
  'two moves to one place',
  {
    moves: [
      [0, 256, 64],
      [64, 319, 64],
    ],
  },
  /moves\[0\] and moves\[1\]/,
);
refuses(
  'a move from what another writes',
  {
    moves: [
      [0, 256, 64],
      [319, 448, 2],
    ],
  },
  /moves\[1\] and moves\[0\]/,
);
refuses(
  'a move to what another reads',
  {
    moves: [
      [100, 200, 20],
      [300, 119, 5],
    ],
  },
  /moves\[0\] and moves\[1\]/,
);
refuses(
  'a clash among many moves',
  {
    moves: [
      [0, 64, 8],
      [8, 72, 8],
      [16, 80, 8],
      [75, 128, 1],
      [32, 96, 8],
    ],
  },
  /moves\[3\] and moves\[1\]/,
);

refuses('a row move from a row that is none', { rowMoves: [[4, 0]] }, /rowMoves\[0\]\.from.*got 4/);
refuses(
  'a row move to a row that is none',
  {
    rowMoves: [
      [0, 1],
      [0, -1],
    ],
  },
  /rowMoves\[1\]\.to.*got -1/,
);

refuses('a start of a row that is none', { starts: [start(4, [1])] }, /starts\[0\]\.row.*got 4/);
refuses('a start with a token that is none', { starts: [start(0, [1, 2048])] }, /starts\[0\]\.tokens.*got 2048/);
refuses('a start with a negative token', { starts: [start(0, [-1])] }, /starts\[0\]\.tokens.*got -1/);
refuses(
  'a start longer than the context',
  { starts: [start(0, Array(129).fill(1))] },
  /starts\[0\]\.tokens.*at most 128/,
);
refuses(
  'a prompt longer than its tokens',
  { starts: [{ ...start(0, [1]), promptLength: 2 }] },
  /starts\[0\]\.promptLength/,
);
refuses('a token that is no integer', { starts: [start(0, [1.5])] }, /starts\[0\]\.tokens.*got 1\.5/);
refuses('a token that is no number', { starts: [start(0, ['x' as never])] }, /starts\[0\]\.tokens.*got a string/);
refuses(
  'tokens that lie about their length',
  {
    starts: [{ ...start(0, []), tokens: { length: MOST } as never }],
  },
  /starts\[0\]\.tokens.*got undefined/,
);
refuses('no tokens at all', { starts: [{ ...start(0, []), tokens: null as never }] }, /starts\[0\]\.tokens.*got null/);
refuses('no sampling', { starts: [{ ...start(0, [1]), sampling: undefined as never }] }, /starts\[0\]\.sampling/);
refuses('a start that is none', { starts: [7 as unknown as RowStart] }, /starts\[0\].*got a number/);

const SAMPLINGS: readonly [Partial<Sampling>, RegExp][] = [
  [{ temperature: -1 }, /temperature.*got -1/],
  [{ temperature: NaN }, /temperature/],
  [{ temperature: Infinity }, /temperature/],
  [{ topK: -1 }, /topK/],
  [{ topK: 0.5 }, /topK/],
  [{ topP: 0 }, /topP/],
  [{ topP: 1.01 }, /topP/],
  [{ topP: NaN }, /topP/],
  [{ minP: -0.1 }, /minP/],
  [{ minP: 1.1 }, /minP/],
  [{ repetitionPenalty: 0 }, /repetitionPenalty/],
  [{ presencePenalty: NaN }, /presencePenalty/],
  [{ frequencyPenalty: Infinity }, /frequencyPenalty/],
  [{ seed: -1 }, /seed/],
  [{ seed: 2 ** 53 }, /seed/],
  [{ seed: 0.5 }, /seed/],
  [{ logprobs: 21 }, /logprobs/],
  [{ minTokens: -1 }, /minTokens/],
  [{ stopTokens: new Int32Array([2048]) }, /stopTokens.*got 2048/],
  [{ biasTokens: new Int32Array([1]), biasValues: new Float32Array(0) }, /biasValues/],
  [{ biasTokens: new Int32Array([-1]), biasValues: new Float32Array(1) }, /biasTokens/],
  [{ biasTokens: new Int32Array([1]), biasValues: new Float32Array([NaN]) }, /biasValues/],
  [{ biasTokens: new Int32Array([1]), biasValues: new Float32Array([Infinity]) }, /biasValues/],
  [{ biasTokens: new Int32Array([1]), biasValues: [0] as never }, /biasValues.*Float32Array, got an array/],
  [{ temperature: '1' as never }, /temperature.*got a string/],
  [{ seed: 1n as never }, /seed.*got a bigint/],
];
for (const [changes, message] of SAMPLINGS) {
  const [[name, value]] = Object.entries(changes) as [[string, unknown]];
  refuses(
    `${name} ${String(value)}${typeof value === 'string' ? ' as text' : ''} (${message.source})`,
    startWith(changes),
    message,
  );
}

refuses('a run of a row that is none', { runs: [[4, 0, 0, 0, 1]], tokens: [1] }, /runs\[0\]\.row.*got 4/);
refuses('a run of row -2', { runs: [[-2, 0, 0, 0, 1]], tokens: [1] }, /runs\[0\]\.row.*got -2/);
refuses(
  'two runs of a row',
  {
    runs: [
      [1, 0, 0, 0, 1],
      [1, 64, 0, 0, 1],
    ],
    tokens: [1, 1],
  },
  /runs\[1\]\.row/,
);
refuses('a span that starts inside a tile', { runs: [[0, 63, 0, 0, 1]], tokens: [1] }, /runs\[0\]\.offset/);
refuses('a negative span', { runs: [[0, -64, 0, 0, 1]], tokens: [1] }, /runs\[0\]\.offset/);
refuses('negative masked slots', { runs: [[0, 64, -1, 0, 1]], tokens: [1] }, /runs\[0\]\.masked/);
refuses('a negative position', { runs: [[0, 64, 0, -1, 1]], tokens: [1] }, /runs\[0\]\.position/);
refuses('a run of no tokens', { runs: [[0, 0, 0, 0, 0]] }, /runs\[0\]\.tokens/);
refuses('a run over the context', { runs: [[0, 0, 0, 120, 9]], tokens: Array(9).fill(1) }, /context 128, got 129/);
refuses('a run over the arena', { runs: [[0, 448, 60, 0, 5]], tokens: Array(5).fill(1) }, /last slot.*got 512/);
refuses('a run whose end overflows', { runs: [[0, 448, MOST, 100, 1]], tokens: [1] }, /last slot/);
refuses('a position that overflows', { runs: [[0, 0, 0, MOST, MOST]], tokens: [1] }, /context/);
refuses('more tokens than a step takes', { runs: [[0, 0, 0, 0, 33]], tokens: Array(33).fill(1) }, /at most 32/);
refuses('fewer tokens than its runs', { runs: [[0, 0, 0, 0, 3]], tokens: [1, 1] }, /tokens: .*3, got 2/);
refuses('more tokens than its runs', { runs: [[0, 0, 0, 0, 1]], tokens: [1, 1] }, /tokens: .*1, got 2/);
refuses('a token behind the vocabulary', { runs: [[0, 0, 0, 0, 1]], tokens: [2048] }, /tokens\[0\].*got 2048/);
refuses('a drawn token before any was drawn', { runs: [[0, 0, 0, 0, 1]], tokens: [-1] }, /row 0 to have drawn/);
refuses('a drawn token of no row', { runs: [[-1, 0, 0, 0, 1]], tokens: [-1] }, /tokens\[0\].*got -1/);
refuses('a negative token', { runs: [[0, 0, 0, 0, 2]], tokens: [0, -1] }, /tokens\[1\].*got -1/);
refuses(
  'two runs that write one slot',
  {
    runs: [
      [0, 0, 0, 60, 8],
      [1, 64, 0, 3, 1],
    ],
    tokens: Array(9).fill(1),
  },
  /runs\[0\] and runs\[1\]/,
);

const SHAPES: readonly [string, object, RegExp][] = [
  [
    'runs of floats',
    { runs: new Float32Array(10), runCount: 1 },
    /runs: expected an Int32Array, got another typed array/,
  ],
  ['runs in a list', { runs: [0, 0, 0, 0, 1], runCount: 1 }, /runs: expected an Int32Array, got an array/],
  ['unsigned tokens', { tokens: new Uint32Array(10) }, /tokens: expected an Int32Array/],
  [
    'runs cut short',
    { runs: new Int32Array(9), runCount: 2 },
    /runs: expected 10 numbers or more for runCount 2, got 9/,
  ],
  ['moves cut short', { moves: new Int32Array(2), moveCount: 1 }, /moves: expected 3 numbers/],
  ['row moves cut short', { rowMoves: new Int32Array(0), rowMoveCount: 1 }, /rowMoves: expected 2/],
  ['tokens cut short', { tokens: new Int32Array(1), tokenCount: 2 }, /tokens: expected 2/],
  ['a count beyond all arrays', { runCount: MOST }, /runs: expected/],
  ['a negative count', { moveCount: -1 }, /moveCount/],
  ['a fractional count', { tokenCount: 0.5 }, /tokenCount/],
  ['a count that is no number', { runCount: '1' }, /runCount: expected a number, got a string/],
  ['no starts', { starts: undefined }, /starts: expected an array, got undefined/],
  ['no moves', { moves: undefined }, /moves: expected an Int32Array, got undefined/],
];
for (const [name, changes, message] of SHAPES) {
  plan(`refuses ${name}`, () => expectRefusal({ ...makePlan(), ...changes } as StepPlan, makeResult(), message));
}

const RESULTS: readonly [string, object, RegExp][] = [
  ['no room for its rows', { sampled: new Int32Array(3) }, /sampled: expected 4 numbers or more, got 3/],
  ['no room for log-probabilities', { logprobs: new Float32Array(0) }, /logprobs: expected 4/],
  ['no room for alternatives', { topTokens: new Int32Array(79) }, /topTokens: expected 80/],
  ['no room for their log-probabilities', { topLogprobs: new Float32Array(79) }, /topLogprobs: expected 80/],
  ['doubles', { logprobs: new Float64Array(4) }, /logprobs: expected a Float32Array/],
  ['nothing', { sampled: null }, /sampled: expected an Int32Array, got null/],
];
for (const [name, changes, message] of RESULTS) {
  plan(`refuses a result with ${name}`, () =>
    expectRefusal(makePlan(), { ...makeResult(), ...changes } as StepResult, message),
  );
}

plan('refuses what is no plan and no result', async () => {
  for (const nothing of [undefined, null, 7, 'plan'] as never[]) {
    await expectRefusal(nothing, makeResult(), /plan: expected an object/);
    await expectRefusal(makePlan(), nothing, /result: expected an object/);
  }
});

plan('refuses arrays that were given away', async () => {
  const given = makePlan({ runs: [[0, 0, 0, 0, 1]], tokens: [1] });
  structuredClone(given.runs, { transfer: [given.runs.buffer as ArrayBuffer] });
  await expectRefusal(given, makeResult(), /runs: expected 5 numbers or more for runCount 1, got 0/);
  const result = makeResult();
  structuredClone(result.topTokens, { transfer: [result.topTokens.buffer as ArrayBuffer] });
  await expectRefusal(makePlan(), result, /topTokens: expected 80 numbers or more, got 0/);
});

plan('passes on what a getter throws', async () => {
  const thrown = new Error('a getter');
  const hostile = Object.defineProperty({ ...makePlan() }, 'runs', {
    get: () => {
      throw thrown;
    },
  });
  let caught: unknown;
  await engine.step(hostile, makeResult()).catch((error: unknown) => (caught = error));
  assert.is(caught, thrown);
});

plan('survives a getter that steps, and one that gives its arrays away', async () => {
  const inner: Promise<void>[] = [];
  const parts = { starts: [start(0, [5, 6])], runs: [[0, 0, 0, 0, 2]], tokens: [5, 6] };
  const expected = makeResult();
  await engine.step(makePlan(parts), expected);
  const outer = makePlan(parts);
  const { tokens } = outer;
  Object.defineProperty(outer, 'starts', {
    get: () => {
      inner.push(engine.step(makePlan({ runs: [[1, 64, 0, 0, 1]], tokens: [9] }), makeResult()));
      structuredClone(tokens, { transfer: [tokens.buffer as ArrayBuffer] });
      return [start(0, [5, 6])];
    },
  });
  const result = makeResult();
  await engine.step(outer, result);
  await Promise.all(inner);
  assert.is(result.sampled[0], expected.sampled[0]);
});

plan('changes nothing when it is refused', async () => {
  const ask = async () => {
    const result = makeResult();
    await engine.step(makePlan({ runs: [[0, 0, 0, 2, 1]], tokens: [7] }), result);
    return [result.sampled[0], result.logprobs[0]];
  };
  await engine.step(makePlan({ starts: [start(0, [3, 4])], runs: [[0, 0, 0, 0, 2]], tokens: [3, 4] }), makeResult());
  const before = await ask();
  const refused = {
    moves: [[64, 0, 64]],
    starts: [start(0, [9], { temperature: 2 })],
    runs: [[9, 0, 0, 0, 1]],
    tokens: [8],
  };
  assert.is((await failure(() => engine.step(makePlan(refused), makeResult()))).code, 'INVALID_ARGUMENT');
  assert.equal(await ask(), before);
});

plan('allows what is unusual but right', async () => {
  const right: PlanParts[] = [
    {},
    { moves: [[0, 10, 100]] }, // overlaps itself
    {
      moves: [
        [0, 256, 64],
        [0, 320, 64],
      ],
    }, // one source
    { moves: [[64, 64, 64]] },
    { moves: [[0, 512, 128]] }, // parks
    { moves: [[575, 3, 65]] }, // unparks
    {
      rowMoves: [
        [0, 1],
        [1, 2],
        [3, 3],
      ],
    },
    { starts: [start(3, [])] },
    { starts: [start(0, [1], { biasTokens: new Int32Array([5]), biasValues: new Float32Array([-Infinity]) })] },
    { starts: [{ ...start(0, []), tokens: new Int32Array([1, 2, 3]), promptLength: 1 }] },
    { starts: [{ ...start(0, []), tokens: { length: 1, 0: 5 }, promptLength: 0 }] },
    {
      runs: [
        [-1, 0, 0, 0, 4],
        [-1, 64, 0, 0, 4],
      ],
      tokens: Array(8).fill(1),
    },
    { runs: [[0, 384, 0, 127, 1]], tokens: [2047] },
  ];
  for (const parts of right) await engine.step(makePlan(parts), makeResult());
});

plan.run();
