// Greedy decoding through the public engine, held against recorded tokens.

import * as assert from 'uvu/assert';
import { loadAddon } from '../../src/addon.ts';
import type { TokenLogprob } from '../../src/index.ts';
import { Engine } from '../../src/index.ts';
import type { LoadOptions } from '../../src/options.ts';

/** A prompt and what a reference made of it. */
export interface GoldenCase {
  readonly prompt: readonly number[];
  readonly tokens: readonly number[];
  /** The best logits behind the prompt, best first. */
  readonly first: readonly { readonly id: number; readonly logit: number }[];
}

const TOP = 20; // alternatives: so many that a recorded one is always among them

/** The CPU paths of this machine, scalar first: it is what the others are judged by. */
export function findIsas(): readonly string[] {
  const isas = loadAddon().cpu().isas;
  assert.ok(isas.includes('scalar'), `scalar in ${isas.join(', ')}`);
  return ['scalar', ...isas.filter((isa) => isa !== 'scalar')];
}

export async function withEngine<T>(
  folder: string,
  options: LoadOptions,
  use: (engine: Engine) => Promise<T>,
): Promise<T> {
  const engine = await Engine.load(folder, { rows: 16, maxContext: 512, ...options });
  try {
    return await use(engine);
  } finally {
    await engine.close();
  }
}

/** What the engine says along the reference: `steps[i]` is its answer to the prompt and the tokens before i. */
export interface Answers {
  readonly steps: readonly TokenLogprob[];
  /** Steps at which it would have gone another way, and how much less likely it found the reference's token. */
  readonly detours: readonly { readonly step: number; readonly gap: number }[];
}

/**
 * Decodes greedily along the reference. Where the engine prefers another token, the gap is noted, the reference's
 * token is put in its place, and decoding goes on behind it: every step is compared, not only those before a detour.
 */
export async function follow(engine: Engine, golden: GoldenCase): Promise<Answers> {
  const steps: TokenLogprob[] = [];
  const detours: { step: number; gap: number }[] = [];
  while (steps.length < golden.tokens.length) {
    const begin = steps.length;
    const { tokens, logprobs = [] } = await engine.complete({
      prompt: [...golden.prompt, ...golden.tokens.slice(0, begin)],
      maxTokens: golden.tokens.length - begin,
      temperature: 0,
      repetitionPenalty: 1,
      ignoreEos: true,
      logprobs: TOP,
    });
    const wrong = tokens.findIndex((token, i) => token !== golden.tokens[begin + i]);
    steps.push(...logprobs.slice(0, wrong < 0 ? undefined : wrong + 1));
    if (wrong >= 0) detours.push({ step: begin + wrong, gap: gapAt(steps, begin + wrong, golden) });
  }
  return { steps, detours };
}

/** How much less likely than its own choice the engine finds the reference's token. */
function gapAt(steps: readonly TokenLogprob[], step: number, golden: GoldenCase): number {
  const chosen = steps[step]?.logprob ?? NaN;
  const expected = steps[step]?.top.find(({ token }) => token === golden.tokens[step]);
  return expected === undefined ? Infinity : chosen - expected.logprob;
}

export function followAll(engine: Engine, cases: readonly GoldenCase[]): Promise<Answers[]> {
  return Promise.all(cases.map((golden) => follow(engine, golden)));
}

/** The largest detour of any case, 0 if the engine went the reference's way throughout. */
export function largestGap(answers: readonly Answers[]): number {
  return Math.max(0, ...answers.flatMap(({ detours }) => detours.map(({ gap }) => gap)));
}

/**
 * The largest difference behind the prompts between logits of the reference and ours. Ours are log-probabilities, so
 * both are taken relative to the reference's best token. Tokens that we do not report count as infinitely far.
 */
export function firstDifference(answers: readonly Answers[], cases: readonly GoldenCase[]): number {
  let most = 0;
  for (const [i, { first }] of cases.entries()) {
    const ours = new Map(answers[i]?.steps[0]?.top.map(({ token, logprob }) => [token, logprob]));
    const [best] = first;
    for (const { id, logit } of first) {
      const here = (ours.get(id) ?? -Infinity) - (ours.get(best?.id ?? -1) ?? -Infinity);
      most = Math.max(most, Math.abs(here - (logit - (best?.logit ?? NaN))));
    }
  }
  return most;
}

/** The largest difference between two engines' log-probabilities where both chose one token, over the steps of `some`. */
export function largestDifference(some: readonly Answers[], others: readonly Answers[]): number {
  let most = 0;
  for (const [i, { steps }] of some.entries()) {
    for (const [j, { token, logprob }] of steps.entries()) {
      const other = others[i]?.steps[j];
      assert.ok(other);
      if (other.token === token) most = Math.max(most, Math.abs(logprob - other.logprob));
    }
  }
  return most;
}
