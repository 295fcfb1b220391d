import { DEVICE_NAME } from './env.ts';
import { EngineError } from './errors.ts';

/** Devices, number formats and rules that this build knows. */
export const WEIGHTS = ['auto', 'f32', 'bf16', 'int8'] as const;
export const KV = ['auto', 'f32', 'bf16'] as const;
export const POLICIES = ['relay', 'baton-pd', 'baton', 'orca', 'static'] as const;
export const ADMISSIONS = ['optimistic', 'reserve'] as const;
export const ISAS = ['auto', 'amx', 'avx512', 'avx2', 'neon', 'scalar'] as const;

const MOST_ROWS = 1024;
const MOST_THREADS = 1024;
const MOST_CHOICES = 64;
const MOST_STOPS = 16;
const MOST_STOP_TOKENS = 1024;
const MOST_BIASES = 1024;
const MOST_LOGPROBS = 20;
const MOST_SALT = 256; // characters
const MOST_INT32 = 2 ** 31 - 1;
const GREEDY_BELOW = 1e-5; // a temperature this small is meant as 0, and would overflow the logits

/** One turn of a conversation. */
export interface ChatMessage {
  /** `user`, `assistant`, `system`, and what else the model's chat template knows. */
  readonly role: string;
  readonly content: string;
}

/**
 * How a model is loaded. Unknown names are refused.
 *
 * @example
 * await Engine.load('models/tales', { rows: 8, weights: 'int8', kvBytes: 512 * 2 ** 20 });
 */
export interface LoadOptions {
  /** `auto` (default: the first GPU, where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`. */
  readonly device?: string;
  /** Number format of the weights in memory. `auto`: as stored in the file, f16 as bf16. */
  readonly weights?: (typeof WEIGHTS)[number];
  /** Number format of keys and values. `auto`: f32 beside f32 weights, else bf16. */
  readonly kv?: (typeof KV)[number];
  /** Bytes for keys and values. Default: room for all rows at full context, at most a quarter of the free memory. */
  readonly kvBytes?: number;
  /**
   * Bytes of host memory for the keys and values of preempted requests; those that find no room are computed again.
   * 0: all of them. Default: as many as for keys and values, at most a quarter of the free host memory,
   * and 4 GiB on a GPU.
   */
  readonly parkBytes?: number;
  /** Most tokens of one request, prompt and output. Default: the model's context, at most 8192. */
  readonly maxContext?: number;
  /** Requests that decode together, 1 to 1024. Default 32. */
  readonly rows?: number;
  /** Threads of the CPU backend. 0 (default): as many as there are free cores. */
  readonly threads?: number;
  /** The rule that plans each step: `relay` (default), or one of the others, which are there to compare it with. */
  readonly policy?: (typeof POLICIES)[number];
  /** `optimistic` (default) gives a request memory as it grows, `reserve` for its whole length at once. */
  readonly admission?: (typeof ADMISSIONS)[number];
  /**
   * Most milliseconds between two tokens of a request, as far as the device allows: `relay` sizes chunks of prompts,
   * and the number of rows in use, so that no step is expected to take longer. Infinity: throughput before smoothness.
   * Default: 1.25 times what a step of all rows takes without prompts.
   */
  readonly targetItlMs?: number;
  /** Milliseconds of waiting that are worth one level of a request's `priority`. Default 10,000. */
  readonly agingMs?: number;
  /** Most requests that wait. More are refused with QUEUE_FULL. Default 1024. */
  readonly queueRequests?: number;
  /** Most prompt tokens that wait. More are refused with QUEUE_FULL. Default 1,048,576. */
  readonly queueTokens?: number;
  /**
   * Prompts that begin like others are computed once: what requests leave in the memory for keys and values is copied
   * while it is there. Changes no token. Default true.
   */
  readonly prefixReuse?: boolean;
  /** Instruction set of the CPU backend. `auto` (default): the best that the machine has. */
  readonly isa?: (typeof ISAS)[number];
  /** Called while the weights are read, with a share from 0 to 1. */
  readonly onProgress?: (share: number) => void;
}

/**
 * One generation. Needs `prompt` or `messages`; everything else has a default. Unknown names are refused.
 *
 * Sampling defaults are the model's own (generation_config.json, where it says to sample), else temperature 1.
 *
 * @example
 * await engine.complete({ prompt: 'Once upon a time', maxTokens: 100, temperature: 0.8, topP: 0.95, seed: 7 });
 */
