import type { DenseMap } from '../dense.ts';
import type { LoopState, Policy } from './policy.ts';

/**
 * Re-batching with prefill and decode decoupled. Prompts are computed alone, between decode steps, while the rows
 * stall; they wait in the prefilled pool, and are then embedded in the dense layout by copy, behind masked slots, so
 * that every row enters a step with exactly one token.
 *
 * The pool is filled when it has run dry, or has fewer than there are free rows: up to a quarter of all rows more than
 * are free, at least one, as long as their prompts go into one step (the last may go on in the next).
 */
export class BatonPd implements Policy {
  readonly keepsFinished = false;
  readonly givesWay = false; // rows lie in one layout

  constructor(readonly dense: DenseMap) {}

  admit({ admission, pool, batch }: LoopState): void {
    if (pool.waiting > 0 && pool.waiting >= batch.free) return;
    const most = batch.free + Math.max(1, batch.size >> 2);
    let behind = pool.behind;
    for (let waiting = pool.waiting; waiting < most && behind < batch.plan.room; waiting++) {
      const request = admission.admit();
      if (request === undefined) break;
      behind += request.behind - 1;
    }
  }

  plan({ pool, batch }: LoopState): void {
    const { plan } = batch;
    for (const request of pool.requests) {
      const count = Math.min(request.behind - 1, plan.room);
      if (!request.held && count > 0) plan.chunk(request, count);
    }
    if (plan.runCount > 0) return;
    const prefilled = pool.requests.filter((request) => !request.held).slice(0, batch.free);
    while (prefilled.length > 0 && !this.dense.embed(prefilled)) prefilled.length >>= 1; // who is alone always fits
    for (const request of prefilled) {
      pool.take(request);
      batch.embed(request);
    }
    batch.rows.forEach((request, row) => {
      if (!request.held) plan.decode(row, request);
    });
  }
}
