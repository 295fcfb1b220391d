import { EngineError } from '../errors.ts';
import { STEP_TERMS, type StepCoefficients, type StepTerm, StepTime } from '../loop/step-time.ts';
import type { RecordedStep } from './recording.ts';

const LEAST_STEPS = 100; // fewer say too little of eleven coefficients
const SWEEPS = 10_000; // of coordinate descent, whose terms are much alike; some 10 ms

/** What a step model's file holds besides what it was fitted on. */
export interface Fitted {
  readonly coefficients: StepCoefficients; // milliseconds
  readonly tickMs: number;
  readonly tokenMs: number;
}

/**
 * The model of a run that always had something to do: the loop's time between steps is part of it. The loop learns what
 * a step usually takes, and makes light of slow ones; a run lasts as long as all of them, so this fits their means.
 */
export function fitSteps(recorded: readonly RecordedStep[]): Fitted {
  if (recorded.length < LEAST_STEPS) {
    const message = `steps: expected at least ${LEAST_STEPS} to fit a model to, got ${recorded.length}`;
    throw new EngineError('INVALID_ARGUMENT', message);
  }
  const usual = new StepTime();
  for (const { load, ms } of recorded) usual.observe(load, ms);
  const means = fitMeans(recorded, StepTime.fromCoefficients(usual.coefficients));
  const predicted = recorded.reduce((sum, { load }) => sum + means.predict(load), 0);
  const scale = recorded.reduce((sum, { ms }) => sum + ms, 0) / predicted;
  const scaled = Object.entries(means.coefficients).map(([term, ms]) => [term, ms * scale]);
  return { coefficients: Object.fromEntries(scaled) as StepCoefficients, ...fitGaps(recorded) };
}

/** Non-negative least squares over all steps alike, with variances that grow as the usual times do. */
function fitMeans(recorded: readonly RecordedStep[], usual: StepTime): StepTime {
  const sizes = STEP_TERMS.map(only); // each tells how much of its term a load has
  const products = STEP_TERMS.map(() => new Float64Array(STEP_TERMS.length));
  const totals = new Float64Array(STEP_TERMS.length);
  for (const { load, ms } of recorded) {
    const weight = 1 / usual.predict(load);
    const terms = sizes.map((size) => size.predict(load));
    terms.forEach((one, i) => {
      totals[i]! += weight * one * ms;
      terms.forEach((other, j) => (products[i]![j]! += weight * one * other));
    });
  }
  const weights = STEP_TERMS.map((term) => usual.coefficients[term]); // what no step tells apart stays as it is
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    products.forEach((row, i) => {
      if (row[i] === 0) return;
      const rest = weights.reduce((left, weight, j) => left - weight * row[j]!, totals[i]!);
      weights[i] = Math.max(0, weights[i]! + rest / row[i]!);
    });
  }
  return withCoefficients((_, i) => weights[i]!);
}

function only(term: StepTerm): StepTime {
  return withCoefficients((other) => (other === term ? 1 : 0));
}

function withCoefficients(of: (term: StepTerm, index: number) => number): StepTime {
  const entries = STEP_TERMS.map((term, i) => [term, of(term, i)]);
  return StepTime.fromCoefficients(Object.fromEntries(entries) as StepCoefficients);
}

/** Least squares of the time between steps, as a line over the tokens that were accepted in it. */
function fitGaps(recorded: readonly RecordedStep[]): { tickMs: number; tokenMs: number } {
  let count = 0;
  const sums = { tokens: 0, ms: 0, squares: 0, products: 0 };
  recorded.forEach(({ gapMs }, i) => {
    const tokens = recorded[i - 1]?.load.sampledRows;
    if (gapMs === undefined || tokens === undefined) return;
    count++;
    sums.tokens += tokens;
    sums.ms += gapMs;
    sums.squares += tokens * tokens;
    sums.products += tokens * gapMs;
  });
  if (count === 0) return { tickMs: 0, tokenMs: 0 }; // all of it was hidden behind steps
  const spread = sums.squares - (sums.tokens * sums.tokens) / count;
  const slope = spread > 0 ? (sums.products - (sums.tokens * sums.ms) / count) / spread : 0;
  const most = sums.tokens > 0 ? sums.ms / sums.tokens : 0; // then a tick without tokens takes no time
  const tokenMs = Math.min(most, Math.max(0, slope));
  return { tickMs: (sums.ms - tokenMs * sums.tokens) / count, tokenMs };
}
