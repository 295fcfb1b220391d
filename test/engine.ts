import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineParts } from '../src/engine.ts';
import { Engine } from '../src/engine.ts';
import { EngineError } from '../src/errors.ts';
import type { RequestOptions } from '../src/options.ts';
import { ChatTemplate } from '../src/text/chat-template.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { FakeEngine } from './fake/engine.ts';
import { readTokenizer, TALES } from './fake/tokenizers.ts';

const engine = suite('Engine');

const files = readTokenizer(TALES);
const tokenizer = new Tokenizer(files);
const VOCABULARY = 2048;
const CONTEXT = 1024;

interface Shape {
  readonly rows?: number;
  readonly queueRequests?: number;
  readonly parts?: Partial<EngineParts>;
}

/** An engine on the fake device, whose every step gives the event loop a turn, as a real one does. */
function make({ rows = 4, queueRequests = 100, parts = {} }: Shape = {}): { native: FakeEngine; engine: Engine } {
  const native = new FakeEngine(rows * CONTEXT, VOCABULARY);
  native.during = turn;
  const limits = { context: CONTEXT, stepTokens: 64, policy: 'relay', admission: 'optimistic' } as const;
  const one = new Engine({
    native,
    tokenizer,
    chatTemplate: new ChatTemplate(String(files.tokenizerConfig['chat_template']), tokenizer),
    vocabulary: VOCABULARY,
    eosTokens: [0],
    generation: {},
    loop: { rows, queueRequests, queueTokens: 10_000, check: true, ...limits },
    ...parts,
  });
  return { native, engine: one };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Lets the engine work until `reached`. */
async function until(reached: () => boolean): Promise<void> {
  for (let turns = 0; !reached(); turns++) {
    assert.ok(turns < 10_000, 'never reached');
    await turn();
  }
}

function isEmpty(one: Engine): boolean {
  const { rowsUsed, queued, pooled, arena } = one.stats();
  return rowsUsed === 0 && queued === 0 && pooled === 0 && arena.used === 0;
}

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    return error instanceof EngineError ? error.code : String(error);
  }
  return 'none';
}

async function collect(one: Engine, options: RequestOptions): Promise<{ text: string; tokens: number[] }> {
  let text = '';
  const tokens: number[] = [];
  for await (const chunk of one.stream(options)) {
    text += chunk.text;
    tokens.push(...chunk.tokens);
  }
  return { text, tokens };
}

function run(one: Engine, options: RequestOptions, whole: boolean) {
  return whole ? one.complete(options) : collect(one, options);
}

const PLAIN = { prompt: 'Once upon a time', maxTokens: 40, seed: 5, ignoreEos: true };

async function solo(options: RequestOptions) {
  const { engine: one } = make();
  const completion = await one.complete(options);
  await one.close();
  return completion;
}

engine('completes with text, tokens, usage and timings that fit together', async () => {
  const { engine: one } = make();
  const result = await one.complete(PLAIN);
  assert.is(result.tokens.length, 40);
  assert.is(result.text, tokenizer.decode(result.tokens));
  assert.is(result.finishReason, 'length');
  assert.is(result.seed, 5);
  const promptTokens = tokenizer.encode(PLAIN.prompt).length;
  assert.equal(result.usage, { promptTokens, completionTokens: 40, cachedTokens: 0 });
  assert.is(result.device, 'fake');
  assert.is(result.weights, 'none');
  assert.is(result.choices, undefined);
  assert.is(result.logprobs, undefined);
  const { queuedMs, ttftMs, totalMs } = result.timings;
  assert.ok(queuedMs >= 0 && ttftMs !== null && queuedMs <= ttftMs && ttftMs <= totalMs);
  await one.close();
});

