import type { LoopStats } from '../loop/loop.ts';
import type { Request } from '../loop/request.ts';
import { type Distribution, Histogram } from './histogram.ts';

/** What a request must meet to count as goodput, in milliseconds. */
export interface Targets {
  readonly ttftMs: number;
  /** Of its longest wait between two tokens. */
  readonly itlMs: number;
}

/** Shares of the row-time; see IdleStats. `padKv`: masked slots read by attention. */
export interface IdleShares {
  readonly share: number;
  readonly pad: number;
  readonly dead: number;
  readonly empty: number;
  readonly stall: number;
  readonly padKv: number;
}

export interface Outcome {
  /** Requests that ended with their last token. */
  readonly requests: number;
  /** Turned away: no room in the queue, or longer than anything that fits. */
  readonly refused: { readonly full: number; readonly tooLong: number };
  /** Of prompts computed, of prompts copied instead, and generated. */
  readonly tokens: { readonly prompt: number; readonly cached: number; readonly generated: number };
  /** From the start of the simulation to its last token, in every replica's outcome. */
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly outputTokensPerSecond: number;
  /** Prompts count when they are computed. */
  readonly totalTokensPerSecond: number;
  readonly ttftMs: Distribution;
  readonly itlMs: Distribution;
  readonly e2eMs: Distribution;
  /** Requests a second that met both targets, and their share of all that ended. */
  readonly goodput: { readonly requestsPerSecond: number; readonly share: number };
  readonly idle: IdleShares;
  /** Of all time, that in which the device computed. */
  readonly busyShare: number;
  readonly steps: number;
  readonly stepMs: number; // mean
  readonly preemptions: number;
  readonly movedSlots: number;
  /** The largest of any replica's. */
  readonly peakSlots: number;
}

/** When tokens came, of all requests of a simulation: a few numbers per request, by its id. */
export class TokenTimes {
  readonly #last: number[] = [];
  readonly #longest: number[] = [];

  /** A request that came; ids count from 0. */
  add(): void {
    this.#last.push(0);
    this.#longest.push(0);
  }

  /** The wait for its newest token, which is not its first. */
  gap(request: Request): number {
    const ms = request.times.lastToken! - this.#last[request.id]!;
    if (ms > this.#longest[request.id]!) this.#longest[request.id] = ms;
    return ms;
  }

  came(request: Request): void {
    this.#last[request.id] = request.times.lastToken!;
  }

  longest(request: Request): number {
    return this.#longest[request.id]!;
  }
}

/** What happened to the requests of one replica. */
export class Journal {
  full = 0;
  tooLong = 0;
  /** Of the last token of any request, in milliseconds. */
  endMs = 0;
  #requests = 0;
  #met = 0;
  readonly #ttft = new Histogram();
  readonly #itl = new Histogram();
  readonly #e2e = new Histogram();
  readonly #times: TokenTimes;
  readonly #targets: Targets;

  constructor(times: TokenTimes, targets: Targets) {
    this.#times = times;
    this.#targets = targets;
  }

  token(request: Request): void {
    const { queued, firstToken } = request.times;
    if (request.generated === 1) this.#ttft.add(firstToken! - queued!);
    else this.#itl.add(this.#times.gap(request));
    this.#times.came(request);
  }

  finish(request: Request): void {
    const { queued, firstToken, lastToken } = request.times;
    this.#requests++;
    this.#e2e.add(lastToken! - queued!);
    this.endMs = Math.max(this.endMs, lastToken!);
    const { ttftMs, itlMs } = this.#targets;
    if (firstToken! - queued! <= ttftMs && this.#times.longest(request) <= itlMs) this.#met++;
  }

  /** Adds what happened elsewhere. */
  merge(other: Journal): void {
    this.full += other.full;
    this.tooLong += other.tooLong;
    this.endMs = Math.max(this.endMs, other.endMs);
    this.#requests += other.#requests;
    this.#met += other.#met;
    this.#ttft.merge(other.#ttft);
    this.#itl.merge(other.#itl);
    this.#e2e.merge(other.#e2e);
  }

  /** With what the loops of its replicas counted in `ms` milliseconds, for `busyMs` of which devices computed. */
  outcome(loops: readonly LoopStats[], ms: number, busyMs: number): Outcome {
    const sum = (count: (stats: LoopStats) => number) => loops.reduce((total, stats) => total + count(stats), 0);
    const seconds = ms / 1000;
    const perSecond = (count: number) => (seconds > 0 ? count / seconds : 0);
    const prompt = sum(({ tokens }) => tokens.prompt);
    const cached = sum(({ tokens }) => tokens.cached);
    const generated = sum(({ tokens }) => tokens.generated);
    const rowMs = sum(({ idle }) => idle.rowMs);
    const shareOf = (count: (wasted: LoopStats['idle']['wastedMs']) => number) =>
      rowMs > 0 ? sum(({ idle }) => count(idle.wastedMs)) / rowMs : 0;
    const [pad, dead, empty] = [shareOf((one) => one.pad), shareOf((one) => one.dead), shareOf((one) => one.empty)];
    const stall = shareOf((one) => one.stall);
    const steps = sum((stats) => stats.steps);
    return {
      requests: this.#requests,
      refused: { full: this.full, tooLong: this.tooLong },
      tokens: { prompt, cached, generated },
      seconds,
      requestsPerSecond: perSecond(this.#requests),
      outputTokensPerSecond: perSecond(generated),
      totalTokensPerSecond: perSecond(prompt + generated),
      ttftMs: this.#ttft.distribution(),
      itlMs: this.#itl.distribution(),
      e2eMs: this.#e2e.distribution(),
      goodput: {
        requestsPerSecond: perSecond(this.#met),
        share: this.#requests > 0 ? this.#met / this.#requests : 0,
      },
      idle: { share: pad + dead + empty + stall, pad, dead, empty, stall, padKv: sum(({ idle }) => idle.padKv) },
      busyShare: ms > 0 ? busyMs / (ms * loops.length) : 0,
      steps,
      stepMs: steps > 0 ? busyMs / steps : 0,
      preemptions: sum((stats) => stats.preemptions),
      movedSlots: sum((stats) => stats.movedSlots),
      peakSlots: Math.max(...loops.map(({ arena }) => arena.peak)),
    };
  }
}
