import { EngineError } from '../errors.ts';
import { type NativeEngine, ROW_MOVE_FIELDS, RUN_FIELDS, type StepPlan, type StepResult } from '../native.ts';
import { measureLoad } from './load.ts';
import type { StepModel } from './step-model.ts';

/** What every simulated request draws, until its length is reached. */
export const CONTENT = 0;
/** What it draws then. */
export const STOP = 1;

/** Virtual time: milliseconds since the simulation began. */
export interface Clock {
  ms: number;
}

export interface EngineSizes {
  readonly rows: number;
  readonly slots: number;
  readonly hostSlots: number;
}

/** A step on its way. Time passes when somebody waits for its end: with overlap, that is not when it was asked for. */
class Ending implements Promise<void> {
  readonly [Symbol.toStringTag] = 'Ending';
  readonly #clock: Clock;
  readonly #ms: number;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
  }

  then<A = void, B = never>(
    ended?: ((value: void) => A | PromiseLike<A>) | null,
    failed?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#clock.ms = Math.max(this.#clock.ms, this.#ms);
    return Promise.resolve().then(ended, failed);
  }

  /** It never fails, and who only wants to hear of that is not waiting. */
  catch(): Promise<void> {
    return this;
  }

  finally(ended?: (() => void) | null): Promise<void> {
    return this.then(() => ended?.());
  }
}

/**
 * A device that computes nothing: a step takes the time that the model predicts for it, on a clock of its own. How many
 * tokens a request is to have stands where no policy looks, in the seed of its sampling; the last of them is STOP.
 */
export class SimulatedEngine implements NativeEngine {
  readonly device = 'simulated';
  readonly isa = 'none';
  readonly threads = 0;
  readonly weights = 'none';
  readonly kv = 'none';
  readonly weightBytes = 0;
  readonly slotBytes: number;
  readonly slots: number;
  readonly hostSlots: number;
  /** Milliseconds in which it had something to do. */
  busyMs = 0;
  readonly #model: StepModel;
  readonly #clock: Clock;
  readonly #lengths: Float64Array; // [rows] tokens with which the row's request is complete
  #endMs = 0; // of the step last asked for

  constructor(model: StepModel, { rows, slots, hostSlots }: EngineSizes, clock: Clock) {
    this.slotBytes = model.slotBytes;
    this.slots = slots;
    this.hostSlots = hostSlots;
    this.#model = model;
    this.#clock = clock;
    this.#lengths = new Float64Array(rows);
  }

  step(plan: StepPlan, result: StepResult): Promise<void> {
    const ms = this.#model.steps.predict(measureLoad(plan));
    if (!(ms > 0 && ms < Infinity)) {
      throw new EngineError('INVALID_ARGUMENT', `model: expected every step to take time, got ${ms} ms for one`);
    }
    this.#sample(plan, result);
    this.busyMs += ms;
    this.#endMs = Math.max(this.#endMs, this.#clock.ms) + ms; // one step at a time
    return new Ending(this.#clock, this.#endMs);
  }

  async close(): Promise<void> {}

  #sample({ rowMoves, rowMoveCount, starts, runs, runCount }: StepPlan, { sampled }: StepResult): void {
    const lengths = this.#lengths;
    for (let at = 0; at < rowMoveCount * ROW_MOVE_FIELDS; at += ROW_MOVE_FIELDS) {
      lengths[rowMoves[at + 1]!] = lengths[rowMoves[at]!]!;
    }
    for (const { row, promptLength, sampling } of starts) lengths[row] = promptLength + sampling.seed;
    for (let at = 0; at < runCount * RUN_FIELDS; at += RUN_FIELDS) {
      const row = runs[at]!;
      if (row < 0) continue;
      const length = runs[at + 3]! + runs[at + 4]! + 1; // with the token that is drawn
      sampled[row] = length >= lengths[row]! ? STOP : CONTENT;
    }
  }
}