engine('streams the same text and tokens as it completes, and the same completion', async () => {
  const whole = await solo(PLAIN);
  const { engine: one } = make();
  const stream = one.stream(PLAIN);
  assert.is(stream.completion, undefined);
  let text = '';
  const tokens: number[] = [];
  const reasons: string[] = [];
  for await (const chunk of stream) {
    assert.is(chunk.index, 0);
    assert.not.match(chunk.text, /\p{Surrogate}/u);
    text += chunk.text;
    tokens.push(...chunk.tokens);
    if (chunk.finishReason !== undefined) reasons.push(chunk.finishReason);
  }
  assert.is(text, whole.text);
  assert.equal(tokens, whole.tokens);
  assert.equal(reasons, ['length']);
  assert.equal({ ...stream.completion, timings: null }, { ...whole, timings: null });
  await one.close();
});

engine('gives concurrent requests their own text', async () => {
  const { engine: one, native } = make();
  const requests = Array.from({ length: 24 }, (_, seed) => {
    return { ...PLAIN, prompt: `Tale ${seed}`, maxTokens: 1 + ((seed * 7) % 30), seed };
  });
  const together = await Promise.all(requests.map((request) => run(one, request, request.seed % 2 === 0)));
  for (const [i, request] of requests.entries()) {
    const alone = await solo(request);
    assert.is(together[i]?.text, alone.text);
    assert.equal(together[i]?.tokens, alone.tokens);
  }
  assert.ok(native.plans.some(({ rows }) => rows.length === 4), 'they did share steps');
  await until(() => isEmpty(one));
  await one.close();
});

engine('begins requests that are made together in the same step', async () => {
  const { engine: one, native } = make();
  await Promise.all([1, 2, 3, 4].map((seed) => one.complete({ prompt: [7], maxTokens: 3, seed, ignoreEos: true })));
  assert.equal(native.plans.map(({ rows }) => rows.length), [4, 4, 4]);
  await one.close();
});

engine('draws a seed when none is given, and reports it so that the result can be repeated', async () => {
  const { engine: one } = make();
  const { seed: _, ...unseeded } = PLAIN;
  const first = await one.complete(unseeded);
  const second = await one.complete(unseeded);
  assert.is.not(first.seed, second.seed);
  assert.equal((await one.complete({ ...unseeded, seed: first.seed })).tokens, first.tokens);
  await one.close();
});

engine('uses the model’s sampling unless told otherwise', async () => {
  const starts: unknown[] = [];
  const native = new FakeEngine(4 * CONTEXT, VOCABULARY);
  const step = native.step.bind(native);
  native.step = (plan, result) => {
    for (const { sampling } of plan.starts) starts.push(sampling);
    return step(plan, result);
  };
  const { engine: one } = make({ parts: { native, generation: { temperature: 0.8, topP: 0.95, topK: 50 } } });
  await one.complete({ ...PLAIN, topP: 0.5, logitBias: { 7: -2 }, stopTokenIds: [9], minTokens: 3, ignoreEos: false });
  await one.complete({ ...PLAIN, temperature: 0, topK: -1 });
  await one.close();
  assert.is(starts.length, 2);
  const neutral = { minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, seed: 5, logprobs: 0 };
  const bias = { biasTokens: Int32Array.of(7), biasValues: Float32Array.of(-2) };
  const stops = { stopTokens: Int32Array.of(0, 9), minTokens: 3 };
  assert.equal(starts[0], { temperature: 0.8, topP: 0.5, topK: 50, ...neutral, ...bias, ...stops });
  const unbiased = { biasTokens: new Int32Array(), biasValues: new Float32Array() };
  const endless = { stopTokens: new Int32Array(), minTokens: 0 };
  assert.equal(starts[1], { temperature: 0, topP: 0.95, topK: 0, ...neutral, ...unbiased, ...endless });
});

