import { randomInt } from 'node:crypto';
import { loadAddon } from './addon.ts';
import { chooseDevice } from './engine/device.ts';
import { type Completion, Generation, Run, type StreamChunk } from './engine/run.ts';
import { chooseSizes, type Sizes } from './engine/sizes.ts';
import { TokenStream } from './engine/token-stream.ts';
import { env } from './env.ts';
import { EngineError, fromNative } from './errors.ts';
import { Loop, type LoopOptions, type LoopStats, type StepRecord } from './loop/loop.ts';
import { Request } from './loop/request.ts';
import { type GenerationDefaults, openModel } from './model/load.ts';
import type { NativeEngine, NativeModel, Sampling } from './native.ts';
import type { ChatMessage, LoadOptions, RequestOptions, RequestValues } from './options.ts';
import { readLoadOptions, readRequestOptions } from './options.ts';
import { ChatTemplate } from './text/chat-template.ts';
import { Output } from './text/output.ts';
import { Tokenizer } from './text/tokenizer.ts';

const DEFAULT_ROWS = 32;
const DEFAULT_QUEUE_REQUESTS = 1024;
const DEFAULT_QUEUE_TOKENS = 2 ** 20;

/** What the engine is doing, and what it has done since it was loaded. */
export interface EngineStats extends LoopStats {
  readonly model: NativeModel & { readonly slots: number; readonly context: number };
}

/** What an engine is put together from; tests put in a fake native engine. */
export interface EngineParts {
  readonly native: NativeEngine;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  readonly vocabulary: number;
  readonly eosTokens: readonly number[];
  readonly generation: GenerationDefaults;
  readonly loop: Omit<LoopOptions, 'onToken' | 'onFinish'>;
}

/** Callbacks for those who watch the engine at work. */
export interface EngineHooks {
  /** After every step, with what each row did in it. */
  readonly onStep?: (record: StepRecord) => void;
}

/**
 * A model on a device. Requests made at the same time decode together; the tokens of each are those it would have
 * got alone.
 *
 * @example
 * await using engine = await Engine.load('models/tales');
 * for await (const { text } of engine.stream({ prompt: 'Once', maxTokens: 100 })) process.stdout.write(text);
 */
