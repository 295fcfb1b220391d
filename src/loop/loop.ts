import { EngineError, fromNative } from '../errors.ts';
import { type NativeEngine, RUN_FIELDS, type StepResult, TOP_LOGPROBS } from '../native.ts';
import { Admission, type AdmissionMode } from './admission.ts';
import { type ArenaStats, KvArena } from './arena.ts';
import { Batch } from './batch.ts';
import { DenseMap } from './dense.ts';
import type { KvMap } from './kv-map.ts';
import { type IdleStats, Metrics, type StepTimes } from './metrics.ts';
import { OutputLengths } from './output-lengths.ts';
import { Baton } from './policies/baton.ts';
import { BatonPd } from './policies/baton-pd.ts';
import { Orca } from './policies/orca.ts';
import type { LoopState, Policy } from './policies/policy.ts';
import { Relay, type RelayRules } from './policies/relay.ts';
import { Static } from './policies/static.ts';
import { PrefilledPool } from './pool.ts';
import { type PreemptionChoice, PreemptionCosts } from './preemption.ts';
import { Prefixes } from './prefixes.ts';
import { Queue } from './queue.ts';
import type { FinishReason, Request } from './request.ts';
import { Step } from './step.ts';
import { StepTime } from './step-time.ts';
import { stopReason } from './stop.ts';

export type { FinishReason } from './request.ts';

/** What a loop's parts are made from. */
interface Making {
  readonly slots: number;
  readonly hostSlots: number;
  readonly rows: number;
  readonly reserve: boolean;
  readonly options: LoopOptions;
}

/** A policy, and the map of the arena that it plans for. */
interface Parts {
  readonly policy: Policy;
  readonly arena: KvMap;
}

function onArena(policy: Policy, { slots, hostSlots }: Making): Parts {
  return { policy, arena: new KvArena(slots, hostSlots) };
}

const POLICIES = {
  relay: (making: Making): Parts => onArena(new Relay(making.options), making),
  'baton-pd': ({ slots, rows, reserve }: Making): Parts => {
    const arena = new DenseMap(slots, { rows, reserve, apart: true });
    return { policy: new BatonPd(arena), arena };
  },
  baton: ({ slots, rows, reserve }: Making): Parts => {
    const arena = new DenseMap(slots, { rows, reserve, apart: false });
    return { policy: new Baton(arena), arena };
  },
  orca: (making: Making): Parts => onArena(new Orca(), making),
  static: (making: Making): Parts => onArena(new Static(), making),
};

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as readonly PolicyName[];