engine('ends in front of a stop string, and gives the tokens that spelled it', async () => {
  const whole = await solo(PLAIN);
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.text.length - 2), fc.integer({ min: 1, max: 12 }), async (start, length) => {
      const stop = whole.text.slice(start, start + length);
      fc.pre(!/\p{Surrogate}/u.test(stop));
      const { engine: one } = make();
      const result = await one.complete({ ...PLAIN, stop: ['never to be found', stop] });
      const streamed = await collect(one, { ...PLAIN, stop });
      await one.close();
      assert.is(result.text, whole.text.slice(0, whole.text.indexOf(stop)));
      assert.is(result.finishReason, 'stop');
      assert.equal(result.tokens, whole.tokens.slice(0, result.tokens.length));
      assert.match(tokenizer.decode(result.tokens), stop);
      assert.not.match(tokenizer.decode(result.tokens.slice(0, -1)), stop);
      assert.equal(streamed, { text: result.text, tokens: result.tokens });
    }),
    { numRuns: 30, seed: 7 },
  );
});

engine('gives what was held back when the end comes first: half a character, half a stop string', async () => {
  const { engine: one } = make();
  for (let maxTokens = 1; maxTokens < 60; maxTokens++) {
    const { text, tokens } = await one.complete({ ...PLAIN, maxTokens });
    assert.is(text, tokenizer.decode(tokens));
    const unfinished = `${text.slice(-3)} and what never comes`;
    assert.equal(await collect(one, { ...PLAIN, maxTokens, stop: unfinished }), { text, tokens });
  }
  await one.close();
});

engine('ends at a stop token, which is counted but not shown', async () => {
  const whole = await solo(PLAIN);
  const stopToken = whole.tokens[10] as number;
  const at = whole.tokens.indexOf(stopToken);
  const result = await solo({ ...PLAIN, stopTokenIds: [stopToken] });
  assert.is(result.finishReason, 'stop');
  assert.equal(result.tokens, whole.tokens.slice(0, at + 1));
  assert.is(result.text, tokenizer.decode(whole.tokens.slice(0, at)));
  assert.is(result.usage.completionTokens, at + 1);
});

engine('reports log-probabilities when asked', async () => {
  const { logprobs = [], tokens } = await solo({ ...PLAIN, maxTokens: 5, logprobs: 2 });
  assert.equal(logprobs.map(({ token }) => token), tokens);
  for (const { token, logprob, top } of logprobs) {
    assert.is(logprob, Math.fround(-token / 8));
    assert.equal(top.map((one) => one.token), [token, (token + 1) % VOCABULARY]);
  }
  assert.equal((await solo({ ...PLAIN, logprobs: 0 })).logprobs?.[0]?.top, []);

  const { engine: one } = make();
  const streamed: number[] = [];
  for await (const chunk of one.stream({ ...PLAIN, maxTokens: 5, logprobs: 2 })) {
    assert.equal(chunk.logprobs?.map(({ token }) => token), chunk.tokens);
    for (const { token } of chunk.logprobs ?? []) streamed.push(token);
  }
  assert.equal(streamed, tokens);
  await one.close();
});

engine('gives n choices, each as its seed gives it alone', async () => {
  const { engine: one } = make();
  const result = await one.complete({ ...PLAIN, n: 6 });
  assert.is(result.choices?.length, 6);
  for (const [i, choice] of (result.choices ?? []).entries()) {
    const alone = await solo({ ...PLAIN, seed: 5 + i });
    assert.is(choice.seed, 5 + i);
    assert.equal(choice.tokens, alone.tokens);
    assert.is(choice.text, alone.text);
  }
  assert.is(result.text, result.choices?.[0]?.text);
  assert.is(result.usage.completionTokens, 6 * 40);

  const texts = new Array<string>(6).fill('');
  for await (const { index, text } of one.stream({ ...PLAIN, n: 6 })) texts[index] += text;
  assert.equal(texts, result.choices?.map(({ text }) => text));
  await one.close();
});

