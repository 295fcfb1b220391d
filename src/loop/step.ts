import { emptyResult, type StepResult } from '../native.ts';
import { Plan, type PlanLimits } from './plan.ts';

/** One step, from its plan to its answers. Memory is made once: steps take turns with it. */
export class Step {
  readonly plan: Plan;
  readonly result: StepResult;
  /** Rows of the batch, by what they do in it. */
  readonly use = { used: 0, empty: 0, stalled: 0 };
  /** Who is in each row, if somebody watches. */
  rowIds: Int32Array | undefined;
  /** Requests that had finished when it was planned. */
  finished = 0;
  /** When the device was asked for it, in milliseconds of the loop's clock. */
  asked = 0;
  ended: Promise<void> = Promise.resolve();

  constructor(limits: PlanLimits) {
    const { rows } = limits;
    this.plan = new Plan(limits);
    this.result = emptyResult(rows);
  }
}
