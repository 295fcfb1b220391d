import { TILE, tiled } from '../arena.ts';
import { Forecast, remainingTokens } from '../forecast.ts';
import type { Request } from '../request.ts';
import { addChunk, addDecode, copyLoad, emptyLoad, type StepTime } from '../step-time.ts';
import type { LoopState, Policy } from './policy.ts';

/** Rules that may be left out, to see what each is worth. */
export interface RelayRules {
  /** Chunks as large as the inter-token target allows, of requests whose turn is near. Else of constant size. */
  readonly timed?: boolean;
  /** Long outputs before short ones while the queue runs out. Else in order of arrival. */
  readonly lengthAware?: boolean;
  /** Nobody is admitted whose growth, beside that of others, would soon force a preemption. */
  readonly memoryAware?: boolean;
}

export interface RelayOptions {
  readonly chunkTokens?: number;
  readonly targetItlMs?: number | undefined;
  readonly rules?: RelayRules;
}

/** Of a target that was set: predictions are off by some percent, and between steps the host needs its time. */
export const PLANNED_SHARE = 0.93;

// The numbers below were tried in simulated runs on step times fitted to SmolLM2-135M's shape and to tales (2-core AMX
// Xeon, 16 rows, workloads heavy-tail, chat, code, uniform and adversarial, 2026-11-22); see docs/scheduling-relay.md.
const CHUNK_TOKENS = 32; // while steps cannot be predicted
const TARGET = 1.25; // times a decode step of all rows; 1.4 while rows are empty gained 1 % of throughput, lost goodput
const LEAD = 3; // times the steps that prefill is expected to take; 1 left 0.5 % more rows empty, 10 took more memory
const LEAD_STEPS = 2; // beyond that
const STEPS_OF_LATE = 128; // over which what all rows would take is averaged, at most
const HORIZON = 256; // steps within which row ends are told apart
const MEMORY = 0.95; // of the arena may be spoken for; it runs short a little before it is full
const CALM = 0.99; // caution kept from tick to tick after a preemption
const TAIL = 4; // times the rows: a queue no longer than that is taken longest output first
const MOST_TAIL = 256; // requests, as each is looked at

/**
 * Decode rows and prefill chunks share every step. The pool is filled just ahead of need, so that a row freed in one
 * tick is taken in the same tick, by reference: the span already lies in the arena.
 */
export class Relay implements Policy {
  readonly keepsFinished = false;
  readonly givesWay = true;
  readonly #chunkTokens: number;
  readonly #targetItlMs: number | undefined;
  readonly #rules: Required<RelayRules>;
  readonly #load = emptyLoad(); // of steps that might be planned
  readonly #ends = new Int32Array(HORIZON + 1); // rows expected to end in so many steps
  #forecast: Forecast | undefined;
  #live = 0; // requests with a span that may run
  #limits = 0; // slots that all with a span may come to hold
  #forecasted = false;
  #supply = 1; // prompt tokens that the step last planned had time for
  #decodeMs = 0; // of a step of all rows, as predicted of late
  #caution = 0; // 1: outputs are taken to become as long as they may
  #preemptions = 0;

  constructor({ chunkTokens = CHUNK_TOKENS, targetItlMs, rules = {} }: RelayOptions) {
    this.#chunkTokens = chunkTokens;
    this.#targetItlMs = targetItlMs === undefined ? undefined : PLANNED_SHARE * targetItlMs;
    this.#rules = { timed: true, lengthAware: true, memoryAware: true, ...rules };
  }

