import { EngineError } from '../errors.ts';

/** One request of a workload, as lengths. */
export interface WorkloadRequest {
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly arrivalMs: number;
  /** Which system prompt it begins with, if any, and how many tokens of the prompt that is. */
  readonly prefix?: { readonly id: number; readonly tokens: number };
}

export interface WorkloadOptions {
  readonly requests: number;
  readonly seed: number;
  /** Prompt and output together are at most this long. */
  readonly context: number;
  /** Typical lengths, which each workload spreads in its way; by default an eighth of the context. */
  readonly promptTokens?: number;
  readonly outputTokens?: number;
  /** Mean arrivals per second; by default all are there at once. */
  readonly rate?: number;
}

/** Uniform in [0, 1). The same seed gives the same numbers everywhere (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What the workloads draw from: lengths around a typical one, from one seeded generator. */
class Draw {
  readonly uniform: () => number;

  constructor(seed: number) {
    this.uniform = generator(seed);
  }

  /** Uniform in [low, high]. */
  between(low: number, high: number): number {
    return low + this.uniform() * (high - low);
  }

  logNormal(median: number, sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.uniform()));
  }

  /** Time to the next of a Poisson process. */
  gap(meanMs: number): number {
    return -Math.log(1 - this.uniform()) * meanMs;
  }
}

interface Shape {
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly prefix?: { readonly id: number; readonly tokens: number };
  /** Of the mean gap before this request; 1 unless given. */
  readonly gap?: number;
}

type Spread = (draw: Draw, prompt: number, output: number, index: number, context: number) => Shape;

const BURST = 32; // requests that arrive together
const PREFIXES = 4; // system prompts in use

const WORKLOADS = {
  uniform: (draw, prompt, output) => ({
    promptTokens: draw.between(1, 2 * prompt),
    outputTokens: draw.between(1, 2 * output),
  }),
  'heavy-tail': (draw, prompt, output) => ({
    promptTokens: draw.between(1, 2 * prompt),
    outputTokens: draw.logNormal(output, 1.2),
  }),
  // Log-normal fits of the public Azure 2023 conversation trace (19,366 requests): σ 0.99 for prompts and 0.86 for
  // outputs, no correlation worth keeping (0.09), gaps as of a Poisson process (coefficient of variation 1.09).
  chat: (draw, prompt, output) => ({
    promptTokens: draw.logNormal(prompt, 0.99),
    outputTokens: draw.logNormal(output, 0.86),
  }),
  code: (draw, prompt, output) => ({
    promptTokens: draw.logNormal(3 * prompt, 0.6),
    outputTokens: draw.logNormal(output / 6, 0.6),
  }),
  prefix: (draw, prompt, output) => {
    const tokens = 2 * prompt;
    return {
      promptTokens: tokens + draw.between(1, prompt / 2),
      outputTokens: draw.between(1, 2 * output),
      prefix: { id: Math.floor(draw.uniform() * PREFIXES), tokens },
    };
  },
  burst: (draw, prompt, output, index) => ({
    promptTokens: draw.between(1, 2 * prompt),
    outputTokens: draw.logNormal(output, 0.6),
    gap: index % BURST === 0 ? BURST : 0,
  }),
  adversarial: (draw, prompt, output, index, context) => ({
    promptTokens: draw.between(1, 2 * prompt),
    outputTokens: index % 2 === 0 ? 1 : context,
  }),
} satisfies Record<string, Spread>;

export type WorkloadName = keyof typeof WORKLOADS;
export const WORKLOAD_NAMES = Object.keys(WORKLOADS) as readonly WorkloadName[];

/** The same name, options and seed give the same requests. */
export function workload(name: WorkloadName, options: WorkloadOptions): WorkloadRequest[] {
  if (!Object.hasOwn(WORKLOADS, name)) {
    throw new EngineError('INVALID_OPTION', `workload: expected ${WORKLOAD_NAMES.join(', ')}, got ${String(name)}`);
  }
  const { requests, seed, context, rate = Infinity } = options;
  for (const [key, value, least] of [['requests', requests, 0], ['context', context, 2]] as const) {
    if (Number.isInteger(value) && value >= least) continue;
    throw new EngineError('INVALID_OPTION', `${key}: expected an integer from ${least}, got ${value}`);
  }
  const { promptTokens = context / 8, outputTokens = context / 8 } = options;
  const draw = new Draw(seed);
  const spread: Spread = WORKLOADS[name];
  let arrivalMs = 0;
  return Array.from({ length: requests }, (_, index) => {
    const { gap = 1, ...shape } = spread(draw, promptTokens, outputTokens, index, context);
    arrivalMs += gap * draw.gap(1000 / rate);
    const prompt = Math.max(1, Math.min(context - 1, Math.round(shape.promptTokens)));
    const output = Math.max(1, Math.min(context - prompt, Math.round(shape.outputTokens)));
    const record = { promptTokens: prompt, outputTokens: output, arrivalMs };
    if (shape.prefix === undefined) return record;
    return { ...record, prefix: { id: shape.prefix.id, tokens: Math.min(prompt, Math.round(shape.prefix.tokens)) } };
  });
}
