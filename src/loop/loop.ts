import { EngineError, fromNative } from '../errors.ts';
import { type NativeEngine, RUN_FIELDS, type StepResult, TOP_LOGPROBS } from '../native.ts';
import { Admission, type AdmissionMode } from './admission.ts';
import { type ArenaStats, KvArena } from './arena.ts';
import { Batch } from './batch.ts';
import { type IdleStats, Metrics, type StepTimes } from './metrics.ts';
import { Plan } from './plan.ts';
import type { LoopState, Policy } from './policies/policy.ts';
import { Relay } from './policies/relay.ts';
import { Static } from './policies/static.ts';
import { PrefilledPool } from './pool.ts';
import { Queue } from './queue.ts';
import type { FinishReason, Request } from './request.ts';
import { stopReason } from './stop.ts';

export type { FinishReason } from './request.ts';

const POLICIES = {
  relay: (chunkTokens: number): Policy => new Relay(chunkTokens),
  static: (): Policy => new Static(),
};

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as readonly PolicyName[];

// Prompt tokens that ride in a step while every row is busy. Constant until steps are predicted in time.
const CHUNK_TOKENS = 32;

const NO_ALTERNATIVES: SampledToken['top'] = [];

/** One token and its log-probability. The loop fills the same record for every token: copy what is to be kept. */
export interface SampledToken {
  readonly token: number;
  readonly logprob: number;
  /** Most likely first; empty unless the request asked for log-probabilities. Made for this token, may be kept. */
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

/** What the rows did in one step: a column of the rows × time picture. Made for this step, may be kept. */
export interface StepRecord {
  readonly step: number;
  readonly ms: number;
  readonly rows: Int32Array; // [rows] id of the row's request; −1: empty; −2 − id: finished, computed for nothing
  readonly chunkTokens: number;
}

export interface LoopOptions {
  readonly rows: number;
  /** Most tokens of one request. */
  readonly context: number;
  /** Most tokens of one step. */
  readonly stepTokens: number;
  readonly policy: PolicyName;
  readonly admission: AdmissionMode;
  readonly queueRequests: number;
  readonly queueTokens: number;
  readonly chunkTokens?: number;
  /** Verifies every invariant after every tick. */
  readonly check?: boolean;
  /** Forces a preemption every so many steps. */
  readonly preemptEvery?: number;
  /** One line per tick. */
  readonly trace?: ((line: string) => void) | undefined;
  /** Milliseconds; only differences matter. */
  readonly now?: () => number;
  readonly onToken: (request: Request, sampled: SampledToken) => void;
  /** Once per request, with the error if the reason is 'error'. */
  readonly onFinish: (request: Request, reason: FinishReason, error?: EngineError) => void;
  readonly onStep?: ((record: StepRecord) => void) | undefined;
}

export interface LoopStats {
  readonly rows: number;
  readonly rowsUsed: number;
  readonly queued: number;
  readonly pooled: number;
  readonly parked: number;
  readonly arena: ArenaStats;
  readonly steps: number;
  readonly tokens: { readonly prompt: number; readonly generated: number };
  readonly idle: IdleStats;
  readonly movedSlots: number;
  readonly preemptions: number;
  readonly stepMs: StepTimes;
}

/**
 * Runs requests through the native engine: `while (!loop.idle) await loop.tick()`. Every callback comes from inside
 * tick() or fail(), and may add, abort or stop requests. A tick that fails has failed every request first.
 */
export class Loop {
  readonly native: NativeEngine;
  readonly options: LoopOptions;
  readonly policy: Policy;
  readonly arena: KvArena;
  readonly queue = new Queue();
  readonly pool = new PrefilledPool();
  readonly batch: Batch;
  readonly admission: Admission;
  readonly metrics = new Metrics();
  readonly #plan: Plan;
  readonly #state: LoopState;
  readonly #result: StepResult;
  readonly #sampled = { token: 0, logprob: 0, top: NO_ALTERNATIVES };
  readonly #use = { used: 0, empty: 0, stalled: 0 };
  readonly #gone: Request[] = []; // finished, and not yet told so
  readonly #now: () => number;
  readonly #move: (from: number, to: number, slots: number) => void;
  readonly #wake = () => this.#awake?.();
  #awake: (() => void) | undefined; // set while tick() sleeps
  #leaving = false; // something in queue, pool or batch has finished since retire last looked
  #ticking = false;
  #failure: EngineError | undefined;