export interface RequestOptions {
  /** Text, which gets the model's begin token, or token ids, which are taken as they are. */
  readonly prompt?: string | readonly number[] | Int32Array;
  /** A conversation, written out by the model's chat template. */
  readonly messages?: readonly ChatMessage[];
  /** Most tokens to generate. Default: what is left of the context. */
  readonly maxTokens?: number;
  /** Before this many tokens, neither the end token nor `stopTokenIds` can be drawn. Default 0. */
  readonly minTokens?: number;
  /** 0 to 2; 0 is greedy. */
  readonly temperature?: number;
  /** Above 0, to 1: the smallest set of tokens with this probability. 1: off. */
  readonly topP?: number;
  /** The most likely tokens, so many. 0 or −1: off. */
  readonly topK?: number;
  /** 0 to 1: tokens at least this likely, relative to the likeliest. 0: off. */
  readonly minP?: number;
  /** Above 0; 1: off. Over prompt and output. */
  readonly repetitionPenalty?: number;
  /** −2 to 2; 0: off. Over output. */
  readonly presencePenalty?: number;
  /** −2 to 2; 0: off. Over output. */
  readonly frequencyPenalty?: number;
  /** 0 to 2^53 − 1. Default: drawn at random, and reported in the result. */
  readonly seed?: number;
  /** Continuations of the same prompt, 1 to 64, with seeds seed, seed + 1, … Default 1. */
  readonly n?: number;
  /** The text ends in front of the first of these, up to 16. */
  readonly stop?: string | readonly string[];
  /** Tokens that end the generation, beside the model's end tokens. */
  readonly stopTokenIds?: readonly number[];
  /** Go on after the model's end tokens. */
  readonly ignoreEos?: boolean;
  /** Report the log-probability of each token, and of this many alternatives, 0 to 20. */
  readonly logprobs?: number;
  /** Token id to what is added to its logit, −100 to 100. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /**
   * Any integer of 32 bits; higher goes first, and may take the row or memory of a lower one, which goes on later. Each
   * level is worth `agingMs` of waiting, so that nobody waits for ever. Default 0.
   */
  readonly priority?: number;
  /**
   * Prefixes are shared only among requests with the same salt, up to 256 characters: give each tenant its own, so that
   * none can find out by the clock what another has asked. Default: the salt of all who give none.
   */
  readonly cacheSalt?: string;
  /** Ends the generation at any moment; the result has what there is, and finishReason `abort`. */
  readonly signal?: AbortSignal;
}

/** A value is read by its rule or refused with what the rule expected. */
interface Rule<T> {
  readonly expected: string;
  read(value: unknown): T | undefined;
}

type Values<Rules> = { readonly [Name in keyof Rules]?: Rules[Name] extends Rule<infer T> ? T : never };

const LOAD_RULES = {
  device: deviceName(),
  weights: oneOf(WEIGHTS),
  kv: oneOf(KV),
  kvBytes: integer(1, Number.MAX_SAFE_INTEGER),
  parkBytes: integer(0, Number.MAX_SAFE_INTEGER),
  maxContext: integer(1, MOST_INT32),
  rows: integer(1, MOST_ROWS),
  threads: integer(0, MOST_THREADS),
  policy: oneOf(POLICIES),
  admission: oneOf(ADMISSIONS),
  targetItlMs: milliseconds(),
  agingMs: integer(1, MOST_INT32),
  queueRequests: integer(1, MOST_INT32),
  queueTokens: integer(1, Number.MAX_SAFE_INTEGER),
  prefixReuse: aBoolean(),
  isa: oneOf(ISAS),
  onProgress: aFunction<(share: number) => void>(),
} satisfies Record<keyof LoadOptions, Rule<unknown>>;

/** Load options, each of them checked. Throws INVALID_OPTION. */
export function readLoadOptions(options: unknown): Values<typeof LOAD_RULES> {
  return readAll('load options', options, LOAD_RULES);
}

/** What the rules for a request depend on. */
export interface RequestLimits {
  readonly vocabulary: number;
}

/** Request options, each of them checked and freed of its alternatives. */
export interface RequestValues extends Omit<RequestOptions, 'stop' | 'prompt' | 'logitBias'> {
  readonly prompt?: string | readonly number[];
  readonly stop?: readonly string[];
  readonly logitBias?: readonly (readonly [token: number, bias: number])[];
}

