import { EngineError } from '../errors.ts';
import { type StepCoefficients, type StepLoad, StepTime } from '../loop/step-time.ts';

/** What of a device and its host the simulator must know. */
export interface StepModel {
  readonly steps: StepTime;
  /** What the loop takes between two steps, on the host: this, and as much for every token it accepts. */
  readonly tickMs: number;
  readonly tokenMs: number;
  /** Keys and values of one token. */
  readonly slotBytes: number;
}

/** As it stands in a file. */
export interface StepModelFile {
  /** What it was fitted on. */
  readonly about: Readonly<Record<string, string | number>>;
  readonly coefficients: StepCoefficients; // milliseconds
  readonly tickMs: number;
  readonly tokenMs: number;
  readonly slotBytes: number;
}

/** Checks the contents of a file; `name` is what errors call it. */
export function readStepModel(contents: unknown, name: string): StepModel {
  const { coefficients, tickMs, tokenMs, slotBytes } = fields(contents, name);
  const steps = StepTime.fromCoefficients(fields(coefficients, `${name}: coefficients`) as unknown as StepCoefficients);
  return {
    steps,
    tickMs: amount(tickMs, `${name}: tickMs`),
    tokenMs: amount(tokenMs, `${name}: tokenMs`),
    slotBytes: amount(slotBytes, `${name}: slotBytes`),
  };
}

function fields(value: unknown, name: string): Partial<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new EngineError('INVALID_ARGUMENT', `${name}: expected an object, got ${JSON.stringify(value)}`);
}

function amount(value: unknown, name: string): number {
  if (typeof value === 'number' && value >= 0 && value < Infinity) return value;
  throw new EngineError('INVALID_ARGUMENT', `${name}: expected a number from 0, got ${JSON.stringify(value)}`);
}
