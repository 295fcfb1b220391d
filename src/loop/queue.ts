import type { Request } from './request.ts';

/**
 * Requests waiting for prefill, in the order of their turns; among equals, the oldest first.
 *
 * Nobody starves: one of priority P, added at time T, comes before every one of priority H that is added after
 * T + (H − P) × agingMs. With H the highest priority in use, who may pass it is known by then, whatever comes later.
 */
export class Queue {
  readonly #waiting: Request[] = [];
  #promptTokens = 0;
  #drained = 0;

  get length(): number {
    return this.#waiting.length;
  }

  get promptTokens(): number {
    return this.#promptTokens;
  }

  /** Requests taken since the last was added. */
  get drained(): number {
    return this.#drained;
  }

  /** Requests that are not held, counted up to `most`. */
  waiting(most: number): number {
    let count = 0;
    for (let i = 0; i < this.#waiting.length && count < most; i++) if (!this.#waiting[i]!.held) count++;
    return count;
  }

  /** Those that are parked. */
  get parked(): number {
    let count = 0;
    for (const request of this.#waiting) if (request.span !== undefined) count++;
    return count;
  }

  add(request: Request): void {
    this.#drained = 0;
    this.#insert(this.#count((turn) => turn <= request.turn), request);
  }

  /** Takes a preempted request back, ahead of its equals. */
  addFirst(request: Request): void {
    this.#insert(this.#count((turn) => turn < request.turn), request);
  }

  /** The next to be admitted; it stays until taken. */
  peek(): Request | undefined {
    return this.#waiting.find((request) => !request.held);
  }

  /** Those who wait, in order. */
  at(index: number): Request | undefined {
    return this.#waiting[index];
  }

  take(request: Request): void {
    this.#drained++;
    this.#waiting.splice(this.#waiting.indexOf(request), 1);
    this.#promptTokens -= request.promptLength;
  }

  /** Drops finished requests, and returns them. */
  retire(): readonly Request[] {
    const gone: Request[] = [];
    let kept = 0;
    for (const request of this.#waiting) {
      if (request.finished) gone.push(request);
      else this.#waiting[kept++] = request;
    }
    this.#waiting.length = kept;
    for (const { promptLength } of gone) this.#promptTokens -= promptLength;
    return gone;
  }

  [Symbol.iterator](): Iterator<Request> {
    return this.#waiting[Symbol.iterator]();
  }

  #insert(at: number, request: Request): void {
    this.#waiting.splice(at, 0, request);
    this.#promptTokens += request.promptLength;
  }

  /** How many stand before the first whose turn does not pass. */
  #count(passes: (turn: number) => boolean): number {
    let low = 0;
    let high = this.#waiting.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (passes(this.#waiting[middle]!.turn)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
