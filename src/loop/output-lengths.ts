import type { Request } from './request.ts';

const REMEMBERED = 64; // requests

/** How long outputs become, as a share of what they may become: learnt from requests that ended. */
export class OutputLengths {
  #share = 1;

  /**
   * Of maxTokens; 1 if every output so far was as long as it could be. `caution`, from 0 to 1, takes it from what is
   * likely to what is possible.
   */
  share(caution = 0): number {
    return this.#share + (1 - this.#share) * caution;
  }

  /** A request that ended of itself. */
  observe(request: Request): void {
    this.#share += (request.generated / request.maxTokens - this.#share) / REMEMBERED;
  }
}
