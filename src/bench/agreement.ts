// Whether another engine computes the same function: both are led along the same texts, and at every position asked how
// likely they find what might come next.
import { join } from 'node:path';
import { Engine } from '../engine.ts';
import { openModel } from '../model/load.ts';
import { TOP_LOGPROBS } from '../native.ts';
import { type Findings, type OnProgress, tableOf } from './bench.ts';
import { contenderModule } from './contender.ts';
import type { BatonLogprobs, BatonLogprobsSetting } from './contenders/baton-logprobs.ts';
import { findNodeLlama, missingNodeLlama } from './contenders/node-llama-cpp.ts';
import type { NodeLlamaLogprobs, NodeLlamaLogprobsSetting } from './contenders/node-llama-cpp-logprobs.ts';
import { type GgufType, writeGguf } from './gguf-writer.ts';
import { findModel } from './models.ts';
import type { Bits } from './peer-contenders.ts';
import { race } from './race.ts';
import type { AgreementResult } from './results.ts';

/** What is held against what. */
interface Precision {
  readonly bits: Bits;
  readonly ours: { readonly weights: 'f32' | 'bf16' | 'int8'; readonly kv: 'f32' | 'bf16' };
  readonly theirs: { readonly weights: GgufType; readonly kv: 'F16' | 'F32' };
  /** Least share of positions with one likeliest token. */
  readonly top1: number;
  /** Most by which a log-probability may differ. */
  readonly most: number;
}

// 8 bit are two different roundings of one model, no two ways to compute one: shown, and not judged.
const PRECISIONS: readonly Precision[] = [
  { bits: '32', ours: { weights: 'f32', kv: 'f32' }, theirs: { weights: 'f32', kv: 'F32' }, top1: 0.999, most: 0.001 },
  { bits: '16', ours: { weights: 'bf16', kv: 'bf16' }, theirs: { weights: 'bf16', kv: 'F16' }, top1: 0.99, most: 1 },
  { bits: '8', ours: { weights: 'int8', kv: 'bf16' }, theirs: { weights: 'q8_0', kv: 'F16' }, top1: 0, most: Infinity },
];

const TEXTS = 8;
const TEXT_TOKENS = 264; // 2,112 positions in all

export interface AgreementOptions {
  /** The folder whose node_modules has node-llama-cpp. */
  readonly from: string;
  readonly seed: number;
  readonly models: readonly string[];
  readonly bits: readonly Bits[];
  /** Where GGUF files are made. */
  readonly files: string;
}

export async function measureAgreement(options: AgreementOptions, onProgress: OnProgress): Promise<Findings> {
  const { from, seed, models, bits, files } = options;
  const version = findNodeLlama(from);
  if (version === undefined) throw missingNodeLlama(from);
  const precisions = PRECISIONS.filter((one) => bits.includes(one.bits));
  const results: AgreementResult[] = [];
  const failures: string[] = [];
  for (const [number, model] of models.entries()) {
    const { name, folder } = await findModel(model);
    const texts = await writeTexts(folder, seed);
    for (const [i, precision] of precisions.entries()) {
      const weights = `${precision.bits} bit`;
      onProgress((number + i / precisions.length) / models.length, `${name}, ${weights}`);
      const file = join(files, `${number}.${precision.theirs.weights}.gguf`);
      await writeGguf(folder, file, precision.theirs.weights);
      const ourSetting: BatonLogprobsSetting = { model: folder, ...precision.ours, texts };
      const ours = await ask<BatonLogprobs>('baton-logprobs', ourSetting);
      const { kv } = precision.theirs;
      const theirSetting: NodeLlamaLogprobsSetting = { from, model: file, kv, texts, tokens: ours.tokens };
      const theirs = await ask<NodeLlamaLogprobs>('node-llama-cpp-logprobs', theirSetting);
      const found = compare(ours, theirs);
      results.push({ model: name, weights, contender: 'node-llama-cpp', version, ...found });
      if (found.top1 >= precision.top1 && found.largestDifference <= precision.most) continue;
      const expected = `one likeliest token at ${100 * precision.top1} % of all positions, and no difference above ${precision.most}`;
      failures.push(`${name}, ${weights}: expected ${expected}`);
    }
  }
  return { seed, results, text: agreementTable(results), failures };
}

/** What the model itself tells: its own tokens, so that every position is one it may come to. */
async function writeTexts(folder: string, seed: number): Promise<number[][]> {
  const { bosToken } = await openModel(folder);
  const begin = bosToken ?? 0;
  await using engine = await Engine.load(folder, { device: 'cpu', weights: 'f32', rows: TEXTS, maxContext: TEXT_TOKENS });
  const sampling = { temperature: 0.8, topP: 0.95, topK: 0, repetitionPenalty: 1, ignoreEos: true };
  const written = Array.from({ length: TEXTS }, async (_, i) => {
    const { tokens } = await engine.complete({ prompt: [begin], maxTokens: TEXT_TOKENS - 1, seed: seed + i, ...sampling });
    return [begin, ...tokens];
  });
  return await Promise.all(written); // before the engine is closed
}

async function ask<Round>(name: string, setting: object): Promise<Round> {
  const [finish] = await race<Round>([{ name, module: contenderModule(name), setting }], { rounds: 1, warmups: 0 });
  if (finish!.error !== undefined) throw new Error(`${name}: ${finish!.error}`);
  return finish!.rounds[0]!;
}

type Compared = Pick<AgreementResult, 'positions' | 'top1' | 'largestDifference' | 'meanDifference' | 'largestPreference'>;

export function compare(ours: BatonLogprobs, theirs: NodeLlamaLogprobs): Compared {
  const positions = theirs.likeliest.length;
  let same = 0;
  let largestPreference = 0;
  for (let position = 0; position < positions; position++) {
    const own = position * TOP_LOGPROBS;
    if (ours.tokens[own] === theirs.likeliest[position]) same++;
    largestPreference = Math.max(largestPreference, theirs.likeliestLogprobs[position]! - theirs.logprobs[own]!);
  }
  let largestDifference = 0;
  let sum = 0;
  for (const [i, logprob] of ours.logprobs.entries()) {
    const difference = Math.abs(logprob - theirs.logprobs[i]!);
    sum += difference;
    largestDifference = Math.max(largestDifference, difference); // NaN stays NaN
  }
  const meanDifference = sum / ours.logprobs.length;
  return { positions, top1: same / positions, largestDifference, meanDifference, largestPreference };
}

function agreementTable(results: readonly AgreementResult[]): string {
  const head = ['model', 'weights', 'with', 'positions', 'same likeliest', 'largest difference', 'mean', 'preferred by at most'];
  const lines = results.map(({ model, weights, contender, version, positions, top1, ...differences }) => {
    const { largestDifference, meanDifference, largestPreference } = differences;
    const digits = (value: number) => Number(value.toPrecision(3));
    const share = `${(100 * top1).toFixed(2)} %`;
    const peer = `${contender} ${version}`;
    return [model, weights, peer, positions, share, ...[largestDifference, meanDifference, largestPreference].map(digits)];
  });
  return `${tableOf([head, ...lines])}differences of log-probabilities, over the ${TOP_LOGPROBS} likeliest tokens of each position`;
}