/** Request options, checked one by one and against each other. Throws INVALID_OPTION. */
export function readRequestOptions(options: unknown, { vocabulary }: RequestLimits): RequestValues {
  const token = integer(0, vocabulary - 1);
  const rules = {
    prompt: prompt(token),
    messages: messages(),
    maxTokens: integer(1, MOST_INT32),
    minTokens: integer(0, MOST_INT32),
    temperature: map(number(0, 2), (value) => (value < GREEDY_BELOW ? 0 : value)),
    topP: number(0, 1, 'above'),
    topK: map(integer(-1, MOST_INT32), (value) => Math.max(0, value)),
    minP: number(0, 1),
    repetitionPenalty: number(0, 100, 'above'),
    presencePenalty: number(-2, 2),
    frequencyPenalty: number(-2, 2),
    seed: integer(0, Number.MAX_SAFE_INTEGER),
    n: integer(1, MOST_CHOICES),
    stop: stopStrings(),
    stopTokenIds: listOf(token, MOST_STOP_TOKENS),
    ignoreEos: aBoolean(),
    logprobs: integer(0, MOST_LOGPROBS),
    logitBias: logitBias(token),
    priority: integer(-MOST_INT32, MOST_INT32),
    cacheSalt: aText(MOST_SALT),
    signal: abortSignal(),
  } satisfies Record<keyof RequestOptions, Rule<unknown>>;
  const values = readAll('request options', options, rules);

  if ((values.prompt === undefined) === (values.messages === undefined)) {
    const received = values.prompt === undefined ? 'neither' : 'both';
    throw new EngineError('INVALID_OPTION', `request options: expected prompt or messages, got ${received}`);
  }
  if (values.maxTokens !== undefined && (values.minTokens ?? 0) > values.maxTokens) {
    const message = `minTokens: expected at most maxTokens (${values.maxTokens}), got ${values.minTokens}`;
    throw new EngineError('INVALID_OPTION', message);
  }
  return values;
}

function readAll<Rules extends Record<string, Rule<unknown>>>(
  what: string,
  options: unknown,
  rules: Rules,
): Values<Rules> {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new EngineError('INVALID_OPTION', `${what}: expected an object, got ${shown(options)}`);
  }
  const values: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (rule === undefined) throw unknownOption(what, name, Object.keys(rules));
    if (value === undefined) continue; // as good as absent
    const read = rule.read(value);
    values[name] = read ?? refuse(name, rule.expected, value);
  }
  return values as Values<Rules>;
}

function unknownOption(what: string, name: string, names: readonly string[]): EngineError {
  const nearest = nearestName(name, names);
  const hint = nearest === undefined ? `expected one of ${names.join(', ')}` : `did you mean ${nearest}?`;
  return new EngineError('INVALID_OPTION', `${what}: unknown option ${shown(name)}; ${hint}`);
}