  constructor(native: NativeEngine, options: LoopOptions) {
    const { rows, stepTokens, context, queueRequests, queueTokens, chunkTokens = CHUNK_TOKENS } = options;
    const counts = { rows, stepTokens, context, queueRequests, queueTokens, chunkTokens };
    for (const [name, value] of Object.entries(counts)) {
      if (Number.isInteger(value) && value >= 1) continue;
      throw new EngineError('INVALID_OPTION', `${name}: expected an integer from 1, got ${value}`);
    }
    if (stepTokens < rows) {
      throw new EngineError('INVALID_OPTION', `stepTokens: expected at least one per row, ${rows}, got ${stepTokens}`);
    }
    if (!Object.hasOwn(POLICIES, options.policy)) {
      throw new EngineError('INVALID_OPTION', `policy: expected ${POLICY_NAMES.join(' or ')}, got ${options.policy}`);
    }
    if (options.admission !== 'optimistic' && options.admission !== 'reserve') {
      const message = `admission: expected optimistic or reserve, got ${String(options.admission)}`;
      throw new EngineError('INVALID_OPTION', message);
    }
    this.native = native;
    this.options = options;
    this.policy = POLICIES[options.policy](chunkTokens);
    this.arena = new KvArena(native.slots);
    this.#plan = new Plan({ rows, stepTokens, slots: native.slots });
    this.batch = new Batch(rows, this.#plan);
    this.admission = new Admission(options.admission, options, this.arena, this.queue, this.pool, this.batch);
    this.#state = { admission: this.admission, pool: this.pool, batch: this.batch, plan: this.#plan };
    this.#result = {
      sampled: new Int32Array(rows),
      logprobs: new Float32Array(rows),
      topTokens: new Int32Array(rows * TOP_LOGPROBS),
      topLogprobs: new Float32Array(rows * TOP_LOGPROBS),
    };
    this.#now = options.now ?? (() => performance.now());
    this.#move = (from, to, slots) => this.#plan.move(from, to, slots);
  }

  /** Nothing left to do: no request is anywhere. */
  get idle(): boolean {
    return this.queue.length + this.pool.length + this.batch.length === 0;
  }

