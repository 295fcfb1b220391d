import { EngineError } from '../errors.ts';
import type { SampledToken } from '../loop/loop.ts';
import type { FinishReason, Request } from '../loop/request.ts';
import type { NativeModel } from '../native.ts';
import type { Output } from '../text/output.ts';

/** A generated token with its log-probability, and the alternatives that were asked for, most likely first. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
  readonly top: readonly { readonly token: number; readonly logprob: number }[];
}

/** One continuation of a prompt. */
export interface Choice {
  /** Without special tokens, and without the stop string or stop token that ended it. */
  readonly text: string;
  /** All that was generated, a stop token included. */
  readonly tokens: readonly number[];
  readonly finishReason: FinishReason;
  /** What to pass as `seed` to get the same again. */
  readonly seed: number;
  /** One per token, if `logprobs` was given. */
  readonly logprobs?: readonly TokenLogprob[];
}

export interface Usage {
  readonly promptTokens: number;
  /** Of all choices. */
  readonly completionTokens: number;
  /** Prompt tokens that needed no prefill, because earlier requests had computed them. */
  readonly cachedTokens: number;
}

/** Milliseconds since the request was made. */
export interface Timings {
  /** Until the first step that computed one of its tokens. */
  readonly queuedMs: number;
  /** Until the first token; null if there was none. */
  readonly ttftMs: number | null;
  readonly totalMs: number;
}

/** A finished request: its first choice, and all of them if `n` is more than 1. */
export interface Completion extends Choice {
  readonly usage: Usage;
  readonly timings: Timings;
  readonly device: string;
  readonly weights: string;
  readonly choices?: readonly Choice[];
}

/** What a stream gives: text that is certain, with the tokens that made it so. */
export interface StreamChunk {
  /** Which of the `n` choices this belongs to; 0 without `n`. */
  readonly index: number;
  readonly text: string;
  readonly tokens: readonly number[];
  /** One per token, if `logprobs` was given. */
  readonly logprobs?: readonly TokenLogprob[];
  /** On the last chunk of each choice. */
  readonly finishReason?: FinishReason;
}

/** One request of the loop, and the text it becomes. */
export class Generation {
  run: Run | undefined;
  text = '';
  readonly logprobs: TokenLogprob[] | undefined;
  finishReason: FinishReason | undefined;
  #given = 0; // tokens that chunks have taken along

  constructor(
    readonly index: number,
    readonly request: Request,
    readonly output: Output,
    withLogprobs: boolean,
  ) {
    this.logprobs = withLogprobs ? [] : undefined;
  }

  /** Takes the request's newest token. True if it completed a stop string. */
  accept({ token, logprob, top }: SampledToken): boolean {
    this.logprobs?.push({ token, logprob, top });
    if (!this.request.stopTokens.has(token)) this.#write(this.output.push(token));
    return this.output.stopped;
  }

  finish(reason: FinishReason, error?: EngineError): void {
    const rest = this.output.stopped ? '' : this.output.flush();
    this.finishReason = this.output.stopped && reason !== 'error' ? 'stop' : reason;
    this.#write(rest);
    this.run?.finished(this, error);
  }

  choice(): Choice {
    const { text, logprobs, request } = this;
    const choice = {
      text,
      tokens: request.tokens.slice(request.promptLength),
      finishReason: this.finishReason ?? 'abort',
      seed: request.sampling.seed,
    };
    return logprobs === undefined ? choice : { ...choice, logprobs };
  }

  #write(text: string): void {
    this.text += text;
    const { index, finishReason, request, logprobs, run } = this;
    if (run?.onChunk === undefined || finishReason === 'error' || (text === '' && finishReason === undefined)) return;
    const first = this.#given;
    this.#given = request.generated;
    run.onChunk({
      index,
      text,
      tokens: request.tokens.slice(request.promptLength + first),
      ...(logprobs === undefined ? {} : { logprobs: logprobs.slice(first) }),
      ...(finishReason === undefined ? {} : { finishReason }),
    });
  }
}

/** All generations of one call. */
export class Run {
  /** Resolves when all have finished; rejects with the first error, and ends the others. */
  readonly ended: Promise<void>;
  onChunk: ((chunk: StreamChunk) => void) | undefined;
  #unfinished: number;
  #resolve!: () => void;
  #reject!: (error: EngineError) => void;
  #signal: AbortSignal | undefined;
  readonly #abort = () => this.abort();

  constructor(
    readonly native: NativeModel,
    readonly promptTokens: number,
    readonly generations: readonly Generation[],
    readonly abortRequest: (request: Request) => void,
  ) {
    this.#unfinished = generations.length;
    for (const generation of generations) generation.run = this;
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ended.catch(() => {}); // a stream that nobody reads any more leaves its error here
  }

  abort(): void {
    for (const { request } of this.generations) this.abortRequest(request);
  }

  /** Whether the loop is to plan no runs for these requests. */
  hold(held: boolean): void {
    for (const { request } of this.generations) request.held = held;
  }

  /** Ends the run when the signal says so. False if it has said so already: then nothing must be begun. */
  follow(signal: AbortSignal | undefined): boolean {
    if (signal?.aborted === true) {
      for (const generation of this.generations) generation.finish('abort');
      return false;
    }
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort, { once: true });
    return true;
  }

  unfollow(): void {
    this.#signal?.removeEventListener('abort', this.#abort);
  }

  finished(generation: Generation, error?: EngineError): void {
    if (generation.finishReason === 'error') {
      this.#reject(error ?? new EngineError('INTERNAL', 'the request failed without a reason'));
      this.abort();
    }
    if (--this.#unfinished > 0) return;
    this.unfollow();
    this.#resolve();
  }

  completion(): Completion {
    const choices = this.generations.map((generation) => generation.choice());
    const [first] = choices as [Choice];
    const { device, weights } = this.native;
    const cachedTokens = this.generations[0]!.request.cachedTokens;
    const completionTokens = choices.reduce((sum, { tokens }) => sum + tokens.length, 0);
    return {
      ...first,
      usage: { promptTokens: this.promptTokens, completionTokens, cachedTokens },
      timings: this.#timings(),
      device,
      weights,
      ...(choices.length === 1 ? {} : { choices }),
    };
  }

  #timings(): Timings {
    const times = this.generations.map(({ request }) => request.times);
    const of = (name: keyof Request['times']) => times.flatMap((time) => time[name] ?? []);
    const queued = Math.min(...of('queued'));
    const finished = of('finished');
    if (finished.length === 0) return { queuedMs: 0, ttftMs: null, totalMs: 0 }; // it never began
    const totalMs = Math.max(...finished) - queued;
    const [started] = of('started').sort((a, b) => a - b);
    const [firstToken] = of('firstToken').sort((a, b) => a - b);
    return {
      queuedMs: started === undefined ? totalMs : started - queued,
      ttftMs: firstToken === undefined ? null : firstToken - queued,
      totalMs,
    };
  }
}
