import type { Request } from './request.ts';

/**
 * Admitted requests without a row: their prompt is being computed, or is computed up to its last token and waits.
 * In the order of their turns; among equals, of admission.
 */
export class PrefilledPool {
  readonly requests: Request[] = [];

  get length(): number {
    return this.requests.length;
  }

  /** Requests that a row would help, now or soon: those that no reader holds. */
  get waiting(): number {
    let count = 0;
    for (const request of this.requests) if (request.following || !request.held) count++;
    return count;
  }

  /** Those that may run, and need no more than a row. */
  get ready(): number {
    let count = 0;
    for (const request of this.requests) if (mayRun(request) && request.behind === 1) count++;
    return count;
  }

  /** Tokens still to be computed for them without a row. */
  get behind(): number {
    let tokens = 0;
    for (const request of this.requests) if (!request.held) tokens += request.behind - 1;
    return tokens;
  }

  add(request: Request): void {
    let at = this.requests.length;
    while (at > 0 && this.requests[at - 1]!.turn > request.turn) at--;
    this.requests.splice(at, 0, request);
  }

  /**
   * The request to be given a row by a step that can compute `tokens` more: the first of those it could bring up to
   * date; but a prefilled one before others that are not clearly ahead of it.
   */
  next(tokens: number): Request | undefined {
    let next: Request | undefined;
    for (const request of this.requests) {
      if (!mayRun(request) || request.behind > tokens) continue;
      if (next?.outranks(request)) break;
      if (request.behind === 1) return request;
      next ??= request;
    }
    return next;
  }

  take(request: Request): void {
    this.requests.splice(this.requests.indexOf(request), 1);
  }

  /** Drops finished requests, and returns them. */
  retire(): readonly Request[] {
    const gone: Request[] = [];
    let kept = 0;
    for (const request of this.requests) {
      if (request.finished) gone.push(request);
      else this.requests[kept++] = request;
    }
    this.requests.length = kept;
    return gone;
  }
}

/** Whose row was taken back may still be drawn in it: the next step must know that token. */
function mayRun({ held, drawing }: Request): boolean {
  return !held && drawing === 0;
}
