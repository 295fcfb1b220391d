import { EngineError } from '../errors.ts';
import { tiled } from './arena.ts';
import type { Batch } from './batch.ts';
import type { KvMap } from './kv-map.ts';
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
  admissions = 0;
  preemptions = 0;
  /** Preemptions by parking; the other requests were or will be computed again. */
  parks = 0;
  readonly #stalled: Request[] = [];
  #refused: { readonly request: Request; readonly slots: number } | undefined; // in this tick, for want of memory

  constructor(
    readonly mode: AdmissionMode,
    readonly limits: AdmissionLimits,
    readonly arena: KvMap,
    readonly queue: Queue,
    readonly pool: PrefilledPool,
    readonly batch: Batch,
    /** Whether it is better to park so many computed tokens than to compute them again. */
    readonly parkingPays: (computed: number) => boolean,
    /** None: everybody computes all of their tokens. */
    readonly prefixes?: Prefixes | undefined,
  ) {}

  /** Takes a request into the queue, or throws: what can never run and what the queue has no room for is refused. */
  add(request: Request): void {
    const { context } = this.limits;
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
    this.expect(1, promptLength);
    this.queue.add(request);
  }

  /** Throws unless the queue has room for so many requests, each with at least so many prompt tokens. */
  expect(requests: number, promptTokens: number): void {
    const { queueRequests, queueTokens } = this.limits;
    const { length, promptTokens: waiting } = this.queue;
    if (promptTokens > queueTokens) {
      const message = `prompt: expected at most queueTokens ${queueTokens}, got ${promptTokens} or more`;
      throw new EngineError('TOO_LONG', message);
    }
    if (length + requests > queueRequests) {
      const message = `queue: expected at most ${queueRequests} requests, got ${length} + ${requests}`;
      throw new EngineError('QUEUE_FULL', message);
    }
    if (waiting + requests * promptTokens > queueTokens) {
      const more = requests * promptTokens;
      const message = `queue: expected at most ${queueTokens} prompt tokens, got ${waiting} + ${more}`;
      throw new EngineError('QUEUE_FULL', message);
    }
  }

  /** One of the queue, the next unless told, into the pool with a span; undefined unless `spare` slots stay free. */
  admit(spare = 0, request = this.queue.peek()): Request | undefined {
    if (request === undefined) return undefined;
    const wish = tiled(request.limit);
    const slots = this.mode === 'reserve' ? wish : tiled(request.length);
    const needed = slots + (this.mode === 'reserve' ? 0 : spare);
    const enough = this.arena.free >= needed;
    if (!enough || !this.#place(request, slots, wish)) {
      // If enough is free, once the pending moves are taken there may be a place.
      if (!enough || !this.arena.moving) this.#refused = { request, slots };
      return undefined;
    }
    this.queue.take(request);
    request.admission = ++this.admissions;
    this.pool.add(request);
    return request;
  }

  #place(request: Request, slots: number, wish: number): boolean {
    if (request.span !== undefined) {
      if (!this.arena.unpark(request.span, slots)) return false;
      this.prefixes?.enter(request);
      return true;
    }
    request.span = (this.prefixes ?? this.arena).allocate(request, slots, wish);
    return request.span !== undefined;
  }

  /** Gives every row that will decode the slots for it; who must make room goes back to the queue. */
  extend(): void {
    this.#refused = undefined; // in the tick before
    // From the last row: a preempted row is filled by the last one, which has had its turn.
    for (let row = this.batch.length - 1; row >= 0; row--) {
      const request = this.batch.rows[row];
      if (request === undefined || request.ending || request.held) continue;
      const { masked, capacity } = request.span!;
      if (masked + request.length <= capacity) continue;
      const slots = tiled(request.length);
      while (request.span !== undefined && !this.arena.grow(request.span, slots)) {
        // Enough is free, though this plan's moves still read it.
        if (this.arena.moving && this.arena.free >= slots - request.span.capacity) {
          request.stalled = true;
          this.#stalled.push(request);
          break;
        }
        this.#makeRoom(request);
      }
    }
  }

  /** Once the step is planned. */
  unstall(): void {
    for (const request of this.#stalled.splice(0)) request.stalled = false;
  }

  /** Takes the span of the request that can best do without, if another is left; tests force it. */
  preemptOne(): void {
    const active = this.#active();
    if (active.length > 1) this.preempt(active.reduce(later));
  }

  /**
   * For the one that was refused for want of memory: takes the span of the first to give way to it, if all that do give
   * way would do. It may be the last active one: the other is admitted in its place.
   */
  preemptFor(): void {
    if (this.#refused === undefined || this.mode === 'reserve') return;
    const { request, slots } = this.#refused;
    const active = this.#active();
    let free = this.arena.free;
    for (const one of active) if (givesWay(one, request)) free += one.span!.capacity;
    const victim = firstToGiveWay(active, request);
    if (victim !== undefined && free >= slots) this.preempt(victim);
  }

  /**
   * When no row is to be had: for the request of the pool that could take one now, the row of the first to give way to
   * it, which keeps its span and waits in the pool, unless that has no slot for its next token.
   */
  takeRow(full: () => boolean): void {
    if (!full()) return;
    const { pool, batch } = this;
    const next = pool.next(batch.plan.room - batch.length + 1);
    const victim = next === undefined ? undefined : firstToGiveWay(batch.rows, next);
    if (victim === undefined) return;
    if (victim.length > victim.span!.capacity) return this.preempt(victim); // in the pool nobody grows
    batch.retire(batch.rows.indexOf(victim));
    pool.add(victim);
    this.preemptions++;
  }

  /**
   * Back to its place in the queue, in front of its equals, to go on with exactly the same tokens: parked or, if that
   * costs more or no host memory is left, to be computed again. One that is being drawn is given that token there, in
   * this same tick: before the next, in which it may be admitted again. What is parked has the steps on their way in
   * it.
   */
  preempt(request: Request): void {
    const row = this.batch.rows.indexOf(request);
    if (row >= 0) this.batch.retire(row);
    else this.pool.take(request);
    if (this.parkingPays(request.computed) && this.arena.park(request.span!)) {
      this.prefixes?.leave(request);
      this.parks++;
    } else {
      this.release(request);
      request.computed = 0;
    }
    this.queue.addFirst(request);
    this.preemptions++;
  }

  release(request: Request): void {
    if (request.span === undefined) return;
    if (this.prefixes === undefined) this.arena.release(request.span);
    else this.prefixes.release(request);
    request.span = undefined;
  }

  /** Those that have a span and a use for it. */
  #active(): Request[] {
    return [...this.pool.requests, ...this.batch.rows.filter((request) => !request.ending)];
  }

  /**
   * Frees a span for `request`: of an ending row that only keeps its place, else of the last in turn, be it its own.
   * Among equals that is the most recently admitted.
   */
  #makeRoom(request: Request): void {
    const { pool, batch } = this;
    const dead = batch.rows.findIndex((one) => one.ending);
    if (dead >= 0) {
      this.release(batch.rows[dead]!);
      batch.retire(dead);
      return;
    }
    if (pool.length + batch.length === 1) {
      throw new EngineError('INTERNAL', `request ${request.id}: alone, and the arena is full`);
    }
    this.preempt(this.#active().reduce(later));
  }
}

/** Whether what `one` has may be taken from it for `other`: its reader keeps it waiting, or it is outranked. */
function givesWay(one: Request, other: Request): boolean {
  return !one.ending && (isHeld(one) || other.outranks(one));
}

/** Who is held goes before who is not, and then the last in turn. */
function firstToGiveWay(requests: readonly Request[], other: Request): Request | undefined {
  let victim: Request | undefined;
  for (const one of requests) {
    if (!givesWay(one, other)) continue;
    const sooner = victim === undefined || (isHeld(one) === isHeld(victim) ? later(one, victim) === one : isHeld(one));
    if (sooner) victim = one;
  }
  return victim;
}

function isHeld(request: Request): boolean {
  return request.held && !request.stalled;
}

/** Which of two goes when somebody must go. */
function later(one: Request, other: Request): Request {
  if (one.turn !== other.turn) return one.turn > other.turn ? one : other;
  return one.admission > other.admission ? one : other;
}