engine('computes the prompt of n choices once, and reports what earlier requests had computed of it', async () => {
  const { engine: one, native } = make({ rows: 8 });
  const LONG = { ...PLAIN, prompt: Array.from({ length: 100 }, (_, i) => (i * 7) % 1000), maxTokens: 3 };
  const { usage } = await one.complete({ ...LONG, n: 6 });
  assert.equal(usage, { promptTokens: 100, completionTokens: 18, cachedTokens: 0 });
  const computed = native.plans.reduce((sum, { tokens }) => sum + tokens, 0);
  assert.is(computed, 100 + 5 + 6 * 2); // the last token of the prompt by everybody, and two of their own
  assert.equal(one.stats().tokens, { prompt: 105, cached: 5 * 99, generated: 18 });

  assert.is((await one.complete(LONG)).usage.cachedTokens, 99);
  assert.is((await one.complete({ ...LONG, n: 2 })).usage.cachedTokens, 99);
  assert.is((await one.complete({ ...LONG, cacheSalt: 'mine' })).usage.cachedTokens, 0);
  const stream = one.stream({ ...LONG, cacheSalt: 'mine' });
  for await (const _ of stream);
  assert.is(stream.completion?.usage.cachedTokens, 99);
  await one.close();
});

engine('refuses several greedy choices, which would be equal', async () => {
  const { engine: one } = make({ parts: { generation: { temperature: 0 } } });
  assert.is(await codeOf(() => one.complete({ ...PLAIN, n: 2 })), 'INVALID_OPTION');
  assert.is(await codeOf(() => one.complete({ ...PLAIN, n: 2, temperature: 1 })), 'none');
  await one.close();
});

engine('refuses unknown options by their nearest name, a stream at once', async () => {
  const { engine: one } = make();
  const misspelt = { prompt: 'x', max_tokens: 3 } as RequestOptions;
  assert.throws(() => one.stream(misspelt), /did you mean maxTokens\?/);
  assert.is(await codeOf(() => one.complete(misspelt)), 'INVALID_OPTION');
  assert.is(await codeOf(() => one.complete(undefined as never)), 'INVALID_OPTION');
  await one.close();
});

engine('refuses prompts that are empty, too long or never fit, and takes one at the limit', async () => {
  const { engine: one } = make({ parts: { tokenizer: new Tokenizer(withoutBegin()) } });
  assert.is(await codeOf(() => one.complete({ prompt: '' })), 'INVALID_OPTION');
  assert.is(await codeOf(() => one.complete({ prompt: new Array(CONTEXT).fill(5) })), 'TOO_LONG');
  assert.is(await codeOf(() => one.complete({ prompt: [5], maxTokens: CONTEXT })), 'TOO_LONG');
  const last = await one.complete({ prompt: new Array(CONTEXT - 1).fill(5), ignoreEos: true });
  assert.is(last.tokens.length, 1);
  assert.is(last.finishReason, 'length');
  await one.close();
});

engine('refuses a text that cannot fit before it is tokenized', async () => {
  const untouched = new Tokenizer(files);
  untouched.encode = () => assert.unreachable('tokenized') as never;
  const { engine: one } = make({ parts: { tokenizer: untouched } });
  assert.is(await codeOf(() => one.complete({ prompt: 'x'.repeat(5_000_000) })), 'TOO_LONG');
  await one.close();
});

function withoutBegin() {
  const { tokenizerJson, tokenizerConfig } = files;
  const json = { ...(tokenizerJson as object), post_processor: null };
  return { tokenizerJson: json, tokenizerConfig: { ...tokenizerConfig, add_bos_token: false } };
}

engine('adds all choices of a call or none when the queue is full', async () => {
  const { engine: one } = make({ queueRequests: 5 });
  assert.is(await codeOf(() => one.complete({ ...PLAIN, n: 6 })), 'QUEUE_FULL');
  await until(() => isEmpty(one));
  assert.is(one.stats().tokens.generated, 0);
  assert.is((await one.complete({ ...PLAIN, n: 5 })).choices?.length, 5);
  await one.close();
});

