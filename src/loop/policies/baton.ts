import type { DenseMap } from '../dense.ts';
import type { Request } from '../request.ts';
import type { LoopState, Policy } from './policy.ts';

/**
 * Re-batching by vector shaping alone, in a dense layout. New requests and old rows are brought to one length by padding
 * on the left: those inserted together to the longest prompt of m tokens, so that every row enters the step with m, and
 * m − 1 of an old row's are padding, computed for nothing. While nobody is inserted a row has one token, and no padding.
 *
 * Where so many columns do not fit in a step, or their padding finds no slots, they are computed in several steps; the
 * old rows enter with padding only until the last. Where not even one column of padding finds slots, those who are to
 * be inserted wait, and the others go on, until enough of them have left.
 */
export class Baton implements Policy {
  readonly keepsFinished = false;

  constructor(readonly dense: DenseMap) {}

  /** Nobody joins an insertion under way: it would begin anew for all. */
  admit({ admission, pool, batch }: LoopState): void {
    if (pool.waiting > 0) return;
    while (pool.waiting < batch.free && admission.admit() !== undefined);
  }

  plan({ pool, batch }: LoopState): void {
    const { plan } = batch;
    const hole = this.dense.hole();
    const room = hole.end - hole.start;
    const rows = batch.rows.filter((request) => !request.held);
    const inserted = pool.requests.filter((request) => !request.held).slice(0, batch.free);
    let entering = [...rows, ...inserted];
    let columns = columnsOf(entering, plan.room, room);
    if (columns === 0) {
      entering = rows.length > 0 ? rows : inserted.slice(0, 1); // who enters alone needs no padding
      columns = columnsOf(entering, plan.room, room);
    }
    const longest = longestOf(entering);
    const pad = (request: Request): number => {
      const padding = paddingOf(request, columns, longest);
      const masked = request.span!.masked >= padding;
      if (padding > 0) plan.pad(masked ? request.span!.offset : hole.start, padding);
      if (!masked) hole.start += padding;
      return padding;
    };
    if (columns < longest) {
      for (const request of entering) {
        const padding = pad(request);
        if (padding < columns) plan.chunk(request, columns - padding);
      }
      return;
    }
    for (const request of entering.slice(rows.length)) {
      pool.take(request);
      batch.embed(request);
    }
    batch.rows.forEach((request, row) => {
      if (request.held) return;
      pad(request);
      plan.decode(row, request);
    });
  }
}

function longestOf(requests: readonly Request[]): number {
  return requests.reduce((most, { behind }) => Math.max(most, behind), 0);
}

/** The most columns of a step of so many tokens whose padding finds slots; none if there are no requests. */
function columnsOf(requests: readonly Request[], tokens: number, slots: number): number {
  const longest = longestOf(requests);
  let columns = Math.min(longest, Math.floor(tokens / requests.length));
  while (columns > 0 && strayPadding(requests, columns, longest) > slots) columns--;
  return columns;
}

/** How many of the next columns, of so many that the longest has left, are padding in the row of a request. */
function paddingOf(request: Request, columns: number, longest: number): number {
  return Math.min(columns, longest - request.behind);
}

/** Padding that the masked slots of its own row are too few for. */
function strayPadding(requests: readonly Request[], columns: number, longest: number): number {
  return requests.reduce((sum, request) => {
    const padding = paddingOf(request, columns, longest);
    return request.span!.masked >= padding ? sum : sum + padding;
  }, 0);
}
