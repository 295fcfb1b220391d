import { tiled } from './arena.ts';
import type { Request } from './request.ts';

const BUCKETS = 256;

/**
 * The most slots that some requests will hold at one time, if each grows by a token per step until its expected end.
 * Ends are told apart in so many classes, so adding one costs the same however many there are.
 */
export class Forecast {
  readonly #width: number; // steps
  readonly #count = new Int32Array(BUCKETS);
  readonly #slots = new Float64Array(BUCKETS);
  #most = 0;

  /** @param context most steps that any request goes on */
  constructor(context: number) {
    this.#width = Math.ceil((context + 1) / BUCKETS);
  }

  clear(): void {
    this.#count.fill(0);
    this.#slots.fill(0);
    this.#most = 0;
  }

  add(request: Request, remaining: number): void {
    const bucket = Math.floor(remaining / this.#width);
    this.#count[bucket]!++;
    this.#slots[bucket]! += tiled(request.length);
    this.#most += tiled(request.limit);
  }

  remove(request: Request, remaining: number): void {
    const bucket = Math.floor(remaining / this.#width);
    this.#count[bucket]!--;
    this.#slots[bucket]! -= tiled(request.length);
    this.#most -= tiled(request.limit);
  }

  /** Whether that is no more than a share of `slots`, or no more than all of them whatever becomes of the requests. */
  fits(slots: number, share: number): boolean {
    if (this.#most <= slots) return true;
    let count = 0;
    let held = 0;
    for (let bucket = BUCKETS - 1; bucket >= 0; bucket--) {
      count += this.#count[bucket]!;
      held += this.#slots[bucket]!;
      // When those of this bucket are about to end, those of later ones are still there, and all have grown.
      if (held + count * bucket * this.#width > share * slots) return false;
    }
    return true;
  }
}
