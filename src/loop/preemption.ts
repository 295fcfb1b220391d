import type { Plan } from './plan.ts';

/** Whether a preempted request is parked in host memory or computed again. */
export type PreemptionChoice = 'park' | 'recompute';

/** What the two ways of preempting cost. */
export interface PreemptionCosts {
  /** Milliseconds to compute one token again. */
  readonly prefillMs: number;
  /** Milliseconds to copy one slot to host memory, or from there. */
  readonly moveMs: number;
}

/**
 * Milliseconds that a copy takes however short it is. On the CPU two copies of 4 to 16 slots cost at most 0.1 ms, and
 * often nothing that could be told (model tales, 2-core AMX Xeon, 2026-11-23); on a GPU not measured.
 */
export const MOVE_START_MS = 0.04;

/** Parking copies every computed slot out and in; the other way computes every one of them once more. */
export function parkingPays(computed: number, { prefillMs, moveMs }: PreemptionCosts): boolean {
  return 2 * (MOVE_START_MS + computed * moveMs) < computed * prefillMs;
}

const HOST_BYTES_PER_MS = 5e6; // of a slow bus, until copies have been measured
const TELLING_TOKENS = 16; // fewer say nothing about one, beside a step's own ups and downs
const WEIGHT = 0.2; // of the latest measurement

/** Both costs, estimated from what steps have taken beyond those that only decoded. */
export class MeasuredCosts implements PreemptionCosts {
  prefillMs = Infinity; // until a prompt has been computed
  moveMs: number;
  #decodeMs = 0; // until measured: prompts then seem dearer than they are, and requests are parked

  constructor(slotBytes: number) {
    this.moveMs = slotBytes / HOST_BYTES_PER_MS;
  }

  step(ms: number, { tokenCount, runCount, parkedSlots }: Plan): void {
    const tokens = tokenCount - runCount; // beyond one per run
    const more = Math.max(0, ms - this.#decodeMs);
    if (tokens === 0 && parkedSlots === 0) this.#decodeMs = mixed(this.#decodeMs || ms, ms);
    else if (tokens >= TELLING_TOKENS && parkedSlots === 0) this.prefillMs = mixed(this.prefillMs, more / tokens);
    else if (parkedSlots >= TELLING_TOKENS && tokens === 0) this.moveMs = mixed(this.moveMs, more / parkedSlots);
  }
}

function mixed(mean: number, latest: number): number {
  return mean === Infinity ? latest : mean + WEIGHT * (latest - mean);
}
