export interface SearchLimits {
  /** Requests/s. */
  readonly least: number;
  readonly most: number;
  /** Of requests that must meet their targets, from 0 to 1. */
  readonly share: number;
  readonly probes: number;
}

export interface Probe {
  readonly rate: number;
  readonly attainment: number;
}

/**
 * Looks for the highest rate with enough attainment: from the top down, halving, as low rates take long; then always
 * halfway, as ratios go, between the highest rate that was well and the lowest that was not. Attainment is taken to
 * fall as the rate grows.
 */
export class CapacitySearch {
  readonly probes: Probe[] = [];
  #well = 0; // the highest rate that was
  #ill = Infinity; // the lowest rate that was not

  constructor(readonly limits: SearchLimits) {}

  /** The rate to try next; undefined when there is none. */
  get next(): number | undefined {
    const { least, most, probes } = this.limits;
    if (this.probes.length >= probes || this.#ill <= least || this.#well >= most) return undefined;
    if (this.#ill === Infinity) return most;
    return this.#well === 0 ? Math.max(least, this.#ill / 2) : Math.sqrt(this.#well * this.#ill);
  }

  /** 0 while no rate was well. */
  get capacity(): number {
    return this.#well;
  }

  tell(rate: number, attainment: number): void {
    this.probes.push({ rate, attainment });
    if (attainment >= this.limits.share) this.#well = Math.max(this.#well, rate);
    else this.#ill = Math.min(this.#ill, rate);
  }
}