  add(request: Request): void {
    if (this.#failure !== undefined) {
      throw new EngineError('CLOSED', `the loop has ended: ${this.#failure.message}`, { cause: this.#failure });
    }
    if (request.times.queued !== undefined) {
      throw new EngineError('INVALID_ARGUMENT', `request ${request.id}: expected one that was never added`);
    }
    this.admission.add(request);
    request.times.queued = this.#now();
    request.resumed = this.#wake;
    this.#wake();
  }

  /** Wherever it is; its memory is back by the next tick. Nothing happens to a request that has its last token. */
  abort(request: Request): void {
    this.#finish(request, 'abort');
  }

  /** Ends a request whose text is complete. */
  stop(request: Request): void {
    this.#finish(request, 'stop');
  }

  /** Ends every request, for good. A step on its way is not waited for, and its tokens are dropped. */
  fail(error: EngineError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const request of [...this.queue, ...this.pool.requests, ...this.batch.rows]) {
      request.finish('error', error);
      this.admission.release(request);
      request.computed = 0;
      this.#gone.push(request);
    }
    this.queue.retire([]);
    this.pool.retire([]);
    this.batch.rows.length = 0;
    this.#plan.clear();
    this.#announce();
    this.#wake();
  }

  /** One iteration. A row freed by retire is refilled in the same tick. Sleeps while every request is held. */
  async tick(): Promise<void> {
    if (this.#ticking) throw new EngineError('INTERNAL', 'tick: expected the tick before to have ended');
    this.#ticking = true;
    try {
      this.#retire();
      const preempted = this.#admit();
      this.policy.plan(this.#state);
      if (this.#plan.runCount > 0) await this.#step();
      else if (!this.idle && !preempted) await this.#sleep();
      if (this.options.check === true) this.#check();
    } catch (cause) {
      const error = fromNative(cause);
      this.fail(error);
      throw error;
    } finally {
      this.#ticking = false;
    }
  }

  stats(): LoopStats {
    const { batch, queue, pool, metrics } = this;
    return {
      rows: batch.size,
      rowsUsed: batch.length,
      queued: queue.length,
      pooled: pool.length,
      parked: 0, // preempted requests are recomputed
      arena: this.arena.stats(),
      steps: metrics.steps,
      tokens: { prompt: metrics.promptTokens, generated: metrics.generatedTokens },
      idle: metrics.idle(),
      movedSlots: metrics.movedSlots,
      preemptions: this.admission.preemptions,
      stepMs: metrics.stepMs(),
    };
  }

  #finish(request: Request, reason: FinishReason, error?: EngineError): void {
    if (request.times.queued === undefined || !request.finish(reason, error)) return;
    this.#leaving = true;
    this.#wake();
  }

  #retire(): void {
    if (!this.#leaving) return;
    this.#leaving = false;
    const { batch, policy } = this;
    const first = this.#gone.length;
    this.queue.retire(this.#gone);
    this.pool.retire(this.#gone);
    for (let i = first; i < this.#gone.length; i++) this.admission.release(this.#gone[i]!);
    const keep = policy.keepsFinished && batch.rows.some((request) => !request.finished);
    for (let row = batch.length - 1; row >= 0; row--) {
      const request = batch.rows[row]!;
      if (!request.finished) continue;
      if (request.times.finished === undefined) this.#gone.push(request);
      if (keep && request.error === undefined && !request.aborted) continue;
      batch.retire(row);
      this.admission.release(request);
    }
    this.#announce();
    this.#retire(); // whom a callback has just ended
  }

  /** Whether a request was preempted: nobody is admitted then. */
  #admit(): boolean {
    const { admission, metrics, options } = this;
    const before = admission.preemptions;
    const { preemptEvery = 0 } = options;
    if (preemptEvery > 0 && metrics.steps % preemptEvery === preemptEvery - 1) admission.preemptOne();
    admission.extend();
    const preempted = admission.preemptions > before;
    if (!preempted) this.policy.admit(this.#state);
    else this.#leaving = true; // who was preempted may have been the last that finished rows were kept for
    return preempted;
  }

  async #step(): Promise<void> {
    const plan = this.#plan;
    const metrics = this.metrics;
    metrics.movedSlots += this.arena.takeMoves(this.#move);
    this.#countRows();
    const record = this.options.onStep === undefined ? undefined : this.#rowIds();
    const start = this.#now();
    await this.native.step(plan, this.#result);
    const end = this.#now();
    if (this.#failure !== undefined) return; // its requests are gone
    metrics.step(end - start, plan, this.#use);
    this.options.trace?.(this.#line(end - start));
    if (record !== undefined) {
      this.options.onStep?.({ step: metrics.steps, ms: end - start, rows: record, chunkTokens: plan.chunkTokens });
    }
    this.#accept(start, end);
    plan.clear();
  }

  #accept(start: number, end: number): void {
    const plan = this.#plan;
    // A callback that fails the loop clears the plan, which ends this.
    for (let run = 0; run < plan.runCount; run++) {
      const request = plan.owners[run];
      if (request === undefined || request.finished) continue; // a dead row, or aborted on the way
      const row = plan.runs[run * RUN_FIELDS]!;
      const count = plan.runs[run * RUN_FIELDS + 4]!;
      const { computed, promptLength, times } = request;
      this.metrics.promptTokens += Math.max(0, Math.min(promptLength, computed + count) - computed);
      request.computed += count;
      times.started ??= start;
      if (row >= 0) this.#acceptToken(request, row, end);
    }
  }

  #acceptToken(request: Request, row: number, end: number): void {
    const token = this.#result.sampled[row]!;
    if (token < 0) {
      const message = `request ${request.id}: no finite logit at position ${request.tokens.length}`;
      this.#finish(request, 'error', new EngineError('INVALID_LOGITS', message));
      return;
    }
    const sampled = this.#sampled;
    const { times } = request;
    request.tokens.push(token);
    this.metrics.generatedTokens++;
    times.firstToken ??= end;
    times.lastToken = end;
    const reason = stopReason(request);
    if (reason !== undefined) this.#finish(request, reason);
    sampled.token = token;
    sampled.logprob = this.#result.logprobs[row]!;
    sampled.top = this.#alternatives(row, request.sampling.logprobs);
    this.options.onToken(request, sampled);
  }

  #alternatives(row: number, count: number): SampledToken['top'] {
    if (count === 0) return NO_ALTERNATIVES;
    const { topTokens, topLogprobs } = this.#result;
    const first = row * TOP_LOGPROBS;
    return Array.from({ length: count }, (_, i) => {
      return { token: topTokens[first + i]!, logprob: topLogprobs[first + i]! };
    });
  }

  /** Tells everybody who has gone, after all places are in order: callbacks may add and abort. */
  #announce(): void {
    for (let request; (request = this.#gone.shift()) !== undefined; ) {
      if (request.times.finished !== undefined) continue;
      request.times.finished = this.#now();
      request.resumed = undefined;
      this.options.onFinish(request, request.finishReason!, request.error);
    }
  }

  #countRows(): void {
    const { batch, pool } = this;
    const use = this.#use;
    let live = 0;
    for (const request of batch.rows) if (!request.finished && !request.held) live++;
    let waiting = 0;
    if (batch.free > 0) {
      waiting = pool.waiting + this.queue.waiting(batch.free);
    }
    use.used = batch.length;
    use.empty = Math.min(batch.free, waiting);
    use.stalled = live - this.#plan.liveRuns;
  }

  #rowIds(): Int32Array {
    const ids = new Int32Array(this.batch.size).fill(-1);
    this.batch.rows.forEach((request, row) => (ids[row] = request.finished ? -2 - request.id : request.id));
    return ids;
  }

  /** Resolves when somebody is added, leaves, or is no longer held. No timer: a process may end meanwhile. */
  async #sleep(): Promise<void> {
    await new Promise<void>((resolve) => (this.#awake = resolve));
    this.#awake = undefined;
  }

  #line(ms: number): string {
    const { batch, pool, queue, arena, metrics, admission } = this;
    const { runCount, tokenCount, chunkTokens, deadTokens, moveCount } = this.#plan;
    return (
      `step ${metrics.steps}: ${ms.toFixed(2)} ms, rows ${batch.length}/${batch.size}, runs ${runCount}, ` +
      `tokens ${tokenCount} (chunks ${chunkTokens}, dead ${deadTokens}), moves ${moveCount}, pool ${pool.length}, ` +
      `queue ${queue.length}, free ${arena.free}/${arena.slots}, preemptions ${admission.preemptions}`
    );
  }

  #check(): void {
    const { queue, pool, batch, arena } = this;
    const placed = [...pool.requests, ...batch.rows];
    const spans = new Set(placed.map((request) => request.span));
    for (const request of queue) {
      if (request.span === undefined && request.computed === 0) continue;
      throw new EngineError('INTERNAL', `request ${request.id}: in the queue, with ${request.computed} computed`);
    }
    for (const request of placed) {
      if (request.span?.owner === request) continue;
      throw new EngineError('INTERNAL', `request ${request.id}: has a place, and no span of its own`);
    }
    if (spans.size !== placed.length || new Set([...queue, ...placed]).size !== queue.length + placed.length) {
      throw new EngineError('INTERNAL', 'a request is in two places, or two share a span');
    }
    arena.check((span) => spans.has(span));
  }
}
