import type { Request } from './request.ts';

const BUCKETS = 256;

/** Tokens a request is expected to be given yet, at least 1, if outputs reach this share of what they may. */
export function remainingTokens(request: Request, share: number): number {
  return Math.max(1, Math.ceil(share * (request.limit - request.length)));
}

/**
 * The most slots that some requests will hold at one time, if each grows by a token per step until its expected end.
 * Ends are told apart in so many classes, so asking costs the same however many there are.
 */
export class Forecast {
  readonly #width: number; // steps
  readonly #count = new Int32Array(BUCKETS);
  readonly #slots = new Float64Array(BUCKETS);

  /** @param context most steps that any request goes on */
  constructor(context: number) {
    this.#width = Math.ceil((context + 1) / BUCKETS);
  }

  clear(): void {
    this.#count.fill(0);
    this.#slots.fill(0);
  }

  /** One that holds so many slots, and goes on for so many steps. */
  add(slots: number, steps: number): void {
    const bucket = Math.floor(steps / this.#width);
    this.#count[bucket]!++;
    this.#slots[bucket]! += slots;
  }

  remove(slots: number, steps: number): void {
    const bucket = Math.floor(steps / this.#width);
    this.#count[bucket]!--;
    this.#slots[bucket]! -= slots;
  }

  most(): number {
    let count = 0;
    let held = 0;
    let most = 0;
    for (let bucket = BUCKETS - 1; bucket >= 0; bucket--) {
      count += this.#count[bucket]!;
      held += this.#slots[bucket]!;
      // When those of this bucket are about to end, those of later ones are still there, and all have grown.
      most = Math.max(most, held + count * bucket * this.#width);
    }
    return most;
  }
}
