import type { LoopState, Policy } from './policy.ts';

/**
 * Iteration-level scheduling: a row that is free is given away at once, and the whole prompt of who gets it is computed
 * in the same step as the tokens of the other rows, without padding. The rows wait for the prompt: that is its price.
 *
 * A prompt that does not fit beside earlier ones waits for the next step. One that fits no step at all is computed in
 * as many as it needs.
 */
export class Orca implements Policy {
  readonly keepsFinished = false;
  readonly givesWay = true;

  admit({ admission, pool, batch }: LoopState): void {
    while (pool.waiting < batch.free && admission.admit() !== undefined);
  }

  plan({ pool, batch }: LoopState): void {
    const { plan } = batch;
    batch.rows.forEach((request, row) => {
      if (!request.held) plan.decode(row, request);
    });
    const most = plan.room;
    for (const request of pool.requests.slice()) {
      if (request.held) continue;
      if (batch.free === 0 || plan.room === 0) break;
      if (request.behind <= plan.room) {
        pool.take(request);
        plan.decode(batch.embed(request), request);
      } else if (request.behind > most) {
        plan.chunk(request, Math.min(request.behind - 1, plan.room));
      } else {
        break;
      }
    }
  }
}
