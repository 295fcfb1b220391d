// llama.cpp inside Node: https://node-llama-cpp.withcat.ai. Not a dependency of this package; it lies where it was
// installed for the comparison.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { UsageError } from '../../flags.ts';
import type { OpenContender } from '../contender.ts';
import { PeerProgress, type PeerRequest, type PeerRound, type PeerSetting, warmUp } from '../peer-requests.ts';

const NAME = 'node-llama-cpp';
/** Where npm puts it. */
export const PEERS = fileURLToPath(new URL('../../../bench/peers/', import.meta.url));

export interface NodeLlamaSetting extends PeerSetting {
  /** The folder whose node_modules has it. */
  readonly from: string;
  /**
   * `evaluate`: what its documentation shows, an iteration per request, batches made of whoever asks in time.
   * `lockstep`: one token for every request per turn, so that each batch has all of them.
   */
  readonly mode: 'evaluate' | 'lockstep';
  /** Most tokens of one request. */
  readonly context: number;
}

/** What is used of its API. */
interface Module {
  getLlama(options: object): Promise<{ loadModel(options: { modelPath: string }): Promise<Model> }>;
}

interface Model {
  createContext(options: object): Promise<Context>;
  dispose(): Promise<void>;
}

interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

export interface Sequence {
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
  controlledEvaluate(input: readonly Input[]): Promise<readonly (Output | undefined)[]>;
  clearHistory(): Promise<void>;
}

type Input = number | readonly [number, { readonly generateNext: { readonly token?: true; readonly logits?: true } }];

interface Output {
  readonly next: { readonly token?: number | null; readonly logits?: ReadonlyMap<number, number> };
}

/** Its version, or undefined where it is not installed. */
export function findNodeLlama(from: string): string | undefined {
  const file = join(from, 'node_modules', NAME, 'package.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : undefined;
}

export function missingNodeLlama(from: string): UsageError {
  return new UsageError(`expected ${NAME} in ${from}, got none; cd ${from} && npm install, or --from another folder`);
}

export interface OpenNodeLlama {
  readonly sequences: readonly Sequence[];
  close(): Promise<void>;
}

interface OpenOptions extends Pick<NodeLlamaSetting, 'from' | 'model' | 'threads' | 'concurrency' | 'context'> {
  /** Of keys and values. F16 is its own default; F32 goes without flash attention. */
  readonly kv?: 'F16' | 'F32';
}

/**
 * Tokens per batch, its own default. SmolLM2-135M shape in q8_0, 16 requests, one thread of a busy Xeon with AMX, single
 * runs, 2026-11: 2,048 were a third slower, flash attention a fifth quicker than none.
 */
const BATCH_TOKENS = 512;

export async function openNodeLlama(options: OpenOptions): Promise<OpenNodeLlama> {
  const { from, model: modelPath, threads, concurrency, context, kv = 'F16' } = options;
  if (findNodeLlama(from) === undefined) throw missingNodeLlama(from);
  const { getLlama } = (await import(pathToFileURL(join(from, 'node_modules', NAME, 'dist/index.js')).href)) as Module;
  // It neither fetches nor builds anything, and uses as many threads as it is told to.
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: 0, logLevel: 'error' });
  const model = await llama.loadModel({ modelPath });
  const opened = await model.createContext({
    sequences: concurrency,
    contextSize: context,
    batchSize: Math.max(BATCH_TOKENS, concurrency),
    threads,
    flashAttention: kv === 'F16',
    experimentalKvCacheKeyType: kv,
    experimentalKvCacheValueType: kv,
  });
  return {
    sequences: Array.from({ length: concurrency }, () => opened.getSequence()),
    async close() {
      await opened.dispose();
      await model.dispose();
    },
  };
}

export async function open(setting: NodeLlamaSetting): Promise<OpenContender<PeerRound>> {
  const { sequences, close } = await openNodeLlama(setting);
  const play = async (requests: readonly PeerRequest[]) => {
    const progress = new PeerProgress();
    await (setting.mode === 'evaluate' ? evaluate : lockstep)(sequences, requests, progress);
    return progress.round();
  };
  await play(warmUp(setting));
  return { play: () => play(setting.requests), close };
}

async function evaluate(sequences: readonly Sequence[], requests: readonly PeerRequest[], progress: PeerProgress) {
  const waiting = requests.entries(); // shared: each sequence takes the next
  await Promise.all(
    sequences.map(async (sequence) => {
      for (const [id, { prompt, outputTokens }] of waiting) {
        await sequence.clearHistory();
        let left = outputTokens;
        for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
          progress.token(id);
          if (--left === 0) break;
        }
      }
    }),
  );
}

interface Place {
  readonly sequence: Sequence;
  id: number;
  left: number;
  input: readonly number[];
}

/**
 * Prompts go one by one, which was 15 % quicker than all that wait in one batch (as above): llama.cpp cuts a batch
 * into parts in which all sequences have equally many tokens.
 */
async function lockstep(sequences: readonly Sequence[], requests: readonly PeerRequest[], progress: PeerProgress) {
  const waiting = requests.entries();
  const places = sequences.map((sequence): Place => ({ sequence, id: -1, left: 0, input: [] }));
  for (;;) {
    for (const place of places) {
      while (place.left === 0) {
        const next = waiting.next();
        if (next.done === true) break;
        const [id, { prompt, outputTokens }] = next.value;
        await place.sequence.clearHistory();
        Object.assign(place, { id, left: outputTokens, input: prompt });
        await turn(place, progress);
      }
    }
    const active = places.filter(({ left }) => left > 0);
    if (active.length === 0) return;
    await Promise.all(active.map((place) => turn(place, progress)));
  }
}

/** Computes what is not computed, and takes the likeliest next token. */
async function turn(place: Place, progress: PeerProgress): Promise<void> {
  const last = [place.input.at(-1)!, { generateNext: { token: true } }] as const;
  const outputs = await place.sequence.controlledEvaluate([...place.input.slice(0, -1), last]);
  const token = outputs.at(-1)?.next.token;
  if (typeof token !== 'number') throw new Error(`expected a token, got ${token}`);
  progress.token(place.id);
  place.left--;
  place.input = [token];
}
