// What prefix reuse saves, with and without it in turns on one engine:
//   workload: shared system prompts, time and prompt tokens computed; synthetic weights with public shapes
//   choices:  n continuations of one prompt, by its length: from which on a wait for the first is worth it
//   trace:    conversations of the Mooncake trace, by slots of the arena, on a device that takes no time, because hits
//             depend on order and memory alone; beside it what a cache of shared pages with the same memory would have
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadAddon } from '../src/addon.ts';
import { Loop } from '../src/loop/loop.ts';
import { Request } from '../src/loop/request.ts';
import { generator, workload } from '../src/loop/workloads.ts';
import { openModel } from '../src/model/load.ts';
import { GREEDY, type NativeEngine } from '../src/native.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { median } from '../src/bench/statistics.ts';
import { findModel } from '../src/bench/models.ts';

const { values: flags } = parseArgs({
  options: {
    parts: { type: 'string', default: 'workload,choices,trace' },
    shape: { type: 'string', default: 'SmolLM2-135M' },
    weights: { type: 'string', default: 'int8' },
    threads: { type: 'string', default: '0' },
    rows: { type: 'string', default: '8' },
    requests: { type: 'string', default: '48' },
    rounds: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    trace: { type: 'string', default: fileURLToPath(new URL('../../shared/traces/mooncake_conversation.jsonl', import.meta.url)) },
    slots: { type: 'string', default: '262144,524288,1048576,2097152,4194304,8388608,16777216' },
    scale: { type: 'string', default: '1' },
    'trace-rows': { type: 'string', default: '32' },
    out: { type: 'string' },
  },
});
const rows = Number(flags.rows);
const seed = Number(flags.seed);
const CONTEXT = 1024;

interface Result {
  readonly part: string;
  readonly [name: string]: string | number;
}

interface Wanted {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly seed: number;
}

/** All requests at once; milliseconds, prompt tokens computed and copied, and everybody's tokens. */
async function play(native: NativeEngine, wanted: readonly Wanted[], prefixReuse: boolean) {
  const first: number[] = [];
  const requests = wanted.map(({ prompt, maxTokens, seed }, id) => {
    const sampling = { ...GREEDY, temperature: 1, seed };
    return new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling });
  });
  const loop = new Loop(native, {
    rows,
    context: CONTEXT,
    stepTokens: 256,
    policy: 'relay',
    admission: 'optimistic',
    queueRequests: requests.length,
    queueTokens: requests.length * CONTEXT,
    prefixReuse,
    onToken: (request) => void (request.generated === 1 && first.push(performance.now() - start)),
    onFinish: (_request, _reason, error) => {
      if (error !== undefined) throw error;
    },
  });
  for (const request of requests) loop.add(request);
  const start = performance.now();
  while (!loop.idle) await loop.tick();
  const ms = performance.now() - start;
  const { tokens, movedSlots } = loop.stats();
  return {
    ms,
    firstMs: first.reduce((sum, one) => sum + one, 0) / first.length,
    computed: tokens.prompt,
    copied: tokens.cached,
    movedSlots,
    all: requests.map((request) => request.tokens.join()).join(';'),
  };
}

/** Medians of rounds in which both take turns. */
async function compare(native: NativeEngine, wanted: readonly Wanted[], rounds: number) {
  const runs = { with: [] as Awaited<ReturnType<typeof play>>[], without: [] as Awaited<ReturnType<typeof play>>[] };
  for (let round = 0; round < rounds; round++) {
    runs.without.push(await play(native, wanted, false));
    runs.with.push(await play(native, wanted, true));
  }
  if (new Set([...runs.with, ...runs.without].map(({ all }) => all)).size !== 1) throw new Error('tokens differ');
  const outputTokens = wanted.reduce((sum, { maxTokens }) => sum + maxTokens, 0);
  const of = (list: typeof runs.with) => ({
    seconds: median(list.map(({ ms }) => ms)) / 1000,
    firstTokenMs: median(list.map(({ firstMs }) => firstMs)),
    outputTokensPerSecond: outputTokens / (median(list.map(({ ms }) => ms)) / 1000),
    promptTokensComputed: list[0]!.computed,
    promptTokensCopied: list[0]!.copied,
    movedSlots: list[0]!.movedSlots,
  });
  return { reuse: of(runs.with), none: of(runs.without) };
}

