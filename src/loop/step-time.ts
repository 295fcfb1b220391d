import { EngineError } from '../errors.ts';

/** What a step has to do, as far as its time depends on it. */
export interface StepLoad {
  /** Runs that end with a row's next token; the rest of a prompt that comes with one counts as a chunk. */
  decodeRows: number;
  /** Keys that decode rows read. */
  contextTokens: number;
  chunkTokens: number;
  /** Keys that chunk tokens read, summed over them. */
  chunkContext: number;
  sampledRows: number;
  movedSlots: number;
}

/**
 * What a step's time is made of; a coefficient is the milliseconds that one more costs. Tokens are a convex broken
 * line: up to some number of them the weights are read whatever there is to compute, and from there on each counts.
 */
export const STEP_TERMS = [
  'step',
  'token',
  'tokenOver16',
  'tokenOver64',
  'tokenOver256',
  'contextToken',
  'chunkContext',
  'sampledRow',
  'sampling', // of any row at all: the output matrix is read
  'chunking', // of any chunk at all
  'movedSlot',
] as const;

export type StepTerm = (typeof STEP_TERMS)[number];
export type StepCoefficients = Readonly<Record<StepTerm, number>>;

const TERMS = STEP_TERMS.length;
const SUMS = TERMS * TERMS + TERMS; // products of terms, then of terms and times

// Tried on 1,500 mixed steps of the model tales and 500 of SmolLM2-135M's shape (2-core AMX Xeon, 2026-11-22), half of
// them for learning. The pace is what matters: without it the median error on the larger model was 5.6 %, with 0.5 to 2 %
// a step it is 3.5 to 4.4 %, as good as a fit over all steps at once. Memories of 100 to 1,000 steps did not differ.
const PACE = 1.01;
const SETTLED = 32; // observations before the pace is told from what is still being learnt
const KEPT = 0.996;
const KINDS = 32;
const SOLVE_EVERY = 8; // observations, once there are more than that
const SWEEPS = 40;
const OUTLIER = 3; // times the usual error
const LEAST_ERROR = 0.01; // relative

/**
 * How long a step takes, learnt from those that were measured: non-negative least squares of relative errors, so a
 * prediction never falls when a load grows. A step far from what was expected counts little: machines are shared.
 * Steps of different kinds are forgotten apart: a thousand decode steps leave what is known of chunks as it was. What
 * changes for all kinds at once, a machine's pace, is followed within some steps.
 */
export class StepTime {
  observations = 0;
  readonly #weights = new Float64Array(TERMS);
  readonly #sums = new Float64Array(KINDS * SUMS); // per kind
  readonly #total = new Float64Array(SUMS); // of all kinds
  readonly #terms = new Float64Array(TERMS);
  #error = 1; // running median of relative errors
  #pace = 1; // of the machine now, against that in which the sums were measured

  static fromCoefficients(coefficients: StepCoefficients): StepTime {
    const made = new StepTime();
    STEP_TERMS.forEach((term, i) => {
      const value = coefficients[term];
      if (!(value >= 0 && value < Infinity)) {
        throw new EngineError('INVALID_ARGUMENT', `coefficients: expected ${term} to be a number from 0, got ${value}`);
      }
      made.#weights[i] = value;
    });
    return made;
  }

  get coefficients(): StepCoefficients {
    const entries = STEP_TERMS.map((term, i) => [term, this.#weights[i]! * this.#pace]);
    return Object.fromEntries(entries) as Record<StepTerm, number>;
  }

  /** Milliseconds; 0 before the first observation, unless made from coefficients. */
  predict(load: StepLoad): number {
    this.#read(load);
    let ms = 0;
    for (let i = 0; i < TERMS; i++) ms += this.#weights[i]! * this.#terms[i]!;
    return ms * this.#pace;
  }

  observe(load: StepLoad, ms: number): void {
    if (!(ms > 0 && ms < Infinity)) return; // of a clock that stood still or jumped
    const predicted = this.predict(load);
    const scale = Math.max(predicted, ms);
    const error = Math.abs(ms - predicted) / scale;
    const far = error / (OUTLIER * this.#error);
    const weight = 1 / (scale * scale * (1 + far * far));
    this.#error = Math.max(LEAST_ERROR, this.#error * (error > this.#error ? 1.05 : 1 / 1.05));
    if (this.observations >= SETTLED) this.#pace *= ms > predicted ? PACE : 1 / PACE;

    const terms = this.#terms;
    const own = ms / this.#pace;
    const first = kind(load) * SUMS;
    for (let i = 0, at = first; i < SUMS; i++, at++) this.#sums[at]! *= KEPT;
    for (let i = 0; i < TERMS; i++) {
      const weighted = weight * terms[i]!;
      if (weighted === 0) continue;
      for (let j = 0; j < TERMS; j++) this.#sums[first + i * TERMS + j]! += weighted * terms[j]!;
      this.#sums[first + TERMS * TERMS + i]! += weighted * own;
    }
    this.observations++;
    if (this.observations < SOLVE_EVERY || this.observations % SOLVE_EVERY === 0) this.#solve();
  }

  #read(load: StepLoad): void {
    const { decodeRows, chunkTokens, sampledRows } = load;
    const tokens = decodeRows + chunkTokens;
    const terms = this.#terms;
    terms[0] = 1;
    terms[1] = tokens;
    terms[2] = Math.max(0, tokens - 16);
    terms[3] = Math.max(0, tokens - 64);
    terms[4] = Math.max(0, tokens - 256);
    terms[5] = load.contextTokens;
    terms[6] = load.chunkContext;
    terms[7] = sampledRows;
    terms[8] = sampledRows > 0 ? 1 : 0;
    terms[9] = chunkTokens > 0 ? 1 : 0;
    terms[10] = load.movedSlots;
  }

  /** Coordinate descent from where it stood: what no step has told apart stays as it was. */
  #solve(): void {
    const total = this.#total.fill(0);
    for (let kind = 0; kind < KINDS; kind++) {
      const first = kind * SUMS;
      if (this.#sums[first] === 0) continue; // of `step`: nothing of this kind was seen
      for (let i = 0; i < SUMS; i++) total[i]! += this.#sums[first + i]!;
    }
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
      for (let i = 0; i < TERMS; i++) {
        const own = total[i * TERMS + i]!;
        if (own === 0) continue;
        let rest = total[TERMS * TERMS + i]!;
        for (let j = 0; j < TERMS; j++) rest -= total[i * TERMS + j]! * this.#weights[j]!;
        this.#weights[i] = Math.max(0, this.#weights[i]! + rest / own);
      }
    }
  }
}

/** Steps of one kind have chunks, or else rows, of the same order of magnitude. */
function kind({ decodeRows, chunkTokens }: StepLoad): number {
  const most = KINDS / 2 - 1;
  if (chunkTokens === 0) return Math.min(most, 32 - Math.clz32(decodeRows));
  return KINDS / 2 + Math.min(most, 31 - Math.clz32(chunkTokens));
}
