import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { FlagValues } from '../flags.ts';
import { bytesOfSlot } from '../engine/sizes.ts';
import { tiled } from '../loop/arena.ts';
import { openModel } from '../model/load.ts';
import { measureAgreement } from './agreement.ts';
import { bench, type Findings, type OnProgress, readInteger, readIntegers, readNames, tableOf } from './bench.ts';
import { PEERS } from './contenders/node-llama-cpp.ts';
import { type GgufType, writeGguf } from './gguf-writer.ts';
import { type BenchModel, findModel } from './models.ts';
import {
  type Bits,
  BITS,
  DEFAULT_PEERS,
  PEER_CONTENDERS,
  PEER_NAMES,
  type PeerContender,
  type PeerName,
  type PeerWork,
  type Variant,
} from './peer-contenders.ts';
import { makePeerRequests, PEER_CONTEXT, type PeerRequest, type PeerRound, shortened } from './peer-requests.ts';
import { type Finish, race } from './race.ts';
import type { PeerResult } from './results.ts';
import { median, quantilesOf, spread } from './statistics.ts';

const FLAGS = {
  models: { type: 'text', value: 'A,B', help: 'tales, public shapes (synthetic weights), or folders; default SmolLM2-135M' },
  weights: { type: 'text', value: 'BITS', help: 'of 32, 16 (bf16 or f16), 8 (int8 or q8_0); default 16,8, of --agreement all' },
  concurrency: { type: 'text', value: 'N,M', help: 'requests in work at a time; default 1,4,16,64' },
  contenders: { type: 'text', value: 'A,B', help: `of ${PEER_NAMES.join(', ')}; default ${DEFAULT_PEERS['cpu']}` },
  device: { type: 'text', value: 'NAME', help: `cpu (default), or cuda: there ${DEFAULT_PEERS['cuda']}` },
  threads: { type: 'text', value: 'N,M', help: 'each contender takes the best of these; default 1 and all cores' },
  requests: { type: 'number', value: 'N', help: 'of each round, all there at once; default the concurrency, at least 4' },
  rounds: { type: 'number', value: 'N', help: 'default 3; less where they take long' },
  seconds: { type: 'number', value: 'S', help: 'after which a comparison begins no further round; default 60' },
  from: { type: 'text', value: 'DIR', help: 'the folder whose node_modules has node-llama-cpp; default bench/peers' },
  seed: { type: 'number', value: 'N', help: 'of lengths and prompts; default 1' },
  quick: { type: 'switch', help: 'tales, 1 and 16 requests, one round: a minute' },
  agreement: { type: 'switch', help: "instead: both engines' log-probabilities along texts; default --models tales" },
} as const;

const LEAST_REQUESTS = 4;
// Settings are tried on less: what is best for 16 requests is best for more.
const PROBE = { requests: 16, prompt: 32, output: 8, timeoutMs: 60_000 } as const;

type Values = FlagValues<typeof FLAGS>;

export const peers = bench({
  name: 'peers',
  summary: 'other engines on the same weights, prompts and sampling',
  about: `Tokens/s of this package, node-llama-cpp as documented (evaluate) and as its API is best used for batches (best), and on a
GPU transformers (generate, continuous). Requests have prompts around 128 tokens and outputs around 64, greedy, and are
there all at once. Each contender first tries its thread counts and number formats on short requests and keeps what is
quickest; then they take turns. The default takes a quarter of an hour on two cores; Qwen2.5-0.5B takes twice as long.

node-llama-cpp is no dependency: cd bench/peers && npm install, or name another folder with --from.`,
  flags: FLAGS,
  run: (values, onProgress) => run(values, onProgress),
});