engine('answers a conversation through the template, with one begin token', async () => {
  const { engine: one } = make();
  const { prompt, ...rest } = PLAIN;
  const messages = [{ role: 'user', content: prompt }];
  const answer = await one.chat({ ...rest, messages });
  assert.equal(answer.tokens, (await solo(PLAIN)).tokens);
  assert.equal((await one.complete({ ...rest, messages })).tokens, answer.tokens);
  assert.is(await codeOf(() => one.chat(PLAIN as never)), 'INVALID_OPTION');
  await one.close();

  const { engine: without } = make({ parts: { chatTemplate: null } });
  assert.is(await codeOf(() => without.chat({ messages })), 'MODEL_UNSUPPORTED');
  await without.close();
});

engine('aborts at every moment, with the text so far and all memory back', async () => {
  const whole = await solo({ ...PLAIN, maxTokens: 12 });
  for (let moment = 0; moment < 20; moment++) {
    for (const streamed of [false, true]) {
      const { engine: one, native } = make();
      const controller = new AbortController();
      native.during = async (step) => {
        if (step === moment) controller.abort();
        await turn();
      };
      const company = one.complete({ ...PLAIN, seed: 9 });
      const options = { ...PLAIN, maxTokens: 12, signal: controller.signal };
      let completion;
      if (streamed) {
        const stream = one.stream(options);
        let text = '';
        for await (const chunk of stream) text += chunk.text;
        completion = stream.completion;
        assert.is(completion?.text, text);
      } else {
        completion = await one.complete(options);
      }
      const { tokens = [], text, finishReason } = completion ?? {};
      assert.equal(tokens, whole.tokens.slice(0, tokens.length));
      assert.is(text, tokenizer.decode(tokens));
      assert.is(finishReason, tokens.length === 12 ? 'length' : 'abort', `moment ${moment}`);
      assert.ok(tokens.length <= moment);
      assert.equal((await company).tokens, (await solo({ ...PLAIN, seed: 9 })).tokens);
      await until(() => isEmpty(one));
      controller.abort();
      await one.close();
    }
  }
});

engine('takes a signal that has already fired as an abort before the first token', async () => {
  const { engine: one, native } = make();
  const signal = AbortSignal.abort();
  const result = await one.complete({ ...PLAIN, signal });
  assert.is(result.finishReason, 'abort');
  assert.is(result.text, '');
  assert.equal(result.tokens, []);
  assert.equal(result.timings, { queuedMs: 0, ttftMs: null, totalMs: 0 });
  assert.is(result.usage.completionTokens, 0);
  assert.equal(await collect(one, { ...PLAIN, signal, n: 2 }), { text: '', tokens: [] });
  assert.is(native.plans.length, 0);
  await one.close();
});

engine('aborts while queued and while held, and takes an abort after the end calmly', async () => {
  const { engine: one } = make({ rows: 1 });
  const first = one.complete({ ...PLAIN, maxTokens: 100 });
  const queued = new AbortController();
  const second = one.complete({ ...PLAIN, signal: queued.signal });
  await turn();
  queued.abort();
  assert.is((await second).finishReason, 'abort');
  assert.equal((await second).timings.ttftMs, null);
  await first;

  const held = new AbortController();
  const stream = one.stream({ ...PLAIN, maxTokens: 900, signal: held.signal });
  await stream.next();
  await stalled(one);
  held.abort();
  let last;
  for await (const chunk of stream) last = chunk;
  assert.is(last?.finishReason, 'abort');
  held.abort();
  await until(() => isEmpty(one));
  await one.close();
});

/** Waits until the engine has stopped making steps while it has work, and says how many tokens it has made. */
async function stalled(one: Engine): Promise<number> {
  for (let steps = -1; steps !== one.stats().steps; ) {
    steps = one.stats().steps;
    for (let turns = 0; turns < 20; turns++) await turn();
  }
  assert.not.ok(isEmpty(one));
  return one.stats().tokens.generated;
}