  admit(state: LoopState): void {
    const { admission, pool, batch, lengths } = state;
    const timed = this.#predicts(state.stepTime);
    const room = batch.plan.room - batch.length;
    const budget = timed || pool.ready < batch.free ? room : Math.min(room, this.#chunkTokens);
    const most = batch.free + Math.max(2, batch.size >> (timed ? 1 : 2));
    let { waiting, behind } = pool;
    if (admission.queue.length === 0 || waiting >= most || behind >= budget) return;
    if (timed || this.#rules.memoryAware) this.#foresee(state);
    // Ends are a guess where requests stop of themselves: as many more are held ready as a guess is commonly off by.
    const guessed = lengths.share() < 1;
    for (let ended = batch.free, step = 0; waiting < most && behind < budget; waiting++) {
      let request = this.#choose(state);
      if (request === undefined) break;
      if (timed) {
        const steps = Math.ceil((LEAD * (behind + request.behind)) / this.#supply) + LEAD_STEPS;
        while (step < Math.min(HORIZON, steps)) ended += this.#ends[++step]!;
        if (waiting > ended + (guessed ? Math.sqrt(ended) : 0)) break;
      }
      if (this.#rules.memoryAware && !this.#fits(request, state)) {
        const first = admission.queue.peek()!;
        if (request === first || !this.#fits(first, state)) break;
        request = first;
      }
      // A request that no row waits for must leave every row a tile to grow into.
      if (admission.admit(waiting < batch.free ? 0 : batch.size * TILE, request) === undefined) break;
      behind += request.behind;
    }
  }

  full({ batch, stepTime }: LoopState): boolean {
    if (this.#targetItlMs === undefined || batch.length === 0 || !this.#predicts(stepTime)) return false;
    const load = copyLoad(this.#load, batch.plan.load);
    for (const request of batch.rows) if (!request.held) addDecode(load, request.length - 1);
    addDecode(load, Math.round(load.contextTokens / Math.max(1, load.decodeRows)));
    return stepTime.predict(load) > this.#targetItlMs;
  }

  plan(state: LoopState): void {
    const { pool, batch, stepTime } = state;
    const { plan } = batch;
    for (let row = 0; row < batch.length; row++) {
      const request = batch.rows[row]!;
      if (!request.held) plan.decode(row, request);
    }
    if (!this.#predicts(stepTime)) return this.#planConstant(state);
    const decoding = plan.liveRuns > 0;
    for (let next; batch.free > 0 && (next = pool.next(1)) !== undefined && this.#mayDecode(next, state); ) {
      pool.take(next);
      plan.decode(batch.embed(next), next);
    }
    const target = this.#target(state);
    this.#supply = Math.max(1, this.#fit(state, 0, plan.room, target));
    for (let i = 0; i < pool.length && plan.room > 0; ) {
      const request = pool.requests[i]!;
      const rest = request.behind - 1;
      if (request.held || rest === 0) {
        i++;
        continue;
      }
      const wanted = batch.free > 0;
      const limit = wanted && !decoding ? Infinity : target; // nobody waits for the end of a step without decode rows
      let count = this.#fit(state, request.computed, Math.min(rest, plan.room), limit);
      if (count === 0 && plan.load.chunkTokens === 0) count = 1; // whatever the target, somebody gets on
      if (count === 0) break;
      const joins = wanted && count === rest && plan.room > rest && this.#mayDecode(request, state);
      if (joins && (rest === 1 || this.#timeWith(request, state) <= limit)) {
        pool.take(request);
        plan.decode(batch.embed(request), request);
      } else {
        plan.chunk(request, joins ? rest - 1 : count); // the last token and the row come together, in the next step
        i++;
      }
    }
  }

  #predicts(stepTime: StepTime): boolean {
    return this.#rules.timed && stepTime.settled;
  }

  /** Without predictions: whatever fits for whom an empty row waits for, a constant number of tokens for others. */
  #planConstant({ pool, batch }: LoopState): void {
    const { plan } = batch;
    for (let next; batch.free > 0 && (next = pool.next(plan.room)) !== undefined; ) {
      pool.take(next);
      plan.decode(batch.embed(next), next);
    }
    let empty = batch.free;
    let ahead = this.#chunkTokens;
    for (const request of pool.requests) {
      if (request.held) continue;
      const wanted = empty-- > 0;
      const count = Math.min(request.behind - 1, plan.room, wanted ? plan.room : ahead);
      if (count <= 0) continue;
      plan.chunk(request, count);
      if (!wanted) ahead -= count;
    }
  }

  /**
   * Milliseconds that a step with decode rows may take. The measure is a decode step of all rows, not of those there
   * are: else few rows would leave little time for prompts, and so stay few.
   */
  #target({ batch, stepTime }: LoopState): number {
    if (this.#targetItlMs !== undefined) return this.#targetItlMs;
    const { decodeRows, contextTokens } = batch.plan.load;
    if (decodeRows === 0) return Infinity;
    const load = this.#load;
    load.chunkTokens = load.chunkContext = load.movedSlots = 0;
    load.decodeRows = load.sampledRows = batch.size;
    load.contextTokens = (contextTokens * batch.size) / decodeRows;
    const ms = stepTime.predict(load);
    // Told from few rows it varies with what they happen to be, so the fewer there are, the less each step counts.
    const weight = this.#decodeMs === 0 ? 1 : Math.max(1 / STEPS_OF_LATE, (decodeRows / batch.size) ** 4);
    this.#decodeMs += (ms - this.#decodeMs) * weight;
    return TARGET * this.#decodeMs;
  }

  /** Whether one more row leaves the step within a target that was set. One row always is in use. */
  #mayDecode(request: Request, state: LoopState): boolean {
    const { liveRuns } = state.batch.plan;
    return this.#targetItlMs === undefined || liveRuns === 0 || this.#timeWith(request, state) <= this.#targetItlMs;
  }

  /** Milliseconds of the step if the request is given a row, with what is left of its prompt. */
  #timeWith(request: Request, { batch, stepTime }: LoopState): number {
    const load = copyLoad(this.#load, batch.plan.load);
    addDecode(load, request.length - 1);
    addChunk(load, request.computed, request.behind - 1);
    return stepTime.predict(load);
  }

  /** The most tokens of a prompt, from `position` and up to `most`, that leave the step within `limit`. */
  #fit({ batch, stepTime }: LoopState, position: number, most: number, limit: number): number {
    if (limit === Infinity) return most;
    let least = 0;
    while (least < most) {
      const middle = (least + most + 1) >> 1;
      const load = copyLoad(this.#load, batch.plan.load);
      addChunk(load, position, middle);
      if (stepTime.predict(load) <= limit) least = middle;
      else most = middle - 1;
    }
    return least;
  }

  /** When rows will end, and what the active may come to hold. */
  #foresee({ admission, pool, batch, lengths }: LoopState): void {
    this.#caution = admission.preemptions > this.#preemptions ? 1 : this.#caution * CALM;
    this.#preemptions = admission.preemptions;
    this.#forecasted = false;
    this.#ends.fill(0);
    this.#live = pool.waiting;
    this.#limits = 0;
    const share = lengths.share(this.#caution);
    for (let row = 0; row < batch.length; row++) {
      const request = batch.rows[row]!;
      this.#limits += request.limit + TILE;
      if (request.held) continue;
      this.#live++;
      const remaining = remainingTokens(request, share);
      if (remaining <= HORIZON) this.#ends[remaining]!++;
    }
    for (const request of pool.requests) this.#limits += request.limit + TILE;
  }

  /** Whether the arena will hold the request to its end, beside all others; if so it is among them from now on. */
  #fits(request: Request, state: LoopState): boolean {
    const { admission, lengths } = state;
    const limit = request.limit + TILE;
    const fits = admission.mode === 'reserve' || this.#live === 0 || this.#limits + limit <= admission.arena.slots;
    if (fits) this.#forecasted = false; // what there is of it lacks the request
    else {
      const forecast = this.#fill(state);
      const slots = tiled(request.length);
      const remaining = remainingTokens(request, lengths.share(this.#caution));
      forecast.add(slots, remaining);
      if (forecast.most() > MEMORY * admission.arena.slots) {
        forecast.remove(slots, remaining);
        return false;
      }
    }
    this.#live++;
    this.#limits += limit;
    return true;
  }

  /** The forecast for all with a span. */
  #fill({ admission, pool, batch, lengths }: LoopState): Forecast {
    const forecast = (this.#forecast ??= new Forecast(admission.limits.context));
    if (this.#forecasted) return forecast;
    this.#forecasted = true;
    forecast.clear();
    const share = lengths.share(this.#caution);
    for (const request of batch.rows) forecast.add(request.span!.capacity, remainingTokens(request, share));
    for (const request of pool.requests) forecast.add(request.span!.capacity, remainingTokens(request, share));
    return forecast;
  }

  /**
   * The next of the queue. One that runs out is taken longest output first among the equally urgent: a long output
   * begun last would leave the other rows empty. It runs out if nobody came while as many as there are rows were taken;
   * where requests keep coming, another order would make some wait longer and nothing faster.
   */
  #choose({ admission: { queue }, batch }: LoopState): Request | undefined {
    const first = queue.peek();
    const runsOut = queue.drained >= batch.size && queue.length <= Math.min(MOST_TAIL, TAIL * batch.size);
    if (first === undefined || !this.#rules.lengthAware || !runsOut) return first;
    let best = first;
    for (let i = 0; i < queue.length; i++) {
      const request = queue.at(i)!;
      if (request.priority !== first.priority) break;
      if (!request.held && request.maxTokens > best.maxTokens) best = request;
    }
    return best;
  }
}
