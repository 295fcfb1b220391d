import { addChunk, copyLoad, emptyLoad, type StepLoad, type StepTime } from './step-time.ts';

/** Whether a preempted request is parked in host memory or computed again. */
export type PreemptionChoice = 'park' | 'recompute';

/**
 * Milliseconds that a copy takes however short it is. On the CPU two copies of 4 to 16 slots cost at most 0.1 ms, and
 * often nothing that could be told (model tales, 2-core AMX Xeon, 2026-11-23); on a GPU not measured.
 */
export const MOVE_START_MS = 0.04;

const HOST_BYTES_PER_MS = 5e6; // of a slow bus, until copies have been measured
const TELLING_SLOTS = 16; // fewer say nothing about one, beside a step's own ups and downs
const WEIGHT = 0.2; // of the latest measurement

/** What the two ways of preempting cost, told from what steps have taken. */
export class PreemptionCosts {
  /** Milliseconds to copy one slot to host memory, or from there. */
  moveMs: number;
  readonly #stepTime: StepTime;
  readonly #load = emptyLoad(); // of steps that might be

  constructor(slotBytes: number, stepTime: StepTime) {
    this.moveMs = slotBytes / HOST_BYTES_PER_MS;
    this.#stepTime = stepTime;
  }

  /** Parking copies every computed slot out and in; the other way computes every one of them once more. */
  parkingPays(computed: number): boolean {
    if (!this.#stepTime.settled) return true;
    return 2 * (MOVE_START_MS + computed * this.moveMs) < this.#recomputeMs(computed);
  }

  /** Learns from a step what a copy takes, if it parked or unparked enough and computed no prompt. */
  observe(load: StepLoad, parkedSlots: number, ms: number): void {
    if (parkedSlots < TELLING_SLOTS || load.chunkTokens > 0 || !this.#stepTime.settled) return;
    const without = copyLoad(this.#load, load);
    without.movedSlots -= parkedSlots;
    const slotMs = Math.max(0, ms - this.#stepTime.predict(without)) / parkedSlots;
    this.moveMs += WEIGHT * (slotMs - this.moveMs);
  }

  /** What so many tokens of a prompt add to the steps they ride in. */
  #recomputeMs(computed: number): number {
    const load = copyLoad(this.#load, NOTHING);
    const step = this.#stepTime.predict(load);
    addChunk(load, 0, computed);
    return this.#stepTime.predict(load) - step;
  }
}

const NOTHING: StepLoad = emptyLoad();
