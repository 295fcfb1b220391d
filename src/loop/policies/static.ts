import type { LoopState, Policy } from './policy.ts';

/** Run to completion: fill all rows, prefill them, decode until every one is done. The baseline that others beat. */
export class Static implements Policy {
  readonly keepsFinished = true;
  readonly givesWay = true;

  admit({ admission, pool, batch }: LoopState): void {
    if (batch.length > 0 || pool.requests.some((request) => !request.held)) return;
    while (pool.length < batch.size && admission.admit() !== undefined);
  }

  plan({ pool, batch }: LoopState): void {
    const { plan } = batch;
    if (batch.length === 0) {
      for (const request of pool.requests) {
        if (!request.held && request.behind > 1) plan.chunk(request, Math.min(request.behind - 1, plan.room));
        if (plan.room === 0) break;
      }
      if (plan.runCount > 0) return;
      for (let next; batch.free > 0 && (next = pool.next(1)) !== undefined; ) {
        pool.take(next);
        batch.embed(next);
      }
    }
    if (batch.rows.every((request) => request.ending || request.held)) return;
    batch.rows.forEach((request, row) => {
      if (request.ending) plan.dead(row, request);
      else if (!request.held) plan.decode(row, request);
    });
  }
}
