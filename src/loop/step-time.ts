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

export function emptyLoad(): StepLoad {
  return { decodeRows: 0, contextTokens: 0, chunkTokens: 0, chunkContext: 0, sampledRows: 0, movedSlots: 0 };
}

/** `to`, made equal to `from`. */
export function copyLoad(to: StepLoad, from: StepLoad): StepLoad {
  to.decodeRows = from.decodeRows;
  to.contextTokens = from.contextTokens;
  to.chunkTokens = from.chunkTokens;
  to.chunkContext = from.chunkContext;
  to.sampledRows = from.sampledRows;
  to.movedSlots = from.movedSlots;
  return to;
}

/** One more row, whose token is at `position`; its key is among those read. */
export function addDecode(load: StepLoad, position: number): void {
  load.decodeRows++;
  load.sampledRows++;
  load.contextTokens += position + 1;
}

/** So many more tokens of a prompt, the first of them at `position`. */
export function addChunk(load: StepLoad, position: number, tokens: number): void {
  load.chunkTokens += tokens;
  load.chunkContext += tokens * position + (tokens * (tokens + 1)) / 2;
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
  'movedSlot',
] as const;

export type StepTerm = (typeof STEP_TERMS)[number];
export type StepCoefficients = Readonly<Record<StepTerm, number>>;

const TERMS = STEP_TERMS.length;
const SUMS = TERMS * TERMS + TERMS; // products of terms, then of terms and times

// Tried on 1,500 mixed steps of the model tales and 500 of SmolLM2-135M's shape (2-core AMX Xeon, 2026-11-22), half of
// them for learning. The pace is what matters: without it the median error on the larger model was 5.6 %, with 0.5 to
// 2 % a step it was 3.5 to 4.4 %, as good as a fit over all steps at once. Memories of 100 to 1,000 steps did not
// differ. A term for steps that have any chunk was a little better there, and ruinous in a loop: where every step has
// one, nothing tells it from the step itself.
const PACE = 0.01; // most change per step
const SETTLED = 32; // observations; until then the pace is not told from what is still being learnt
const KEPT = 0.996;
const ROW_KINDS = 12; // powers of 2
const CHUNK_KINDS = 7; // powers of 4
const KINDS = ROW_KINDS * CHUNK_KINDS;
const SOLVE_EVERY = 8; // observations, once there are more than that
const INERTIA = 1e-4; // share of what was measured that a coefficient's last value counts as
const LEAST_PIVOT = 1e-12; // share of the diagonal: two terms that always came together are not told apart
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
  #given = false; // made from coefficients
  readonly #weights = new Float64Array(TERMS);
  readonly #sums = new Float64Array(KINDS * SUMS); // per kind
  readonly #total = new Float64Array(SUMS); // of all kinds
  readonly #terms = new Float64Array(TERMS);
  readonly #free = new Int32Array(TERMS); // terms that the answer is not 0 for
  readonly #lower = new Float64Array(TERMS * TERMS);
  readonly #answer = new Float64Array(TERMS);
  #error = 1; // running median of relative errors
  #pace = 1; // of the machine now, against that in which the sums were measured

  static fromCoefficients(coefficients: StepCoefficients): StepTime {
    const made = new StepTime();
    made.#given = true;
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

  /** Whether predictions are worth acting on. */
  get settled(): boolean {
    return this.#given || this.observations >= SETTLED;
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
    const pull = (ms - predicted) / (scale * this.#error);
    if (this.settled) this.#pace *= 1 + PACE * Math.max(-1, Math.min(1, pull));

    const terms = this.#terms;
    const own = ms / this.#pace;
    const first = kind(load) * SUMS;
    for (let i = 0; i < TERMS; i++) {
      const weighted = weight * terms[i]!;
      for (let j = 0; j < TERMS; j++) this.#sum(first, i * TERMS + j, weighted * terms[j]!);
      this.#sum(first, TERMS * TERMS + i, weighted * own);
    }
    this.observations++;
    if (this.observations < SOLVE_EVERY || this.observations % SOLVE_EVERY === 0) this.#solve();
  }

  /** Adds to one of the sums of a kind, which forgets a little, and to that of all kinds. */
  #sum(first: number, i: number, value: number): void {
    const change = value - (1 - KEPT) * this.#sums[first + i]!;
    this.#sums[first + i]! += change;
    this.#total[i]! += change;
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
    terms[9] = load.movedSlots;
  }

  /** Least squares without what would be negative. What no step has told apart stays near what it was. */
  #solve(): void {
    const total = this.#total;
    const weights = this.#weights;
    const free = this.#free;
    let count = 0;
    for (let i = 0; i < TERMS; i++) if (total[i * TERMS + i]! > 0) free[count++] = i;
    for (let negative = true; negative && count > 0; ) {
      this.#cholesky(count);
      negative = false;
      let kept = 0;
      for (let at = 0; at < count; at++) {
        const i = free[at]!;
        if (this.#answer[at]! < 0) {
          weights[i] = 0;
          negative = true;
        } else free[kept++] = i;
      }
      if (!negative) for (let at = 0; at < count; at++) weights[free[at]!] = this.#answer[at]!;
      count = kept;
    }
  }

  /** The answer for the first `count` free terms, all others being 0; drawn a little to what they were. */
  #cholesky(count: number): void {
    const total = this.#total;
    const lower = this.#lower;
    const answer = this.#answer;
    for (let row = 0; row < count; row++) {
      const i = this.#free[row]!;
      const own = total[i * TERMS + i]!;
      for (let column = 0; column <= row; column++) {
        let sum = total[i * TERMS + this.#free[column]!]! + (column === row ? INERTIA * own : 0);
        for (let k = 0; k < column; k++) sum -= lower[row * TERMS + k]! * lower[column * TERMS + k]!;
        lower[row * TERMS + column] =
          column === row ? Math.sqrt(Math.max(sum, LEAST_PIVOT * own)) : sum / lower[column * TERMS + column]!;
      }
      let sum = total[TERMS * TERMS + i]! + INERTIA * own * this.#weights[i]!;
      for (let k = 0; k < row; k++) sum -= lower[row * TERMS + k]! * answer[k]!;
      answer[row] = sum / lower[row * TERMS + row]!;
    }
    for (let row = count - 1; row >= 0; row--) {
      let sum = answer[row]!;
      for (let k = row + 1; k < count; k++) sum -= lower[k * TERMS + row]! * answer[k]!;
      answer[row] = sum / lower[row * TERMS + row]!;
    }
  }
}

/** Steps of one kind have rows and chunks of the same order of magnitude. */
function kind({ decodeRows, chunkTokens }: StepLoad): number {
  const rows = Math.min(ROW_KINDS - 1, 32 - Math.clz32(decodeRows));
  const chunk = Math.min(CHUNK_KINDS - 1, (33 - Math.clz32(chunkTokens)) >> 1);
  return chunk * ROW_KINDS + rows;
}