/** The name that a misspelt one was meant to be, if one is near. `max_tokens` is as near to `maxTokens` as can be. */
export function nearestName(name: string, names: readonly string[]): string | undefined {
  const plain = (text: string) => text.toLowerCase().replace(/[_-]/g, '').slice(0, 64);
  const near = names
    .map((candidate) => ({ candidate, distance: editDistance(plain(name), plain(candidate)) }))
    .filter(({ candidate, distance }) => distance <= Math.max(1, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.candidate;
}

/** Levenshtein's: insertions, deletions and replacements that turn one into the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}

/** A value as error messages show it: short, and nothing that could hide the message. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === 'number' || typeof value === 'boolean' || value == null) return String(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'symbol') return 'a symbol';
  return Array.isArray(value) ? `an array of ${value.length}` : 'an object';
}

function refuse(name: string, expected: string, value: unknown): never {
  throw new EngineError('INVALID_OPTION', `${name}: expected ${expected}, got ${shown(value)}`);
}

function map<T, U>(rule: Rule<T>, to: (value: T) => U): Rule<U> {
  return {
    expected: rule.expected,
    read(value) {
      const read = rule.read(value);
      return read === undefined ? undefined : to(read);
    },
  };
}

function integer(least: number, most: number): Rule<number> {
  const expected = `an integer from ${least} to ${most}`;
  const read = (value: unknown) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most ? value : undefined;
  return { expected, read };
}

function number(least: number, most: number, from: 'from' | 'above' = 'from'): Rule<number> {
  const read = (value: unknown) => {
    if (typeof value !== 'number' || !Number.isFinite(value) || value > most) return undefined;
    return value > least || (from === 'from' && value === least) ? value : undefined;
  };
  return { expected: `a number ${from} ${least} to ${most}`, read };
}

function milliseconds(): Rule<number> {
  const read = (value: unknown) => (typeof value === 'number' && value > 0 ? value : undefined);
  return { expected: 'a number above 0', read };
}

function oneOf<const Names extends readonly string[]>(names: Names): Rule<Names[number]> {
  const read = (value: unknown) => names.find((name) => name === value);
  return { expected: `one of ${names.join(', ')}`, read };
}

function aBoolean(): Rule<boolean> {
  return { expected: 'true or false', read: (value) => (typeof value === 'boolean' ? value : undefined) };
}

function aText(most: number): Rule<string> {
  const read = (value: unknown) => (typeof value === 'string' && value.length <= most ? value : undefined);
  return { expected: `text of at most ${most} characters`, read };
}

function aFunction<T extends (...values: never[]) => unknown>(): Rule<T> {
  return { expected: 'a function', read: (value) => (typeof value === 'function' ? (value as T) : undefined) };
}

function abortSignal(): Rule<AbortSignal> {
  return { expected: 'an AbortSignal', read: (value) => (value instanceof AbortSignal ? value : undefined) };
}

function deviceName(): Rule<string> {
  const read = (value: unknown) => (typeof value === 'string' && DEVICE_NAME.test(value) ? value : undefined);
  return { expected: 'auto, cpu, cuda or cuda:N', read };
}

function listOf<T>(rule: Rule<T>, most: number): Rule<readonly T[]> {
  return {
    expected: `an array of at most ${most}, each ${rule.expected}`,
    read(value) {
      if (!Array.isArray(value) || value.length > most) return undefined;
      return value.map((one: unknown, i) => rule.read(one) ?? refuse(`element ${i}`, rule.expected, one));
    },
  };
}

function prompt(token: Rule<number>): Rule<string | readonly number[]> {
  return {
    expected: `text, or an array of token ids, each ${token.expected}`,
    read(value) {
      if (typeof value === 'string') return value;
      if (!Array.isArray(value) && !(value instanceof Int32Array)) return undefined;
      if (value.length === 0) refuse('prompt', 'at least one token id', value);
      // A copy: the caller may change its own while the request waits.
      const ids: ArrayLike<unknown> = value;
      return Array.from(ids, (id, i) => token.read(id) ?? refuse(`prompt[${i}]`, token.expected, id));
    },
  };
}

function messages(): Rule<readonly ChatMessage[]> {
  return {
    expected: 'an array of at least one { role, content }',
    read(value) {
      if (!Array.isArray(value) || value.length === 0) return undefined;
      return value.map((message: unknown, i) => {
        const text = { expected: 'text', read: (one: unknown) => (typeof one === 'string' ? one : undefined) };
        const { role, content } = readAll(`messages[${i}]`, message, { role: text, content: text });
        if (role === undefined || content === undefined) return refuse(`messages[${i}]`, 'role and content', message);
        return { role, content };
      });
    },
  };
}

/** Lone surrogates are refused: no text has them, so such a stop would cut a character in two or never come. */
function stopStrings(): Rule<readonly string[]> {
  return {
    expected: `text, or an array of at most ${MOST_STOPS} texts, none of them empty`,
    read(value) {
      const stops: unknown[] = Array.isArray(value) ? value : [value];
      if (stops.length > MOST_STOPS) return undefined;
      return stops.every((stop) => typeof stop === 'string' && stop !== '' && !/\p{Surrogate}/u.test(stop))
        ? (stops as string[])
        : undefined;
    },
  };
}

function logitBias(token: Rule<number>): Rule<readonly (readonly [number, number])[]> {
  const bias = number(-100, 100);
  return {
    expected: `at most ${MOST_BIASES} token ids, each with ${bias.expected}`,
    read(value) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
      const entries = Object.entries(value);
      if (entries.length > MOST_BIASES) return undefined;
      return entries.map(([key, one]) => {
        const id = /^\d+$/.test(key) ? token.read(Number(key)) : undefined;
        if (id === undefined) return refuse('logitBias', `token ids, each ${token.expected}`, key);
        return [id, bias.read(one) ?? refuse(`logitBias[${key}]`, bias.expected, one)];
      });
    },
  };
}