async function onModel(): Promise<Result[]> {
  const { folder } = await findModel(flags.shape);
  const { config, files, tensors } = await openModel(folder);
  const limits = { slots: 2 * rows * CONTEXT, hostSlots: 0, rows, stepTokens: 256, context: CONTEXT, graphs: true,
    cublasLt: '', checkLaunches: false };
  const threads = Number(flags.threads);
  const model = { config, files, tensors, device: 'cpu', isa: 'auto', weights: flags.weights, kv: 'bf16', threads };
  const native = await loadAddon().load({ ...model, ...limits });
  const name = { shape: `${flags.shape} (synthetic)`, weights: native.weights, isa: native.isa, threads: native.threads, rows };
  const uniform = generator(seed);
  const random = (count: number) => Array.from({ length: count }, () => Math.floor(uniform() * config.vocabulary));
  const results: Result[] = [];
  await play(native, [{ prompt: random(256), maxTokens: 8, seed }], false); // touches memory
  if (flags.parts.includes('workload')) {
    const lengths = { requests: Number(flags.requests), seed, context: CONTEXT, promptTokens: 128, outputTokens: 24 };
    const prefixes = new Map<number, readonly number[]>();
    const wanted = workload('prefix', lengths).map(({ promptTokens, outputTokens, prefix }, i) => {
      const { id, tokens } = prefix!;
      const shared = prefixes.get(id) ?? prefixes.set(id, random(tokens)).get(id)!;
      return { prompt: [...shared, ...random(promptTokens - tokens)], maxTokens: outputTokens, seed: i };
    });
    const { reuse, none } = await compare(native, wanted, Number(flags.rounds));
    for (const [how, one] of Object.entries({ reuse, none })) results.push({ part: 'workload', ...name, how, ...one });
  }
  if (flags.parts.includes('choices')) {
    for (const length of [4, 8, 16, 24, 32, 64, 128, 512]) {
      const prompt = random(length);
      const wanted = Array.from({ length: rows }, (_, i) => ({ prompt, maxTokens: 16, seed: i }));
      const { reuse, none } = await compare(native, wanted, 2 * Number(flags.rounds) + 1);
      const ratio = { timesFaster: none.seconds / reuse.seconds, timesSooner: none.firstTokenMs / reuse.firstTokenMs };
      results.push({ part: 'choices', ...name, promptTokens: length, ...ratio, computed: reuse.promptTokensComputed });
    }
  }
  await native.close();
  return results;
}

interface TraceLine {
  readonly input_length: number;
  readonly output_length: number;
  readonly hash_ids: readonly number[];
}

const TRACE_BLOCK = 512; // tokens that one hash of the trace stands for
const TRACE_SCALE = Number(flags.scale); // by which all lengths are divided
const TRACE_CONTEXT = 131072 / TRACE_SCALE;

/** Requests of the trace in order; those that fit the context. */
function readTrace(file: string): Wanted[] {
  const block = TRACE_BLOCK / TRACE_SCALE;
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  return lines.flatMap((line, i) => {
    const { input_length, output_length, hash_ids } = JSON.parse(line) as TraceLine;
    const promptTokens = Math.max(1, Math.floor(input_length / TRACE_SCALE));
    const maxTokens = Math.max(1, Math.round(output_length / TRACE_SCALE));
    if (promptTokens + maxTokens > TRACE_CONTEXT) return [];
    const prompt = Array.from({ length: promptTokens }, (_, at) => hash_ids[Math.floor(at / block)]! * block + (at % block));
    return [{ prompt, maxTokens, seed: i }];
  });
}

/** Share of prompt tokens found in a cache of the trace's own blocks, each there once, the least recently used gone. */
function pagedShare(wanted: readonly Wanted[], slots: number): number {
  const block = TRACE_BLOCK / TRACE_SCALE;
  const cached = new Set<number>(); // first tokens of blocks, the least recently used first
  let hits = 0;
  let all = 0;
  for (const { prompt } of wanted) {
    let hit = 0;
    while (hit < prompt.length - 1 && cached.has(prompt[hit]!)) hit += Math.min(block, prompt.length - 1 - hit);
    hits += hit;
    all += prompt.length;
    for (let at = 0; at < prompt.length; at += block) {
      cached.delete(prompt[at]!);
      cached.add(prompt[at]!);
    }
    for (const first of cached) {
      if (cached.size * block <= slots) break;
      cached.delete(first);
    }
  }
  return hits / all;
}

async function onTrace(file: string): Promise<Result[]> {
  if (!existsSync(file)) {
    console.log(`SKIP trace: ${file} is not there`);
    return [];
  }
  const wanted = readTrace(file);
  const promptTokens = wanted.reduce((sum, { prompt }) => sum + prompt.length, 0);
  const results: Result[] = [];
  for (const slots of flags.slots.split(',').map(Number)) {
    const native = { slots, hostSlots: 0, step: async (_plan, result) => void result.sampled.fill(7) } as NativeEngine;
    const loop = new Loop(native, {
      rows: Number(flags['trace-rows']),
      context: TRACE_CONTEXT,
      stepTokens: 512,
      policy: 'relay',
      admission: 'optimistic',
      queueRequests: 1e6,
      queueTokens: 1e9,
      onToken: () => {},
      onFinish: () => {},
    });
    const start = performance.now();
    let next = 0;
    while (next < wanted.length || !loop.idle) {
      while (next < wanted.length && loop.queue.length < 8) {
        const { prompt, maxTokens } = wanted[next]!;
        const rest = { minTokens: 0, stopTokens: new Set<number>(), sampling: GREEDY };
        loop.add(new Request(next++, { prompt, maxTokens, ...rest }));
      }
      await loop.tick();
    }
    const { tokens, movedSlots, preemptions, steps } = loop.stats();
    results.push({
      part: 'trace',
      slots,
      requests: wanted.length,
      promptTokens,
      hitShare: tokens.cached / promptTokens,
      pagedShare: pagedShare(wanted, slots),
      endlessShare: pagedShare(wanted, Infinity),
      promptTokensComputed: tokens.prompt,
      movedSlotsPerRequest: movedSlots / wanted.length,
      preemptions,
      steps,
      seconds: (performance.now() - start) / 1000,
    });
  }
  return results;
}

const parts = flags.parts.split(',');
const results: Result[] = parts.some((part) => part !== 'trace') ? await onModel() : [];
if (parts.includes('trace')) results.push(...(await onTrace(flags.trace)));
for (const part of parts) {
  const rounded = (value: unknown) => (typeof value === 'number' ? Number(value.toFixed(3)) : value);
  const cells = (row: object) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, rounded(value)]));
  console.table(results.filter((row) => row.part === part).map(cells));
}
writeScriptRecord(flags.out, results);
