import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { STEP_TERMS, type StepCoefficients, type StepLoad, StepTime } from '../../src/loop/step-time.ts';
import { generator } from '../../src/loop/workloads.ts';

const stepTime = suite('StepTime');

const SEEDS = [1, 2, 3];
const NOTHING = Object.fromEntries(STEP_TERMS.map((term) => [term, 0])) as StepCoefficients;
// Of the size of those measured with SmolLM2-135M on a CPU.
const TRUE: StepCoefficients = {
  ...NOTHING,
  step: 14,
  token: 0.2,
  tokenOver16: 0.1,
  contextToken: 0.0025,
  chunkContext: 0.0002,
  sampling: 5,
};

function load(given: Partial<StepLoad>): StepLoad {
  const decodeRows = given.decodeRows ?? 0;
  return {
    decodeRows,
    contextTokens: 0,
    chunkTokens: 0,
    chunkContext: 0,
    sampledRows: decodeRows,
    movedSlots: 0,
    ...given,
  };
}

/** Steps as relay plans them: rows, mostly with a chunk beside them. */
function draw(uniform: () => number): StepLoad {
  const decodeRows = uniform() < 0.1 ? 0 : 1 + Math.floor(16 * uniform());
  const chunkTokens = decodeRows > 0 && uniform() < 0.3 ? 0 : 1 + Math.floor(200 * uniform() ** 2);
  const contextTokens = Math.floor(decodeRows * 600 * uniform());
  return load({ decodeRows, contextTokens, chunkTokens, chunkContext: Math.floor(chunkTokens * 400 * uniform()) });
}

/** The largest relative error of all but one tenth of fresh loads. */
function error(model: StepTime, truth: StepTime, seed: number): number {
  const uniform = generator(1000 + seed);
  const errors = Array.from({ length: 200 }, () => {
    const one = draw(uniform);
    return Math.abs(model.predict(one) / truth.predict(one) - 1);
  });
  return errors.sort((a, b) => a - b)[180]!;
}

function learn(seed: number, steps: number, measured: (ms: number, uniform: () => number) => number): StepTime {
  const truth = StepTime.fromCoefficients(TRUE);
  const uniform = generator(seed);
  const model = new StepTime();
  for (let step = 0; step < steps; step++) {
    const one = draw(uniform);
    model.observe(one, measured(truth.predict(one), uniform));
  }
  return model;
}

stepTime('predicts what its coefficients say', () => {
  const model = StepTime.fromCoefficients({ ...TRUE, sampledRow: 0.5, movedSlot: 0.01 });
  const one = load({ decodeRows: 10, contextTokens: 1000, chunkTokens: 20, chunkContext: 5000, movedSlots: 100 });
  const expected = 14 + 30 * 0.2 + 14 * 0.1 + 1000 * 0.0025 + 5000 * 0.0002 + 10 * 0.5 + 5 + 1;
  assert.ok(Math.abs(model.predict(one) - expected) < 1e-9);
  assert.equal(model.coefficients, { ...TRUE, sampledRow: 0.5, movedSlot: 0.01 });
});

for (const seed of SEEDS) {
  stepTime(`learns to predict within 7 % from 300 steps of 10 % noise (seed ${seed})`, () => {
    const model = learn(seed, 300, (ms, uniform) => ms * (0.9 + 0.2 * uniform()));
    const off = error(model, StepTime.fromCoefficients(TRUE), seed);
    assert.ok(off < 0.07, `off by ${off}`);
    assert.is(model.observations, 300);
  });

  stepTime(`does not mind that every tenth step takes ten times as long (seed ${seed})`, () => {
    const model = learn(seed, 400, (ms, uniform) => ms * (0.95 + 0.1 * uniform()) * (uniform() < 0.1 ? 10 : 1));
    const off = error(model, StepTime.fromCoefficients(TRUE), seed);
    assert.ok(off < 0.1, `off by ${off}`);
  });

  stepTime(`has no negative coefficient, whatever it is told (seed ${seed})`, () => {
    const uniform = generator(seed);
    const model = new StepTime();
    for (let step = 0; step < 200; step++) model.observe(draw(uniform), 1 + 20 * uniform());
    for (const [term, value] of Object.entries(model.coefficients)) assert.ok(value >= 0, `${term} ${value}`);
  });

  stepTime(`never predicts less for more (seed ${seed})`, () => {
    const model = learn(seed, 100, (ms, uniform) => ms * (0.5 + uniform()));
    const uniform = generator(seed);
    for (let i = 0; i < 200; i++) {
      const one = draw(uniform);
      for (const name of Object.keys(one) as (keyof StepLoad)[]) {
        const more = { ...one, [name]: one[name] + 1 + Math.floor(50 * uniform()) };
        assert.ok(model.predict(more) >= model.predict(one), `${name} of ${JSON.stringify(one)}`);
      }
    }
  });
}

stepTime('follows a machine that has become twice as slow', () => {
  const truth = StepTime.fromCoefficients(TRUE);
  const uniform = generator(1);
  const model = learn(1, 300, (ms) => ms);
  for (let step = 0; step < 300; step++) {
    const one = draw(uniform);
    model.observe(one, 2 * truth.predict(one));
  }
  const one = load({ decodeRows: 16, contextTokens: 4000, chunkTokens: 32, chunkContext: 2000 });
  const off = model.predict(one) / truth.predict(one);
  assert.ok(off > 1.7 && off < 2.1, `${off} times`);
});

stepTime('keeps what it knows of chunks through a thousand steps without any', () => {
  const truth = StepTime.fromCoefficients(TRUE);
  const model = learn(1, 300, (ms) => ms);
  for (let step = 0; step < 1000; step++) {
    const one = load({ decodeRows: 16, contextTokens: 3000 + step });
    model.observe(one, truth.predict(one));
  }
  const off = error(model, truth, 1);
  assert.ok(off < 0.05, `off by ${off}`);
});

stepTime('goes on from the coefficients it was made from', () => {
  const model = StepTime.fromCoefficients(TRUE);
  const truth = StepTime.fromCoefficients(TRUE);
  const pure = load({ decodeRows: 8, contextTokens: 800 });
  for (let step = 0; step < 50; step++) model.observe(pure, truth.predict(pure));
  assert.ok(error(model, truth, 1) < 0.02);
});

stepTime('takes no notice of a clock that stood still or jumped', () => {
  const model = new StepTime();
  for (const ms of [0, -5, NaN, Infinity]) model.observe(load({ decodeRows: 1 }), ms);
  assert.is(model.observations, 0);
  assert.is(model.predict(load({ decodeRows: 1 })), 0);
});

stepTime('refuses coefficients that are no numbers from 0', () => {
  for (const value of [-1, NaN, Infinity]) {
    const make = () => StepTime.fromCoefficients({ ...TRUE, token: value });
    assert.throws(make, (error: Error) => error.message.includes('token') && error.message.includes(`${value}`));
  }
});

stepTime.run();
