import { STEP_TERMS, type StepCoefficients, StepTime } from '../../../src/loop/step-time.ts';
import type { StepModel } from '../../../src/simulator/step-model.ts';

/** Every term counts, with coefficients whose sums are exact in binary. */
export const COEFFICIENTS = Object.fromEntries(STEP_TERMS.map((term, i) => [term, (i + 1) / 1024])) as Record<
  keyof StepCoefficients,
  number
>;

export function model(host: Partial<StepModel> = {}): StepModel {
  return { steps: StepTime.fromCoefficients(COEFFICIENTS), tickMs: 0, tokenMs: 0, slotBytes: 4, ...host };
}

/** A step takes 1 ms, whatever it does. */
export function constant(host: Partial<StepModel> = {}): StepModel {
  const none = Object.fromEntries(STEP_TERMS.map((term) => [term, 0])) as unknown as StepCoefficients;
  return { ...model(host), steps: StepTime.fromCoefficients({ ...none, step: 1 }) };
}
