import { TILE } from '../arena.ts';
import type { LoopState, Policy } from './policy.ts';

/**
 * Decode rows and prefill chunks share every step. The pool is filled ahead of need, so that a row freed in one tick
 * is taken in the same tick, by reference: the span already lies in the arena.
 */
export class Relay implements Policy {
  readonly keepsFinished = false;

  /** @param chunkTokens prompt tokens that ride in a step for requests that no empty row waits for */
  constructor(readonly chunkTokens: number) {}

  admit({ admission, pool, batch }: LoopState): void {
    const room = batch.plan.room - batch.length;
    const budget = pool.ready < batch.free ? room : Math.min(room, this.chunkTokens);
    const most = batch.free + Math.max(2, batch.size >> 2);
    let behind = pool.behind;
    for (let waiting = pool.waiting; waiting < most && behind < budget; waiting++) {
      // A request that no row waits for must leave every row a tile to grow into.
      const request = admission.admit(waiting < batch.free ? 0 : batch.size * TILE);
      if (request === undefined) break;
      behind += request.behind;
    }
  }

  plan({ pool, batch }: LoopState): void {
    const { plan } = batch;
    for (let row = 0; row < batch.length; row++) {
      const request = batch.rows[row]!;
      if (!request.held) plan.decode(row, request);
    }
    for (let next; batch.free > 0 && (next = pool.next(plan.room)) !== undefined; ) {
      pool.take(next);
      plan.decode(batch.embed(next), next);
    }
    let empty = batch.free;
    let ahead = this.chunkTokens;
    for (const request of pool.requests) {
      if (request.held) continue;
      const wanted = empty-- > 0;
      const count = Math.min(request.behind - 1, plan.room, wanted ? plan.room : ahead);
      if (count <= 0) continue;
      plan.chunk(request, count);
      if (!wanted) ahead -= count;
    }
  }
}