async function run(values: Values, onProgress: OnProgress): Promise<Findings> {
  const folder = mkdtempSync(join(tmpdir(), 'baton-peers-'));
  try {
    const { seed = 1, models = 'tales' } = values;
    const from = resolve(values.from ?? PEERS);
    if (values.agreement !== true) return await new Comparison(values, folder, onProgress).run();
    const bits = readNames('weights', values.weights ?? BITS.join(), BITS);
    return await measureAgreement({ from, seed: readSeed(seed), models: models.split(','), bits, files: folder }, onProgress);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readSeed(seed: number): number {
  return readInteger('seed', seed, 0, 2 ** 32 - 1);
}

interface Entrant extends PeerContender {
  readonly found: string; // its version
}

class Comparison {
  readonly #files: string; // where GGUF files are made
  readonly #onProgress: OnProgress;
  readonly #seed: number;
  readonly #models: readonly string[];
  readonly #bits: readonly Bits[];
  readonly #concurrency: readonly number[];
  readonly #threads: readonly number[];
  readonly #requests: number | undefined;
  readonly #rounds: number;
  readonly #seconds: number;
  readonly #device: string;
  readonly #from: string;
  readonly #entrants: readonly Entrant[];
  readonly #failures: string[] = [];
  readonly #written = new Map<string, Promise<string>>();

  constructor(values: Values, files: string, onProgress: OnProgress) {
    const { seed = 1, quick = false, device = 'cpu', seconds = 60 } = values;
    this.#files = files;
    this.#onProgress = onProgress;
    this.#seed = readSeed(seed);
    this.#models = (values.models ?? (quick ? 'tales' : 'SmolLM2-135M')).split(',');
    this.#bits = readNames('weights', values.weights ?? '16,8', BITS);
    this.#concurrency = readIntegers('concurrency', values.concurrency ?? (quick ? '1,16' : '1,4,16,64'), 1, 1024);
    const cores = [...new Set([1, availableParallelism()])].join();
    this.#threads = readIntegers('threads', values.threads ?? (device === 'cpu' ? cores : '1'), 1, 1024);
    this.#requests = values.requests === undefined ? undefined : readInteger('requests', values.requests, 1, 1e5);
    this.#rounds = readInteger('rounds', values.rounds ?? (quick ? 1 : 3), 1, 1000);
    this.#seconds = readInteger('seconds', seconds, 0, 1e6);
    this.#device = readNames('device', device, Object.keys(DEFAULT_PEERS))[0]!;
    this.#from = resolve(values.from ?? PEERS);
    this.#entrants = this.#findEntrants(readNames('contenders', values.contenders ?? DEFAULT_PEERS[device]!, PEER_NAMES));
  }

  async run(): Promise<Findings> {
    const settings = this.#models.flatMap((name) => {
      return this.#bits.flatMap((bits) => this.#concurrency.map((concurrency) => ({ name, bits, concurrency })));
    });
    const results: PeerResult[] = [];
    for (const [i, { name, bits, concurrency }] of settings.entries()) {
      this.#onProgress(i / settings.length, `${name}, ${bits} bit, ${concurrency} at a time`);
      results.push(...(await this.#compare(await findModel(name), bits, concurrency)));
    }
    return { seed: this.#seed, results, text: `${peersTable(results)}\n${LEGEND}`, failures: this.#failures };
  }

  #findEntrants(keys: readonly PeerName[]): Entrant[] {
    return keys.flatMap((key) => {
      const contender = PEER_CONTENDERS[key];
      const { name, devices } = contender;
      try {
        if (!(devices as readonly string[]).includes(this.#device)) throw new Error(`it is not set up for ${this.#device}`);
        return [{ ...contender, found: contender.version(this.#from) }];
      } catch (error) {
        this.#failures.push(`skipped ${name}: ${(error as Error).message}`);
        return [];
      }
    });
  }

  async #compare({ name, folder }: BenchModel, bits: Bits, concurrency: number): Promise<PeerResult[]> {
    const { config } = await openModel(folder);
    const requests = makePeerRequests(this.#seed, this.#requests ?? Math.max(concurrency, LEAST_REQUESTS), config.vocabulary);
    const work: PeerWork = {
      model: folder,
      device: this.#device,
      context: PEER_CONTEXT,
      kvBytes: concurrency * tiled(PEER_CONTEXT) * bytesOfSlot(config, bits === '32' ? 'f32' : 'bf16'),
      concurrency,
      requests,
      from: this.#from,
      gguf: (type) => this.#writeGguf(folder, type),
    };
    const where = `${name}, ${bits} bit, ${concurrency} at a time`;
    const chosen: { entrant: Entrant; variant: Variant }[] = [];
    for (const entrant of this.#entrants.filter(({ formats }) => formats[bits].length > 0)) {
      const choice = await this.#choose(entrant, work, bits);
      if ('error' in choice) this.#failures.push(`${where}: ${entrant.name}: ${choice.error}`);
      else chosen.push({ entrant, variant: choice });
    }
    const entries = chosen.map(async ({ entrant: { name, module, setting }, variant }) => {
      return { name, module, setting: await setting(work, variant) };
    });
    const options = { rounds: this.#rounds, warmups: 0, budgetMs: 1000 * this.#seconds };
    const finishes = await race<PeerRound>(await Promise.all(entries), options);
    return finishes.flatMap((finish, i) => {
      const { entrant, variant } = chosen[i]!;
      const error = finish.error ?? wrongCounts(finish.rounds, requests);
      if (error !== undefined) this.#failures.push(`${where}: ${entrant.name}: ${error}`);
      if (finish.rounds.length === 0) return [];
      return [resultOf({ name, bits, concurrency, requests, entrant, variant, finish, error })];
    });
  }

  /** Once for all comparisons of a model. */
  #writeGguf(folder: string, type: GgufType): Promise<string> {
    const key = `${folder} ${type}`;
    const file = join(this.#files, `${this.#written.size}.gguf`);
    const path = this.#written.get(key) ?? writeGguf(folder, file, type).then(() => file);
    this.#written.set(key, path);
    return path;
  }

  /** The quickest of a contender's thread counts and formats, or why none of them works. */
  async #choose(entrant: Entrant, work: PeerWork, bits: Bits): Promise<Variant | { readonly error: string }> {
    const { name, module, formats, setting } = entrant;
    const variants = formats[bits].flatMap((format) => this.#threads.map((threads) => ({ format, threads })));
    if (variants.length === 1) return variants[0]!;
    const concurrency = Math.min(work.concurrency, PROBE.requests);
    const requests = shortened(work.requests, PROBE.requests, PROBE.prompt, PROBE.output);
    const tried: { variant: Variant; ms: number }[] = [];
    let reason = '';
    for (const variant of variants) {
      const entry = { name, module, setting: await setting({ ...work, concurrency, requests }, variant) };
      const [finish] = await race<PeerRound>([entry], { rounds: 1, warmups: 0, timeoutMs: PROBE.timeoutMs });
      for (const { ms } of finish!.rounds) tried.push({ variant, ms });
      reason = finish!.error ?? reason;
    }
    return tried.toSorted((a, b) => a.ms - b.ms)[0]?.variant ?? { error: reason };
  }
}

/** Fewer tokens than were asked for would look like speed. */
export function wrongCounts(rounds: readonly PeerRound[], requests: readonly PeerRequest[]): string | undefined {
  for (const { outputTokens } of rounds) {
    const id = requests.findIndex((request, i) => request.outputTokens !== outputTokens[i]);
    if (id >= 0) return `request ${id}: expected ${requests[id]!.outputTokens} tokens, got ${outputTokens[id] ?? 0}`;
  }
  return undefined;
}

interface Played {
  readonly name: string; // of the model
  readonly bits: Bits;
  readonly concurrency: number;
  readonly requests: readonly PeerRequest[];
  readonly entrant: Entrant;
  readonly variant: Variant;
  readonly finish: Finish<PeerRound>;
  readonly error: string | undefined;
}

function resultOf({ name, bits, concurrency, requests, entrant, variant, finish, error }: Played): PeerResult {
  const { rounds } = finish;
  const promptTokens = requests.reduce((sum, { prompt }) => sum + prompt.length, 0);
  const outputTokens = requests.reduce((sum, request) => sum + request.outputTokens, 0);
  const perSecond = (tokens: number) => spread(rounds.map(({ ms }) => (1000 * tokens) / ms));
  const ttft = rounds.map(({ ttftMs }) => ttftMs).filter((times) => times.length > 0); // not everybody tells
  return {
    model: name,
    weights: `${bits} bit`,
    format: variant.format,
    contender: entrant.name,
    version: entrant.found,
    threads: variant.threads,
    concurrency,
    requests: requests.length,
    promptTokens,
    outputTokens,
    seconds: spread(rounds.map(({ ms }) => ms / 1000)),
    tokensPerSecond: perSecond(promptTokens + outputTokens),
    outputTokensPerSecond: perSecond(outputTokens),
    ...(ttft.length === 0 ? {} : { ttft: quantilesOf(ttft) }),
    ...(error === undefined ? {} : { error }),
  };
}

const LEGEND = `tok/s: prompts and outputs, median of the rounds (least to most); baton is: tok/s of baton over those of this line`;

/** A line for each contender, with how much quicker ours is. */
export function peersTable(results: readonly PeerResult[]): string {
  const head = ['model', 'weights', 'at a time', 'contender', 'format', 'threads', 'tok/s', '', 'TTFT p50 s', 'baton is'];
  const lines = results.map((result) => {
    const { model, weights, concurrency, contender, format, threads, tokensPerSecond, ttft } = result;
    const ours = results.find((one) => {
      return one.contender === 'baton' && one.model === model && one.weights === weights && one.concurrency === concurrency;
    });
    const { median, least, most } = tokensPerSecond;
    const ratio = ours === undefined || ours === result ? '' : `${(ours.tokensPerSecond.median / median).toFixed(2)} ×`;
    const range = `${least.toFixed(0)} to ${most.toFixed(0)}`;
    const first = ttft === undefined ? '' : (ttft.p50 / 1000).toFixed(2);
    return [model, weights, concurrency, contender, format, threads, Number(median.toFixed(0)), range, first, ratio];
  });
  return tableOf([head, ...lines]);
}
