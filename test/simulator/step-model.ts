import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { readStepModel } from '../../src/simulator/step-model.ts';
import { COEFFICIENTS, model } from './fake/model.ts';

const stepModel = suite('StepModel');

const FILE = { about: {}, coefficients: COEFFICIENTS, tickMs: 0.5, tokenMs: 0.25, slotBytes: 4096 };

stepModel('a file is read as what was written', () => {
  const { steps, ...rest } = readStepModel(JSON.parse(JSON.stringify(FILE)), 'a.json');
  assert.equal(rest, { tickMs: 0.5, tokenMs: 0.25, slotBytes: 4096 });
  assert.equal(steps.coefficients, model().steps.coefficients);
});

const { step: _, ...INCOMPLETE } = COEFFICIENTS;
const BAD: readonly [unknown, RegExp][] = [
  [null, /a.json: expected an object, got null/],
  [[FILE], /a.json: expected an object/],
  [{ ...FILE, coefficients: undefined }, /a.json: coefficients: expected an object/],
  [{ ...FILE, coefficients: INCOMPLETE }, /expected step to be a number from 0, got undefined/],
  [{ ...FILE, coefficients: { ...COEFFICIENTS, token: -1 } }, /expected token to be a number from 0, got -1/],
  [{ ...FILE, tickMs: -1 }, /a.json: tickMs: expected a number from 0, got -1/],
  [{ ...FILE, tokenMs: '1' }, /a.json: tokenMs: expected a number from 0, got "1"/],
  [{ ...FILE, slotBytes: undefined }, /a.json: slotBytes: expected a number from 0, got undefined/],
];

for (const [contents, expected] of BAD) {
  stepModel(`refuses ${JSON.stringify(contents).slice(0, 60)}: ${expected.source}`, () => {
    let found: Partial<EngineError> = {};
    try {
      readStepModel(contents, 'a.json');
    } catch (error) {
      found = error as EngineError;
    }
    assert.is(found.code, 'INVALID_ARGUMENT');
    assert.match(found.message ?? '', expected);
  });
}

stepModel.run();
