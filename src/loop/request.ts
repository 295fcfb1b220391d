import type { EngineError } from '../errors.ts';
import type { Sampling } from '../native.ts';
import type { Span } from './arena.ts';

/** How many levels of priority one must be ahead to be preferred at the other's expense. */
const CLEARLY = 0.5;

export type FinishReason = 'stop' | 'length' | 'abort' | 'error';

export interface RequestOptions {
  readonly prompt: readonly number[] | Int32Array;
  readonly maxTokens: number;
  readonly stopTokens: ReadonlySet<number>;
  /** Stop tokens are not honoured before this many have been generated. */
  readonly minTokens: number;
  readonly sampling: Sampling;
  /** Higher goes first; 0 unless given. */
  readonly priority?: number;
  /** Prefixes are shared only with requests of the same; '' unless given. */
  readonly cacheSalt?: string;
}

/** Milliseconds of the loop's clock. */
export interface RequestTimes {
  queued: number | undefined;
  /** Start of the first step that computed one of its tokens. */
  started: number | undefined;
  firstToken: number | undefined;
  lastToken: number | undefined;
  finished: number | undefined;
}

/**
 * One generation. Three numbers say where it is: `tokens.length` tokens are known, `drawing` more are being drawn by
 * steps on their way, and `computed` of them all have their keys and values in its span once those steps have ended.
 */
export class Request {
  readonly tokens: number[];
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly sampling: Sampling;
  readonly priority: number;
  readonly cacheSalt: string;
  readonly times: RequestTimes = {
    queued: undefined,
    started: undefined,
    firstToken: undefined,
    lastToken: undefined,
    finished: undefined,
  };

  computed = 0;
  drawing = 0;
  /** Where its keys and values lie; the arena's. In the queue only parked requests have one. */
  span: Span | undefined;
  /** Tokens of the prompt that were copied when it was first admitted. */
  cachedTokens = 0;
  /** Another is computing how its prompt begins; it waits in the pool to copy that. */
  following = false;
  /**
   * Who comes first: smaller before larger. The time at which it was added, in levels of aging, less its priority: so
   * one level of priority is worth `agingMs` of waiting, and the order of two requests never changes.
   */
  turn: number;
  /** Its place among all admissions: of equals, the latest is the first to be preempted. */
  admission = 0;
  finishReason: FinishReason | undefined;
  error: EngineError | undefined;
  /** Set by the loop, which sleeps while every request is held. */
  resumed: (() => void) | undefined;
  /** While a step is planned that frees the slots for its next token: it has them in the next. */
  stalled = false;
  #held = false;

  constructor(
    readonly id: number,
    options: RequestOptions,
  ) {
    this.tokens = Array.from(options.prompt);
    this.promptLength = this.tokens.length;
    this.maxTokens = options.maxTokens;
    this.minTokens = options.minTokens;
    this.stopTokens = options.stopTokens;
    this.sampling = options.sampling;
    this.priority = options.priority ?? 0;
    this.turn = -this.priority;
    this.cacheSalt = options.cacheSalt ?? '';
  }

  /** Tokens it has, those being drawn among them. */
  get length(): number {
    return this.tokens.length + this.drawing;
  }

  /** Tokens not yet computed. One means it is ready to decode; more means it needs prefill. */
  get behind(): number {
    return this.length - this.computed;
  }

  get generated(): number {
    return this.tokens.length - this.promptLength;
  }

  get last(): number {
    return this.tokens[this.tokens.length - 1]!;
  }

  /** Most tokens it can come to hold. */
  get limit(): number {
    return this.promptLength + this.maxTokens;
  }

  get finished(): boolean {
    return this.finishReason !== undefined;
  }

  /** Needs no further step: it has finished, or its last token is being drawn. */
  get ending(): boolean {
    return this.finished || this.length >= this.limit;
  }

  /** So far ahead of `other` that it may go at its expense. */
  outranks(other: Request): boolean {
    return this.turn + CLEARLY <= other.turn;
  }

  get aborted(): boolean {
    return this.finishReason === 'abort';
  }

  /** It keeps its place, but no run is planned for it: its reader is behind, it is stalled, or it follows another. */
  get held(): boolean {
    return this.#held || this.stalled || this.following;
  }

  set held(held: boolean) {
    this.#held = held;
    if (!held) this.resumed?.();
  }

  /** The first reason stays; false if there was one already. */
  finish(reason: FinishReason, error?: EngineError): boolean {
    if (this.finished) return false;
    this.finishReason = reason;
    this.error = error;
    return true;
  }
}
