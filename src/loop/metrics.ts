import type { Plan } from './plan.ts';

/** Rows of the batch in one step, by what they did. */
export interface RowUse {
  readonly used: number;
  /** Unused while requests waited. */
  readonly empty: number;
  /** Ready to decode, but left out of the step. */
  readonly stalled: number;
}

/**
 * Sums of idle computation. `share` is wasted row-time over all row-time; row-time is that of rows in use and of
 * empty rows that a waiting request could have had. Rows nobody asked for count in neither.
 */
export interface IdleStats {
  readonly share: number;
  /** Token-forwards on padding. */
  readonly padTokens: number;
  /** Token-forwards for finished requests. */
  readonly deadTokens: number;
  /** Row-steps unused while requests waited. */
  readonly emptyRows: number;
  /** Row-time in which rows ready to decode were left out of a step. */
  readonly stallMs: number;
  /** Masked slots read by attention. */
  readonly padKv: number;
  readonly rowMs: number;
  readonly wastedMs: { readonly pad: number; readonly dead: number; readonly empty: number; readonly stall: number };
}

export interface StepTimes {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

const RECENT = 1024; // steps whose times are kept for percentiles

export class Metrics {
  steps = 0;
  promptTokens = 0;
  cachedTokens = 0;
  generatedTokens = 0;
  movedSlots = 0;
  #padTokens = 0;
  #deadTokens = 0;
  #emptyRows = 0;
  #padKv = 0;
  #rowMs = 0;
  readonly #wastedMs = { pad: 0, dead: 0, empty: 0, stall: 0 };
  #totalMs = 0;
  readonly #recentMs = new Float64Array(RECENT);

  /** A step that took `ms`, its plan, and the rows as they were when it was planned. */
  step(ms: number, plan: Plan, rows: RowUse): void {
    const wasted = this.#wastedMs;
    this.#recentMs[this.steps % RECENT] = ms;
    this.steps++;
    this.#totalMs += ms;
    this.#padTokens += plan.padTokens;
    this.#deadTokens += plan.deadTokens;
    this.#emptyRows += rows.empty;
    this.#padKv += plan.maskedSlots;
    this.#rowMs += ms * (rows.used + rows.empty);
    wasted.pad += plan.tokenCount > 0 ? (ms * rows.used * plan.padTokens) / plan.tokenCount : 0;
    wasted.dead += ms * plan.deadTokens; // one per dead row
    wasted.empty += ms * rows.empty;
    wasted.stall += ms * rows.stalled;
  }

  idle(): IdleStats {
    const wastedMs = { ...this.#wastedMs };
    const wasted = wastedMs.pad + wastedMs.dead + wastedMs.empty + wastedMs.stall;
    return {
      share: this.#rowMs > 0 ? wasted / this.#rowMs : 0,
      padTokens: this.#padTokens,
      deadTokens: this.#deadTokens,
      emptyRows: this.#emptyRows,
      stallMs: wastedMs.stall,
      padKv: this.#padKv,
      rowMs: this.#rowMs,
      wastedMs,
    };
  }

  /** Of the last 1,024 steps; the mean is of all. */
  stepMs(): StepTimes {
    const sorted = this.#recentMs.slice(0, Math.min(this.steps, RECENT)).sort();
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
    return { mean: this.steps > 0 ? this.#totalMs / this.steps : 0, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
  }
}
