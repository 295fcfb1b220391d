import type { Admission } from '../admission.ts';
import type { Batch } from '../batch.ts';
import type { OutputLengths } from '../output-lengths.ts';
import type { PrefilledPool } from '../pool.ts';
import type { StepTime } from '../step-time.ts';

/** What a policy sees and acts on. */
export interface LoopState {
  /** Takes requests from the queue, with a span, into the pool. */
  readonly admission: Admission;
  readonly pool: PrefilledPool;
  /** Its plan is empty of runs when the policy is asked. */
  readonly batch: Batch;
  /** Learns from every step. */
  readonly stepTime: StepTime;
  /** Learns from every request that ends. */
  readonly lengths: OutputLengths;
}

/** The rule that turns queue, pool, batch and arena into the next plan. `admit` and `plan` are called once per tick. */
export interface Policy {
  /** A row whose request has its last token keeps its place, and is computed, until all rows have theirs. */
  readonly keepsFinished: boolean;
  /** An urgent request takes the row, or the memory, of a lower one. */
  readonly givesWay: boolean;
  /** Whether a request beyond those in rows would wait, though a row is free. Not asked where none is. */
  full?(state: LoopState): boolean;
  /** Decides who leaves the queue. Not called in a tick that preempted. */
  admit(state: LoopState): void;
  /** Gives rows to requests of the pool and plans the runs of rows and pool. A row that is given gets a run. */
  plan(state: LoopState): void;
}
