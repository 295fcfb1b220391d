import type { Completion, Run, StreamChunk } from './run.ts';

const UNREAD_MOST = 256; // tokens that a stream's reader may be behind before its requests are held
const UNREAD_RESUME = UNREAD_MOST / 2;

/**
 * A generation to be read with `for await`. Begins when first read; leaving the loop ends it.
 *
 * @example
 * const stream = engine.stream({ prompt: 'Once', n: 2 });
 * for await (const { index, text } of stream) texts[index] += text;
 * console.log(stream.completion?.usage);
 */
export class TokenStream implements AsyncIterableIterator<StreamChunk> {
  readonly #begin: (onChunk: (chunk: StreamChunk) => void) => Run;
  readonly #chunks: StreamChunk[] = [];
  readonly #readers: { resolve(result: IteratorResult<StreamChunk>): void; reject(error: unknown): void }[] = [];
  #run: Run | undefined;
  #unread = 0; // tokens in #chunks
  #held = false;
  #ended = false;
  #left = false;
  #error: unknown;

  /** @internal Use {@link Engine.stream}. */
  constructor(begin: (onChunk: (chunk: StreamChunk) => void) => Run) {
    this.#begin = begin;
  }

  /** The whole, as `complete` would have given it; undefined until the stream has ended. */
  get completion(): Completion | undefined {
    return this.#ended && this.#error === undefined ? this.#run?.completion() : undefined;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<StreamChunk>> {
    if (this.#left) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
      if (this.#run === undefined && !this.#ended) this.#start();
      this.#deliver();
    });
  }

  /** Called by `break`: ends the generation, wherever it is. */
  return(): Promise<IteratorResult<StreamChunk>> {
    this.#left = true;
    this.#chunks.length = 0;
    if (!this.#ended) this.#run?.abort();
    for (const reader of this.#readers.splice(0)) reader.resolve({ value: undefined, done: true });
    return Promise.resolve({ value: undefined, done: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #start(): void {
    const end = (error?: unknown) => {
      this.#error = error;
      this.#ended = true;
      this.#deliver();
    };
    try {
      this.#run = this.#begin((chunk) => this.#accept(chunk));
      this.#run.ended.then(() => end(), end);
    } catch (error) {
      end(error);
    }
  }

  #accept(chunk: StreamChunk): void {
    if (this.#left) return;
    this.#chunks.push(chunk);
    this.#unread += chunk.tokens.length;
    this.#deliver();
    if (this.#unread >= UNREAD_MOST) this.#hold(true);
  }

  #deliver(): void {
    while (this.#readers.length > 0) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#unread -= chunk.tokens.length;
        this.#readers.shift()?.resolve({ value: chunk, done: false });
        if (this.#unread <= UNREAD_RESUME) this.#hold(false);
      } else if (this.#ended) {
        const error = this.#left ? undefined : this.#error;
        this.#left = true; // an error is thrown once
        const reader = this.#readers.shift();
        if (error === undefined) reader?.resolve({ value: undefined, done: true });
        else reader?.reject(error);
      } else {
        return;
      }
    }
  }

  #hold(held: boolean): void {
    if (held === this.#held || this.#run === undefined) return;
    this.#held = held;
    this.#run.hold(held);
  }
}
