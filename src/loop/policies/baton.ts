import type { DenseMap } from '../dense.ts';
import type { Request } from '../request.ts';
import type { LoopState, Policy } from './policy.ts';

/**
 * Re-batching by vector shaping alone, in a dense layout. New requests and old rows are brought to one length by
 * padding on the left: to the longest prompt of those inserted together, m tokens, so that every row enters the step
 * with m, and m − 1 of an old row's are padding, computed for nothing. While nobody is inserted a row has one token.
 *
 * Where so many columns do not fit in a step, or their padding finds no slots, they are computed in several steps; old
 * rows enter with padding only until the last. Where not even one column finds slots for its padding, those who are to
 * be inserted wait, and the rows go on, until enough of them have left.
 */
export class Baton implements Policy {
  readonly keepsFinished = false;
  readonly givesWay = false; // rows lie in one layout

  constructor(readonly dense: DenseMap) {}

  /** Nobody joins an insertion under way: it would begin anew for all. */
  admit({ admission, pool, batch }: LoopState): void {
    if (pool.waiting > 0) return;
    while (pool.waiting < batch.free && admission.admit() !== undefined);
  }

  plan(state: LoopState): void {
    const { pool, batch } = state;
    const { plan } = batch;
    const inserted = pool.requests.filter((request) => !request.held).slice(0, batch.free);
    if (inserted.length > 0 && this.#insert(inserted, state)) return;
    batch.rows.forEach((request, row) => {
      if (!request.held) plan.decode(row, request);
    });
    // Who enters alone needs no padding, so this never fails.
    if (plan.runCount === 0 && inserted.length > 0) this.#insert(inserted.slice(0, 1), state);
  }

  /** Plans the next columns of an insertion; false if there are no slots for the padding of one. */
  #insert(inserted: readonly Request[], { pool, batch }: LoopState): boolean {
    const { plan } = batch;
    const entering = [...batch.rows.filter((request) => !request.held), ...inserted];
    const longest = entering.reduce((most, { behind }) => Math.max(most, behind), 0);
    const hole = this.dense.hole();
    let columns = Math.min(longest, Math.floor(plan.room / entering.length));
    while (columns > 0 && strayPadding(entering, columns, longest) > hole.end - hole.start) columns--;
    if (columns === 0) return false;

    const pad = (request: Request): number => {
      const padding = paddingOf(request, columns, longest);
      const { offset, masked } = request.span!;
      if (padding > 0) plan.pad(masked < padding ? hole.start : offset, padding);
      if (masked < padding) hole.start += padding;
      return padding;
    };
    if (columns < longest) {
      for (const request of entering) {
        const padding = pad(request);
        if (padding < columns) plan.chunk(request, columns - padding);
      }
      return true;
    }
    for (const request of inserted) {
      pool.take(request);
      batch.embed(request);
    }
    batch.rows.forEach((request, row) => {
      if (request.held) return;
      pad(request);
      plan.decode(row, request);
    });
    return true;
  }
}

/** How many of the next columns, of so many that the longest is behind, are padding in the row of a request. */
function paddingOf(request: Request, columns: number, longest: number): number {
  return Math.min(columns, longest - request.behind);
}

/** Padding of rows whose own masked slots are too few for it. */
function strayPadding(requests: readonly Request[], columns: number, longest: number): number {
  return requests.reduce((sum, request) => {
    const padding = paddingOf(request, columns, longest);
    return request.span!.masked < padding ? sum + padding : sum;
  }, 0);
}