export class Engine {
  readonly #parts: EngineParts;
  readonly #loop: Loop;
  readonly #generations = new Map<Request, Generation>();
  #nextId = 0;
  #driving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** @internal Use {@link Engine.load}. */
  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#loop = new Loop(parts.native, {
      ...parts.loop,
      onToken: (request, sampled) => {
        if (this.#generations.get(request)?.accept(sampled)) this.#loop.stop(request);
      },
      onFinish: (request, reason, error) => {
        const generation = this.#generations.get(request);
        this.#generations.delete(request);
        generation?.finish(reason, error);
      },
    });
  }

  /**
   * Loads a model folder in the layout of Hugging Face: config.json, safetensors, tokenizer.json.
   *
   * Throws an {@link EngineError}: INVALID_OPTION, MODEL_NOT_FOUND, MODEL_FORMAT, MODEL_UNSUPPORTED, ADDON_MISSING,
   * DEVICE_UNAVAILABLE, OUT_OF_MEMORY.
   *
   * @example
   * const engine = await Engine.load('models/tales', { rows: 8, onProgress: (share) => console.log(share) });
   */
  static async load(folder: string, options: LoadOptions = {}, hooks: EngineHooks = {}): Promise<Engine> {
    const { device, threads, isa, noGraph, sync, check, trace, preemptEvery } = env;
    const values = { ...readLoadOptions({ device, threads, isa }), ...readLoadOptions(options) };
    const model = await openModel(folder);
    const tokenizer = new Tokenizer(model.tokenizer);
    const template = model.tokenizer.chatTemplate;
    const chatTemplate = template === null ? null : new ChatTemplate(template, tokenizer);

    const rows = values.rows ?? DEFAULT_ROWS;
    const addon = loadAddon();
    let native: NativeEngine;
    let sizes: Sizes;
    try {
      const chosen = chooseDevice(addon, values.device ?? 'auto');
      sizes = chooseSizes(model, values, rows, chosen);
      native = await addon.load({
        config: model.config,
        files: model.files,
        tensors: model.tensors,
        device: chosen.name,
        isa: values.isa ?? 'auto',
        threads: values.threads ?? 0,
        graphs: !noGraph,
        checkLaunches: sync,
        ...sizes,
        rows,
        onProgress: values.onProgress,
      });
    } catch (error) {
      throw fromNative(error);
    }
    const { context, stepTokens } = sizes;
    return new Engine({
      native,
      tokenizer,
      chatTemplate,
      vocabulary: model.config.vocabulary,
      eosTokens: model.eosTokens,
      generation: model.generation,
      loop: {
        rows,
        context,
        stepTokens,
        policy: values.policy ?? 'relay',
        admission: values.admission ?? 'optimistic',
        // On the CPU a tick is 1 % of a step: little to hide, while each request that stops costs a surplus token.
        overlap: native.device !== 'cpu',
        queueRequests: values.queueRequests ?? DEFAULT_QUEUE_REQUESTS,
        queueTokens: values.queueTokens ?? DEFAULT_QUEUE_TOKENS,
        prefixReuse: values.prefixReuse ?? true,
        check,
        ...(preemptEvery === undefined ? {} : { preemptEvery }),
        trace: trace ? (line) => process.stderr.write(`${line}\n`) : undefined,
        onStep: hooks.onStep,
      },
    });
  }

  /**
   * Generates, and gives the text while it grows. Leaving the loop early ends the request. A reader that falls 256
   * tokens behind holds its own request, and no other, until it has caught up.
   *
   * Throws INVALID_OPTION at once; all else when first read: the request begins then.
   *
   * @example
   * for await (const { text } of engine.stream({ prompt: 'Once', stop: '\n\n' })) process.stdout.write(text);
   */
  stream(options: RequestOptions): TokenStream {
    const values = this.#read(options);
    return new TokenStream((onChunk) => this.#begin(values, onChunk));
  }

  /**
   * Generates, and gives the whole.
   *
   * Rejects with an {@link EngineError}: INVALID_OPTION, TOO_LONG, QUEUE_FULL, INVALID_LOGITS, DEVICE_LOST, CLOSED.
   *
   * @example
   * const { text, usage } = await engine.complete({ prompt: 'Once upon a time', maxTokens: 100, seed: 7 });
   */
  async complete(options: RequestOptions): Promise<Completion> {
    const run = this.#begin(this.#read(options));
    await run.ended;
    return run.completion();
  }

  /**
   * Generates the next turn of a conversation.
   *
   * @example
   * const { text } = await engine.chat({ messages: [{ role: 'user', content: 'Tell me a tale.' }] });
   */
  async chat(options: RequestOptions & { readonly messages: readonly ChatMessage[] }): Promise<Completion> {
    const values = this.#read(options);
    if (values.messages === undefined) throw new EngineError('INVALID_OPTION', 'chat: expected messages, got a prompt');
    const run = this.#begin(values);
    await run.ended;
    return run.completion();
  }

  /** Token ids of a text, with the model's begin token unless told otherwise. */
  tokenize(text: string, addSpecial = true): number[] {
    return this.#parts.tokenizer.encode(text, addSpecial);
  }

  /** Text of token ids, without special tokens unless told otherwise. */
  detokenize(tokens: Iterable<number>, skipSpecial = true): string {
    return this.#parts.tokenizer.decode(tokens, skipSpecial);
  }

  /**
   * Rows, queue, arena, idle computation and step times, as plain numbers. Cheap enough to be asked every second.
   *
   * @example
   * console.log(`${(100 * engine.stats().idle.share).toFixed(1)} % of the row-time was idle`);
   */
  stats(): EngineStats {
    const { device, isa, threads, weights, kv, weightBytes, slotBytes, slots } = this.#parts.native;
    const { context } = this.#parts.loop;
    const model = { device, isa, threads, weights, kv, weightBytes, slotBytes, slots, context };
    return { ...this.#loop.stats(), model };
  }

  /** Waits for the running step, rejects what is left with CLOSED, and releases all memory. May be called again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #read(options: RequestOptions): RequestValues {
    const values = readRequestOptions(options, this.#parts);
    if ((values.n ?? 1) > 1 && this.#sampling(values).temperature === 0) {
      const message = `n: expected 1 with greedy sampling, whose choices are equal, got ${values.n}`;
      throw new EngineError('INVALID_OPTION', message);
    }
    return values;
  }

  /** Makes the requests of one call and adds them to the loop: all of them or, if it throws, none. */
  #begin(values: RequestValues, onChunk?: (chunk: StreamChunk) => void): Run {
    if (this.#closing !== undefined) throw new EngineError('CLOSED', 'the engine has been closed');
    const { tokenizer, native, loop } = this.#parts;
    const prompt = this.#encode(values);
    const maxTokens = values.maxTokens ?? loop.context - prompt.length;
    if (maxTokens < 1) {
      const message = `prompt: expected fewer tokens than the context of ${loop.context}, got ${prompt.length}`;
      throw new EngineError('TOO_LONG', message);
    }
    const stopTokens = new Set([...(values.ignoreEos ? [] : this.#parts.eosTokens), ...(values.stopTokenIds ?? [])]);
    const sampling: Sampling = {
      ...this.#sampling(values),
      minTokens: values.minTokens ?? 0,
      stopTokens: Int32Array.from(stopTokens),
      logprobs: values.logprobs ?? 0,
      biasTokens: Int32Array.from(values.logitBias ?? [], ([token]) => token),
      biasValues: Float32Array.from(values.logitBias ?? [], ([, bias]) => bias),
    };
    const { minTokens } = sampling;
    const { priority = 0, cacheSalt = '' } = values;

    const generations = Array.from({ length: values.n ?? 1 }, (_, index) => {
      const seed = (sampling.seed + index) % (Number.MAX_SAFE_INTEGER + 1);
      const request = new Request(this.#nextId++, {
        prompt,
        maxTokens,
        minTokens,
        stopTokens,
        sampling: { ...sampling, seed },
        priority,
        cacheSalt,
      });
      const output = new Output(tokenizer.detokenizer(), values.stop ?? []);
      return new Generation(index, request, output, values.logprobs !== undefined);
    });
    const run = new Run(native, prompt.length, generations, (request) => this.#loop.abort(request));
    run.onChunk = onChunk;
    if (!run.follow(values.signal)) return run; // aborted before it began

    try {
      for (const generation of generations) {
        this.#generations.set(generation.request, generation);
        this.#loop.add(generation.request);
      }
    } catch (error) {
      for (const { request } of generations) {
        this.#generations.delete(request);
        this.#loop.abort(request);
      }
      run.unfollow();
      throw error;
    } finally {
      this.#driving ??= this.#drive();
    }
    return run;
  }

  #encode({ prompt, messages }: RequestValues): readonly number[] {
    const { tokenizer, chatTemplate, loop } = this.#parts;
    if (typeof prompt === 'object') return prompt;
    let text = prompt ?? '';
    if (messages !== undefined) {
      if (chatTemplate === null) {
        const message = 'messages: expected a model with a chat template, got one without; use prompt';
        throw new EngineError('MODEL_UNSUPPORTED', message);
      }
      text = chatTemplate.render(messages);
    }
    // Before any work is spent on it: each token stands for at most so many characters.
    const most = loop.context * tokenizer.longestToken;
    if (text.length > most) {
      const expected = `expected at most ${most} characters for a context of ${loop.context}`;
      throw new EngineError('TOO_LONG', `prompt: ${expected}, got ${text.length}`);
    }
    const tokens = tokenizer.encode(text, messages === undefined);
    if (tokens.length === 0) {
      throw new EngineError('INVALID_OPTION', 'prompt: expected at least one token, got empty text');
    }
    return tokens;
  }

  /** The caller's choice, else the model's, else neutral. */
  #sampling(values: RequestValues) {
    const { generation } = this.#parts;
    return {
      temperature: values.temperature ?? generation.temperature ?? 1,
      topK: values.topK ?? generation.topK ?? 0,
      topP: values.topP ?? generation.topP ?? 1,
      minP: values.minP ?? generation.minP ?? 0,
      repetitionPenalty: values.repetitionPenalty ?? generation.repetitionPenalty ?? 1,
      presencePenalty: values.presencePenalty ?? 0,
      frequencyPenalty: values.frequencyPenalty ?? 0,
      seed: values.seed ?? randomInt(2 ** 48 - 1),
    };
  }

  /** Turns the loop while there is work. Begins a microtask later, so that requests made together start together. */
  async #drive(): Promise<void> {
    await undefined;
    try {
      while (this.#closing === undefined && !this.#loop.idle) await this.#loop.tick();
    } catch (error) {
      this.#loop.fail(fromNative(error)); // for those that were added while the failure was on its way
    } finally {
      this.#driving = undefined;
    }
  }

  async #close(): Promise<void> {
    await undefined; // #closing is set now, and ends the driving
    for (const { request } of this.#generations.values()) request.held = false; // wakes a tick that sleeps
    await this.#driving;
    this.#loop.fail(new EngineError('CLOSED', 'the engine was closed before the request had ended'));
    try {
      await this.#parts.native.close();
    } catch (error) {
      throw fromNative(error);
    }
  }
}