const AGING_MS = 10_000;

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
  /** Prompt tokens that ride in a step while every row is busy, until enough steps were measured to predict them. */
  readonly chunkTokens?: number;
  /** What no step with decode rows is planned to exceed. Default: a share over a decode step of all rows. */
  readonly targetItlMs?: number | undefined;
  /** Rules of relay that may be left out, to see what they are worth. */
  readonly rules?: RelayRules;
  /** What is known of step times from an earlier run on the same machine and model. */
  readonly stepTime?: StepTime;
  /** Milliseconds of waiting that are worth one level of priority. */
  readonly agingMs?: number;
  /** Plans each step while the one before is on its way; an end other than by length is then seen a step later. */
  readonly overlap?: boolean;
  /** Copies what others have computed of a prompt; true unless given. */
  readonly prefixReuse?: boolean | undefined;
  /** Verifies every invariant after every tick. */
  readonly check?: boolean;
  /** Forces a preemption every so many steps. */
  readonly preemptEvery?: number;
  /** Forces what becomes of who is preempted; else whatever costs less. */
  readonly preemptBy?: PreemptionChoice;
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
  /** Of those queued: preempted, with their keys and values in host memory. */
  readonly parked: number;
  readonly paused: boolean;
  readonly arena: ArenaStats;
  readonly host: { readonly slots: number; readonly free: number };
  readonly steps: number;
  /** Of prompts computed, of prompts copied instead, and generated. */
  readonly tokens: { readonly prompt: number; readonly cached: number; readonly generated: number };
  readonly idle: IdleStats;
  readonly movedSlots: number;
  readonly preemptions: number;
  /** Preemptions by parking. */
  readonly parks: number;
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
  readonly arena: KvMap;
  readonly prefixes: Prefixes | undefined;
  readonly queue = new Queue();
  readonly pool = new PrefilledPool();
  readonly batch: Batch;
  readonly admission: Admission;
  readonly metrics = new Metrics();
  readonly stepTime: StepTime;
  readonly lengths = new OutputLengths();
  readonly #costs: PreemptionCosts;
  readonly #state: LoopState;
  readonly #steps: readonly Step[]; // they take turns, one more than may be on their way while the next is planned
  #asked = 0; // steps that the device was asked for
  #accepted = 0; // of those; the others are on their way
  #lastEnd = -Infinity; // of the step last accepted
  readonly #sampled = { token: 0, logprob: 0, top: NO_ALTERNATIVES };
  readonly #gone: Request[] = []; // finished, and not yet told so
  readonly #now: () => number;
  readonly #move = (from: number, to: number, slots: number) => this.batch.plan.move(from, to, slots);
  readonly #full = () => this.batch.free === 0 || this.policy.full?.(this.#state) === true;
  readonly #wake = () => this.#awake?.();
  #awake: (() => void) | undefined; // set while tick() sleeps
  #finished = 0; // requests so far
  #leaving = false; // something in queue, pool or batch is ending since retire last looked
  #ticking = false;
  #paused = false;
  readonly #pausing: (() => void)[] = []; // wait until no step is on its way
  #failure: EngineError | undefined;

  constructor(native: NativeEngine, options: LoopOptions) {
    const { rows, stepTokens, context, queueRequests, queueTokens, chunkTokens = 1, targetItlMs = 1 } = options;
    const { agingMs = AGING_MS, preemptBy } = options;
    const counts = { rows, stepTokens, context, queueRequests, queueTokens, chunkTokens, agingMs };
    for (const [name, value] of Object.entries(counts)) {
      if (Number.isInteger(value) && value >= 1) continue;
      throw new EngineError('INVALID_OPTION', `${name}: expected an integer from 1, got ${value}`);
    }
    if (stepTokens < rows) {
      throw new EngineError('INVALID_OPTION', `stepTokens: expected at least one per row, ${rows}, got ${stepTokens}`);
    }
    if (!(targetItlMs > 0)) {
      throw new EngineError('INVALID_OPTION', `targetItlMs: expected a number above 0, got ${targetItlMs}`);
    }
    if (!Object.hasOwn(POLICIES, options.policy)) {
      const message = `policy: expected one of ${POLICY_NAMES.join(', ')}, got ${options.policy}`;
      throw new EngineError('INVALID_OPTION', message);
    }
    if (options.admission !== 'optimistic' && options.admission !== 'reserve') {
      const message = `admission: expected optimistic or reserve, got ${String(options.admission)}`;
      throw new EngineError('INVALID_OPTION', message);
    }
    this.native = native;
    this.options = options;
    const { slots, hostSlots } = native;
    const making = { slots, hostSlots, rows, reserve: options.admission === 'reserve', options };
    ({ policy: this.policy, arena: this.arena } = POLICIES[options.policy](making));
    const reuses = options.prefixReuse !== false && this.arena instanceof KvArena;
    this.prefixes = reuses ? new Prefixes(this.arena) : undefined;
    const limits = { rows, stepTokens, slots, hostSlots };
    this.#steps = Array.from({ length: options.overlap === true ? 2 : 1 }, () => new Step(limits));
    this.batch = new Batch(rows, this.#next.plan);
    this.stepTime = options.stepTime ?? new StepTime();
    this.#costs = new PreemptionCosts(native.slotBytes, this.stepTime);
    const pays = (computed: number) =>
      preemptBy === undefined ? this.#costs.parkingPays(computed) : preemptBy === 'park';
    const { arena, queue, pool, batch, prefixes, lengths } = this;
    this.admission = new Admission(options.admission, options, arena, queue, pool, batch, pays, prefixes);
    const { admission, stepTime } = this;
    this.#state = { admission, pool, batch, stepTime, lengths };
    this.#now = options.now ?? (() => performance.now());
  }

  /** Nothing left to do: no request is anywhere, and no step on its way. */
  get idle(): boolean {
    const { batch, pool, queue } = this;
    return queue.length + pool.length + batch.length + this.#gone.length + this.#underway === 0;
  }

  add(request: Request): void {
    if (this.#failure !== undefined) {
      throw new EngineError('CLOSED', `the loop has ended: ${this.#failure.message}`, { cause: this.#failure });
    }
    if (request.times.queued !== undefined) {
      throw new EngineError('INVALID_ARGUMENT', `request ${request.id}: expected one that was never added`);
    }
    const now = this.#now();
    request.turn = now / (this.options.agingMs ?? AGING_MS) - request.priority;
    this.admission.add(request);
    request.times.queued = now;
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

  /** No further step until resume(). Resolves when those on their way have ended; requests keep their places. */
  pause(): Promise<void> {
    this.#paused = true;
    if (this.#underway === 0) return Promise.resolve();
    return new Promise((resolve) => void this.#pausing.push(resolve));
  }

  resume(): void {
    this.#paused = false;
    this.#endPausing();
    this.#wake();
  }

  /** Ends every request, for good. Steps on their way are not waited for, and their tokens are dropped. */
  fail(error: EngineError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    const ending = this.#steps.flatMap(({ plan }) => plan.owners); // they may have left their rows, and be nowhere else
    for (const request of [...this.queue, ...this.pool.requests, ...this.batch.rows, ...ending]) {
      if (request === undefined) continue;
      this.#finish(request, 'error', error);
      this.admission.release(request);
      request.computed = 0;
    }
    this.queue.retire();
    this.pool.retire();
    this.batch.rows.length = 0;
    this.prefixes?.clear();
    for (const { plan } of this.#steps) plan.clear();
    this.#accepted = this.#asked;
    this.#announce();
    this.#endPausing();
    this.#wake();
  }

  /** One iteration. A row freed by retire is refilled in the same tick. Sleeps while paused or everybody is held. */
  async tick(): Promise<void> {
    if (this.#ticking) throw new EngineError('INTERNAL', 'tick: expected the tick before to have ended');
    this.#ticking = true;
    try {
      this.#retire();
      const preempted = !this.#paused && this.#admit();
      const planned = !this.#paused && this.#plan();
      if (planned) this.#step();
      else if (this.#underway === 0 && !this.idle && !preempted) await this.#sleep();
      while (this.#underway > (planned ? this.#steps.length - 1 : 0)) await this.#accept();
      if (this.options.check === true) this.#check();
    } catch (cause) {
      const error = fromNative(cause);
      this.fail(error);
      throw error;
    } finally {
      this.#ticking = false;
      if (this.#underway === 0) this.#endPausing();
    }
  }

  stats(): LoopStats {
    const { batch, queue, pool, metrics } = this;
    return {
      rows: batch.size,
      rowsUsed: batch.length,
      queued: queue.length,
      pooled: pool.length,
      parked: queue.parked,
      paused: this.#paused,
      arena: this.arena.stats(),
      host: { slots: this.arena.hostSlots, free: this.arena.hostFree },
      steps: metrics.steps,
      tokens: { prompt: metrics.promptTokens, cached: metrics.cachedTokens, generated: metrics.generatedTokens },
      idle: metrics.idle(),
      movedSlots: metrics.movedSlots,
      preemptions: this.admission.preemptions,
      parks: this.admission.parks,
      stepMs: metrics.stepMs(),
    };
  }

  /** The step that is planned next. */
  get #next(): Step {
    return this.#steps[this.#asked % this.#steps.length]!;
  }

  get #underway(): number {
    return this.#asked - this.#accepted;
  }

  #finish(request: Request, reason: FinishReason, error?: EngineError): void {
    if (request.times.queued === undefined || !request.finish(reason, error)) return;
    if (reason === 'stop' || reason === 'length') this.lengths.observe(request);
    this.#gone.push(request);
    this.#finished++;
    this.#leaving = true;
    this.#wake();
  }

  #retire(): void {
    if (!this.#leaving) return;
    this.#leaving = false;
    const { admission, batch, policy } = this;
    for (const place of [this.queue, this.pool]) for (const request of place.retire()) admission.release(request);
    const keep = policy.keepsFinished && batch.rows.some((request) => !request.ending);
    for (let row = batch.length - 1; row >= 0; row--) {
      const request = batch.rows[row]!;
      if (!request.ending) continue;
      if (keep && request.error === undefined && !request.aborted) continue;
      batch.retire(row);
      admission.release(request); // if a step on its way still writes there, whoever comes next does so after it
    }
    this.#announce();
    this.#retire(); // whom a callback has just ended
  }

  /** Whether a request was preempted: nobody is admitted then. */
  #admit(): boolean {
    const { admission, policy } = this;
    const before = admission.preemptions;
    const { preemptEvery = 0 } = this.options;
    if (preemptEvery > 0 && this.#asked % preemptEvery === preemptEvery - 1) admission.preemptOne();
    admission.extend();
    this.prefixes?.settle();
    if (admission.preemptions === before) {
      const { admissions } = admission;
      policy.admit(this.#state);
      if (policy.givesWay && admission.admissions === admissions) {
        admission.preemptFor();
        admission.takeRow(this.#full);
      }
    }
    const preempted = admission.preemptions > before;
    if (preempted) this.#leaving = true; // who was preempted may have been the last that finished rows were kept for
    return preempted;
  }

  /** Whether there is a step to take. One with nothing but moves is for who waits for the slots that they leave. */
  #plan(): boolean {
    this.policy.plan(this.#state);
    this.admission.unstall();
    return this.batch.plan.runCount > 0 || this.arena.moving;
  }

  #endPausing(): void {
    for (const resolve of this.#pausing.splice(0)) resolve();
  }

  /** Asks the device for the step that has been planned; the next is planned in the memory of another. */
  #step(): void {
    const step = this.#next;
    const { plan } = step;
    this.metrics.movedSlots += this.arena.takeMoves(this.#move);
    this.#countRows(step);
    step.rowIds = this.options.onStep === undefined ? undefined : this.#rowIds();
    step.finished = this.#finished;
    step.asked = this.#now();
    step.ended = this.native.step(plan, step.result);
    step.ended.catch(() => {}); // thrown where it is awaited, unless the loop has failed by then
    for (let run = 0; run < plan.runCount; run++) {
      const request = plan.owners[run];
      if (request === undefined) continue;
      request.computed += plan.runs[run * RUN_FIELDS + 4]!;
      if (plan.runs[run * RUN_FIELDS]! >= 0) request.drawing++;
      if (request.ending) this.#leaving = true;
    }
    this.#asked++;
    this.batch.plan = this.#next.plan;
  }

  /** Waits for the oldest step on its way, and gives its tokens to their requests. */
  async #accept(): Promise<void> {
    const step = this.#steps[this.#accepted % this.#steps.length]!;
    await step.ended;
    if (this.#failure !== undefined) return; // its requests are gone
    this.#accepted++;
    const { metrics, options } = this;
    const { plan, result, rowIds } = step;
    const start = Math.max(step.asked, this.#lastEnd); // the device takes one at a time
    const end = (this.#lastEnd = this.#now());
    if (step.finished !== this.#finished) this.#countSurplus(step);
    metrics.step(end - start, plan, step.use);
    this.#costs.observe(plan.load, plan.parkedSlots, end - start);
    this.stepTime.observe(plan.load, end - start);
    options.trace?.(this.#line(step, end - start));
    if (rowIds !== undefined) {
      options.onStep?.({ step: metrics.steps, ms: end - start, rows: rowIds, chunkTokens: plan.chunkTokens });
    }
    // A callback that fails the loop clears the plan, which ends this.
    for (let run = 0; run < plan.runCount; run++) {
      const request = plan.owners[run];
      if (request === undefined) continue;
      const row = plan.runs[run * RUN_FIELDS]!;
      if (row >= 0) request.drawing--;
      if (request.finished) continue;
      const position = plan.runs[run * RUN_FIELDS + 3]!;
      const inPrompt = request.promptLength - position;
      if (inPrompt > 0) metrics.promptTokens += Math.min(inPrompt, plan.runs[run * RUN_FIELDS + 4]!);
      if (request.times.started === undefined) {
        request.times.started = start;
        metrics.cachedTokens += request.cachedTokens;
      }
      if (row >= 0) this.#acceptToken(request, row, result, end);
    }
    plan.clear();
  }

  #acceptToken(request: Request, row: number, result: StepResult, end: number): void {
    const token = result.sampled[row]!;
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
    sampled.logprob = result.logprobs[row]!;
    sampled.top = alternatives(result, row, request.sampling.logprobs);
    this.options.onToken(request, sampled);
  }

  /** Tells everybody who has gone, after all places are in order: callbacks may add and abort. */
  #announce(): void {
    for (let request; (request = this.#gone.shift()) !== undefined; ) {
      request.times.finished = this.#now();
      request.resumed = undefined;
      this.options.onFinish(request, request.finishReason!, request.error);
    }
  }

  #countRows({ plan, use }: Step): void {
    const { batch, pool } = this;
    let live = 0;
    for (const request of batch.rows) if (!request.ending && !request.held) live++;
    let waiting = 0;
    if (batch.free > 0) {
      waiting = pool.waiting + this.queue.waiting(batch.free);
    }
    use.used = batch.length;
    use.empty = Math.min(batch.free, waiting);
    use.stalled = live - plan.liveRuns;
  }

  #rowIds(): Int32Array {
    const ids = new Int32Array(this.batch.size).fill(-1);
    this.batch.rows.forEach((request, row) => (ids[row] = request.ending ? -2 - request.id : request.id));
    return ids;
  }

  /** Who has finished since the step was planned takes no token of it. */
  #countSurplus({ plan, rowIds }: Step): void {
    for (let run = 0; run < plan.runCount; run++) {
      const row = plan.runs[run * RUN_FIELDS]!;
      const request = plan.owners[run];
      if (row < 0 || request?.finished !== true) continue;
      plan.deadTokens++;
      if (rowIds !== undefined) rowIds[row] = -2 - request.id;
    }
  }

  /** Resolves when somebody is added, leaves, or is no longer held. No timer: a process may end meanwhile. */
  async #sleep(): Promise<void> {
    await new Promise<void>((resolve) => (this.#awake = resolve));
    this.#awake = undefined;
  }

  #line({ plan, use }: Step, ms: number): string {
    const { batch, pool, queue, arena, metrics, admission } = this;
    const { runCount, tokenCount, chunkTokens, padTokens, deadTokens, moveCount } = plan;
    return (
      `step ${metrics.steps}: ${ms.toFixed(2)} ms, rows ${use.used}/${batch.size}, runs ${runCount}, ` +
      `tokens ${tokenCount} (chunks ${chunkTokens}, pad ${padTokens}, dead ${deadTokens}), moves ${moveCount}, ` +
      `pool ${pool.length}, queue ${queue.length}, free ${arena.free}/${arena.slots}, ` +
      `preemptions ${admission.preemptions}`
    );
  }

  #check(): void {
    const { queue, pool, batch, arena, prefixes } = this;
    const placed = [...pool.requests, ...batch.rows];
    for (const request of queue) {
      const { id, span, computed, drawing } = request;
      const parked = span?.owner === request && span.offset >= arena.slots;
      if (drawing === 0 && (parked ? computed > 0 : span === undefined && computed === 0)) continue;
      throw new EngineError('INTERNAL', `request ${id}: in the queue, ${computed} computed, ${drawing} being drawn`);
    }
    for (const request of placed) {
      if (request.span?.owner === request && request.span.offset < arena.slots) continue;
      throw new EngineError('INTERNAL', `request ${request.id}: has a place, and no span of its own`);
    }
    const all = [...queue, ...placed];
    const spans = new Set(all.map(({ span }) => span));
    if (new Set(all).size !== all.length) throw new EngineError('INTERNAL', 'a request is in two places');
    arena.check((span) => spans.has(span), (kept) => prefixes?.owns(kept) === true);
    prefixes?.check(placed);
  }
}

function alternatives({ topTokens, topLogprobs }: StepResult, row: number, count: number): SampledToken['top'] {
  if (count === 0) return NO_ALTERNATIVES;
  const first = row * TOP_LOGPROBS;
  return Array.from({ length: count }, (_, i) => {
    return { token: topTokens[first + i]!, logprob: topLogprobs[first + i]! };
  });
}
