import { EngineError } from '../errors.ts';
import { type KvArena, tiled } from './arena.ts';
import type { Batch } from './batch.ts';
import type { PrefilledPool } from './pool.ts';
import type { Prefixes } from './prefixes.ts';
import type { Queue } from './queue.ts';
import type { Request } from './request.ts';

/** `reserve`: a span for the whole length at once, never taken back. `optimistic`: for what there is, growing. */
export type AdmissionMode = 'optimistic' | 'reserve';

export interface AdmissionLimits {
  readonly context: number;
  readonly queueRequests: number;
  readonly queueTokens: number;
}

/** Who may hold a span: into the arena by `admit`, out of it by `retire`, and by `preempt` when it runs short. */
export class Admission {
  preemptions = 0;
  #admissions = 0;

  constructor(
    readonly mode: AdmissionMode,
    readonly limits: AdmissionLimits,
    readonly arena: KvArena,
    readonly queue: Queue,
    readonly pool: PrefilledPool,
    readonly batch: Batch,
    /** None: everybody computes all of their tokens. */
    readonly prefixes?: Prefixes | undefined,
  ) {}

  /** Takes a request into the queue, or throws: what can never run and what the queue has no room for is refused. */
  add(request: Request): void {
    const { context, queueRequests, queueTokens } = this.limits;
    const { promptLength, maxTokens, limit } = request;
    if (promptLength === 0) throw new EngineError('INVALID_ARGUMENT', 'prompt: expected at least one token, got none');
    if (!Number.isInteger(maxTokens) || maxTokens < 1) {
      throw new EngineError('INVALID_ARGUMENT', `maxTokens: expected an integer from 1, got ${maxTokens}`);
    }
    const length = `${promptLength} prompt tokens + maxTokens ${maxTokens}`;
    if (limit > context) throw new EngineError('TOO_LONG', `${length}: expected at most the context of ${context}`);
    if (limit > this.arena.slots) {
      throw new EngineError('TOO_LONG', `${length}: expected at most the arena's ${this.arena.slots} slots`);
    }
    if (promptLength > queueTokens) {
      throw new EngineError('TOO_LONG', `${length}: expected a prompt of at most queueTokens ${queueTokens}`);
    }
    if (this.queue.length >= queueRequests) {
      throw new EngineError('QUEUE_FULL', `queue: expected fewer than ${queueRequests} requests waiting`);
    }
    if (this.queue.promptTokens + promptLength > queueTokens) {
      throw new EngineError(
        'QUEUE_FULL',
        `queue: expected at most ${queueTokens} prompt tokens, got ${this.queue.promptTokens} + ${promptLength}`,
      );
    }
    this.queue.add(request);
  }

  /** The queue's next request, with a span, into the pool; undefined unless that leaves `spare` slots free. */
  admit(spare = 0): Request | undefined {
    const request = this.queue.peek();
    if (request === undefined) return undefined;
    const wish = tiled(request.limit);
    const slots = this.mode === 'reserve' ? wish : tiled(request.length);
    if (this.arena.free < slots + (this.mode === 'reserve' ? 0 : spare)) return undefined;
    const span = (this.prefixes ?? this.arena).allocate(request, slots, wish);
    if (span === undefined) return undefined;
    this.queue.take(request);
    request.span = span;
    request.admission = ++this.#admissions;
    this.pool.add(request);
    return request;
  }

  /** Gives every row that will decode the slots for it; who must make room goes back to the queue. */
  extend(): void {
    // From the last row: a preempted row is filled by the last one, which has had its turn.
    for (let row = this.batch.length - 1; row >= 0; row--) {
      const request = this.batch.rows[row];
      if (request === undefined || request.ending || request.held) continue;
      const slots = tiled(request.length);
      while (request.span !== undefined && !this.arena.grow(request.span, slots)) this.#makeRoom(request);
    }
  }

  /** Takes the span of the request that can best do without, if another is left; tests force it. */
  preemptOne(): void {
    const active = [...this.pool.requests, ...this.batch.rows.filter((request) => !request.ending)];
    if (active.length > 1) this.preempt(active.reduce((worst, one) => (yields(one, worst) ? one : worst)));
  }

  /**
   * Back to the front of the queue. What it computed is computed again: its tokens do not change by it. One that is
   * being drawn reaches it there, in this same tick: before the next, in which it may be admitted again.
   */
  preempt(request: Request): void {
    const row = this.batch.rows.indexOf(request);
    if (row >= 0) this.batch.retire(row);
    else this.pool.take(request);
    this.release(request);
    request.computed = 0;
    this.queue.addFirst(request);
    this.preemptions++;
  }

  release(request: Request): void {
    if (request.span === undefined) return;
    if (this.prefixes === undefined) this.arena.release(request.span);
    else this.prefixes.release(request);
    request.span = undefined;
  }

  /**
   * Frees one span for `request`: of an ending row that only keeps its place, else of the lowest priority, most
   * recently admitted other; its own if all others have a higher priority.
   */
  #makeRoom(request: Request): void {
    const { pool, batch } = this;
    const dead = batch.rows.findIndex((one) => one.ending);
    if (dead >= 0) {
      this.release(batch.rows[dead]!);
      batch.retire(dead);
      return;
    }
    let victim: Request | undefined;
    for (const place of [pool.requests, batch.rows]) {
      for (const one of place) if (one !== request && (victim === undefined || yields(one, victim))) victim = one;
    }
    if (victim === undefined) throw new EngineError('INTERNAL', `request ${request.id}: alone, and the arena is full`);
    this.preempt(victim.priority > request.priority ? request : victim);
  }
}

/** Whether `one` goes before `other` when somebody must go. */
function yields(one: Request, other: Request): boolean {
  return one.priority === other.priority ? one.admission > other.admission : one.priority < other.priority;
}