engine('holds a request whose reader is 256 tokens behind, until half of them are read', async () => {
  const { engine: one } = make();
  const options = { ...PLAIN, maxTokens: 900 };
  const stream = one.stream(options);
  const read = [...((await stream.next()).value?.tokens ?? [])];
  const ahead = await stalled(one);
  assert.ok(ahead - read.length >= 256 && ahead - read.length <= 260, `${ahead - read.length} ahead`);

  const neighbour = await one.complete({ ...PLAIN, seed: 8 });
  assert.equal(neighbour.tokens, (await solo({ ...PLAIN, seed: 8 })).tokens);
  assert.is(one.stats().tokens.generated, ahead + 40, 'held while its neighbour ran');

  while (ahead - read.length > 160) read.push(...((await stream.next()).value?.tokens ?? []));
  for (let turns = 0; turns < 20; turns++) await turn();
  assert.is(one.stats().tokens.generated, ahead + 40, 'still held');
  while (ahead - read.length > 120) read.push(...((await stream.next()).value?.tokens ?? []));
  assert.ok((await stalled(one)) > ahead + 40 + 100, 'went on');

  for await (const chunk of stream) read.push(...chunk.tokens);
  assert.equal(read, (await solo(options)).tokens);
  await one.close();
});

engine('ends the request when the reader leaves, at any chunk', async () => {
  for (let chunks = 1; chunks < 8; chunks++) {
    const { engine: one } = make();
    let read = 0;
    const stream = one.stream({ ...PLAIN, maxTokens: 500 });
    for await (const _ of stream) {
      if (++read === chunks) break;
    }
    await until(() => isEmpty(one));
    assert.ok(one.stats().tokens.generated < 100);
    assert.equal(await stream.next(), { value: undefined, done: true });
    await one.close();
  }
});

engine('leaves nothing behind of a stream that nobody reads', async () => {
  const { engine: one, native } = make();
  const unread = one.stream(PLAIN);
  await turn();
  assert.is(native.plans.length, 0);
  await unread.return();
  assert.equal(await unread.next(), { value: undefined, done: true });
  {
    await using disposed = one.stream({ ...PLAIN, maxTokens: 500 });
    await disposed.next();
  }
  await until(() => isEmpty(one));
  await one.close();
});

engine('serves several reads asked for at once, in order', async () => {
  const { engine: one } = make();
  const stream = one.stream({ ...PLAIN, maxTokens: 10 });
  const results = await Promise.all(Array.from({ length: 15 }, () => stream.next()));
  const tokens = results.flatMap(({ value }) => value?.tokens ?? []);
  assert.equal(tokens, (await solo(PLAIN)).tokens.slice(0, 10));
  assert.is(results.at(-1)?.done, true);
  await one.close();
});

engine('closes while streaming: the running step ends, what is left is refused with CLOSED', async () => {
  for (let moment = 0; moment < 6; moment++) {
    const { engine: one, native } = make({ rows: 2 });
    let running = false;
    let closing: Promise<void> | undefined;
    native.during = async (step) => {
      running = true;
      if (step === moment) closing = one.close();
      await turn();
      assert.not.ok(native.closed, 'closed under a running step');
      running = false;
    };
    const codes = [1, 2, 3, 4].map((seed) => codeOf(() => run(one, { ...PLAIN, seed }, seed % 2 === 0)));
    assert.equal(await Promise.all(codes), ['CLOSED', 'CLOSED', 'CLOSED', 'CLOSED']);
    await closing;
    assert.ok(native.closed && !running);
    assert.is(native.plans.length, moment + 1);
    assert.ok(isEmpty(one));
  }
});

engine('closes at once when idle, when everything is held, and when closed already', async () => {
  const { engine: one, native } = make();
  await Promise.all([one.close(), one.close()]);
  await one.close();
  assert.ok(native.closed);
  assert.is(await codeOf(() => one.complete(PLAIN)), 'CLOSED');
  assert.is(await codeOf(() => one.stream(PLAIN).next()), 'CLOSED');

  const { engine: held } = make();
  const stream = held.stream({ ...PLAIN, maxTokens: 900 });
  await stream.next();
  await stalled(held);
  await held.close();
  let tokens = 0;
  assert.is(await codeOf(async () => { for await (const chunk of stream) tokens += chunk.tokens.length; }), 'CLOSED');
  assert.ok(tokens >= 255, 'what was ready is still delivered');
  assert.is(stream.completion, undefined);
});

engine('closes with await using', async () => {
  const { engine: one, native } = make();
  {
    await using used = one;
    await used.complete(PLAIN);
  }
  assert.ok(native.closed);
});

engine('rejects everything with the cause when the device is lost, and stays closed', async () => {
  const { engine: one, native } = make({ rows: 2 });
  native.during = async (step) => {
    await turn();
    if (step === 3) throw Object.assign(new Error('the device is gone'), { code: 'DEVICE_LOST' });
  };
  const codes = [1, 2, 3].map((seed) => codeOf(() => one.complete({ ...PLAIN, seed })));
  assert.equal(await Promise.all(codes), ['DEVICE_LOST', 'DEVICE_LOST', 'DEVICE_LOST']);
  assert.is(await codeOf(() => one.complete(PLAIN)), 'CLOSED');
  await one.close();
});

engine('rejects the request whose logits are broken, ends its siblings, and spares its neighbours', async () => {
  const { engine: one, native } = make();
  native.broken = (seed, position) => seed === 6 && position === 20;
  const neighbour = one.complete({ ...PLAIN, seed: 9 });
  assert.is(await codeOf(() => one.complete({ ...PLAIN, n: 3, maxTokens: 500 })), 'INVALID_LOGITS');
  assert.equal((await neighbour).tokens, (await solo({ ...PLAIN, seed: 9 })).tokens);
  await until(() => isEmpty(one));
  assert.ok(one.stats().tokens.generated < 40 + 3 * 50, 'the siblings did not go on');
  const stream = one.stream({ ...PLAIN, seed: 6 });
  assert.is(await codeOf(async () => { for await (const _ of stream); }), 'INVALID_LOGITS');
  assert.equal(await stream.next(), { value: undefined, done: true }, 'an error is thrown once');
  await until(() => isEmpty(one));
  await one.close();
});

engine('lets other work of the process go on while it generates', async () => {
  const { engine: one } = make();
  let ticks = 0;
  const timer = setInterval(() => ticks++, 0);
  await one.complete({ ...PLAIN, maxTokens: 500 });
  clearInterval(timer);
  assert.ok(ticks > 0);
  await one.close();
});

engine('keeps no listener on a signal that many requests share', async () => {
  const { engine: one } = make();
  const { signal } = new AbortController();
  let listeners = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...values: Parameters<typeof add>) => (listeners++, add(...values));
  signal.removeEventListener = (...values: Parameters<typeof remove>) => (listeners--, remove(...values));
  await Promise.all([1, 2, 3].map((seed) => one.complete({ ...PLAIN, seed, signal })));
  await codeOf(() => one.complete({ prompt: [5], maxTokens: CONTEXT, signal }));
  assert.is(listeners, 0);
  await one.close();
});

engine('tells what it is and does', async () => {
  const { engine: one } = make();
  await one.complete(PLAIN);
  const stats = one.stats();
  assert.equal([stats.model.device, stats.model.slots, stats.model.context], ['fake', 4 * CONTEXT, CONTEXT]);
  assert.is(stats.tokens.generated, 40);
  assert.is(stats.rows, 4);
  assert.equal(one.tokenize('Once upon'), tokenizer.encode('Once upon'));
  assert.is(one.detokenize(one.tokenize('Once upon')), 'Once upon');
  await one.close();
});

engine.run();
