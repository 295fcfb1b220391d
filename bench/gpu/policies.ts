// Policies on the shapes of well-known models with synthetic weights: the same requests by each policy, all there at
// once. `--dry` writes the shapes and the lengths of the requests, for other contenders, and runs nothing.
//
// Weights are not written out: every tensor is a stretch of one file of random values, as large as the largest tensor.
// On the device each has memory of its own, so a step moves the bytes that a real model's would.

import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadAddon } from '../../src/addon.ts';
import { chooseDevice } from '../../src/engine/device.ts';
import { chooseSizes } from '../../src/engine/sizes.ts';
import { Loop, type PolicyName } from '../../src/loop/loop.ts';
import { Request } from '../../src/loop/request.ts';
import { generator, workload, type WorkloadName, type WorkloadRequest } from '../../src/loop/workloads.ts';
import { readConfig } from '../../src/model/config.ts';
import { tensorShapes } from '../../src/model/families.ts';
import { GREEDY, type ModelConfig, type NativeEngine, type TensorEntry } from '../../src/native.ts';
import { SHAPES, type ShapeName } from '../../src/bench/shapes.ts';
import { Trial } from './trial.ts';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    seconds: { type: 'string', default: '110' },
    seed: { type: 'string', default: '1' },
    shapes: { type: 'string', default: 'Llama-3-8B,Qwen2.5-0.5B' },
    workloads: { type: 'string', default: 'heavy-tail,chat' },
    policies: { type: 'string', default: 'relay,static' },
    weights: { type: 'string', default: 'bf16' },
    rows: { type: 'string', default: '32' },
    requests: { type: 'string', default: '96' }, // three times the rows: a row is refilled, a static batch is followed
    context: { type: 'string', default: '1024' },
    dry: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const { device } = flags;
const seed = Number(flags.seed);
const rows = Number(flags.rows);
const context = Number(flags.context);
const shapes = flags.shapes.split(',') as ShapeName[];
const workloads = new Map(flags.workloads.split(',').map((name) => [name, makeLengths(name as WorkloadName)] as const));
const trial = new Trial(flags.json, Number(flags.seconds), {
  device,
  seed,
  rows,
  context,
  synthetic: true,
  shapes: Object.fromEntries(shapes.map((name) => [name, { ...SHAPES[name], hidden_act: 'silu' }])),
  workloads: Object.fromEntries([...workloads].map(([name, lengths]) => [name, lengths.map(toPair)])),
});

function makeLengths(name: WorkloadName): WorkloadRequest[] {
  const [promptTokens, outputTokens] = [context / 5, context / 10];
  return workload(name, { requests: Number(flags.requests), seed, context, promptTokens, outputTokens });
}

function toPair({ promptTokens, outputTokens }: WorkloadRequest): readonly [number, number] {
  return [promptTokens, outputTokens];
}

// Weights

const PERIOD = 2 ** 22 - 3; // values until they repeat: odd, so that no row of a matrix equals another
const MATRIX_DEVIATION = 0.02; // activations stay finite: there is a norm before every product
const NORM_VALUES = 2 ** 16; // near 1, in front of the file

function toBf16(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16;
}

/** Writes NORM_VALUES values near 1, then `count` around 0. Normal enough: each is a sum of four uniform ones. */
function writeValues(path: string, count: number): void {
  const uniform = generator(seed);
  const normal = () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3);
  const file = openSync(path, 'w');
  try {
    writeSync(
      file,
      Uint16Array.from({ length: NORM_VALUES }, () => toBf16(1 + 0.1 * normal())),
    );
    const period = new Uint16Array(Math.min(count, PERIOD));
    for (let i = 0; i < period.length; i++) period[i] = toBf16(MATRIX_DEVIATION * normal());
    for (let written = 0; written < count; written += period.length) {
      writeSync(file, period.subarray(0, Math.min(period.length, count - written)));
    }
  } finally {
    closeSync(file);
  }
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

function makeTensors(config: ModelConfig): TensorEntry[] {
  return [...tensorShapes(config)].map(([name, shape]) => {
    const norm = shape.length === 1 && !name.endsWith('.bias');
    const begin = norm ? 0 : 2 * NORM_VALUES;
    return { name, file: 0, type: 'BF16', shape, begin, end: begin + 2 * sizeOf(shape) };
  });
}

interface Loaded {
  readonly engine: NativeEngine;
  readonly vocabulary: number;
  readonly stepTokens: number;
}

async function load(config: ModelConfig, folder: string): Promise<Loaded> {
  const path = join(folder, 'values');
  writeValues(path, Math.max(...[...tensorShapes(config).values()].map(sizeOf)));
  const addon = loadAddon();
  const chosen = chooseDevice(addon, device);
  const asked = { maxContext: context, weights: flags.weights as 'bf16', kv: 'bf16' } as const;
  const sizes = chooseSizes({ config, storedType: 'bf16' }, asked, rows, chosen);
  const engine = await addon.load({
    config,
    files: [path],
    tensors: makeTensors(config),
    device: chosen.name,
    isa: 'auto',
    threads: 0,
    graphs: true,
    checkLaunches: false,
    cublasLt: '',
    rows,
    ...sizes,
  });
  return { engine, vocabulary: config.vocabulary, stepTokens: sizes.stepTokens };
}

// Runs

interface Reading {
  readonly arrivals: number[]; // of its tokens, ms since the start
  tokens: readonly number[];
}

/** One policy's way through the requests. One that outlasts the time is ended, and says so. */
async function play(
  { engine, vocabulary, stepTokens }: Loaded,
  policy: PolicyName,
  lengths: readonly WorkloadRequest[],
) {
  const uniform = generator(seed);
  const readings = new Map<number, Reading>();
  const loop = new Loop(engine, {
    rows,
    context,
    stepTokens,
    policy,
    admission: 'optimistic',
    queueRequests: lengths.length,
    queueTokens: lengths.length * context,
    onToken: ({ id }) => readings.get(id)?.arrivals.push(performance.now() - start),
    onFinish: (request, _reason, error) => {
      if (error !== undefined) throw error;
      const reading = readings.get(request.id);
      if (reading !== undefined) reading.tokens = request.tokens.slice(request.promptLength);
    },
  });
  for (const [id, { promptTokens, outputTokens }] of lengths.entries()) {
    readings.set(id, { arrivals: [], tokens: [] });
    const prompt = Array.from({ length: promptTokens }, () => Math.floor(uniform() * vocabulary));
    loop.add(
      new Request(id, { prompt, maxTokens: outputTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY }),
    );
  }
  const start = performance.now();
  while (!loop.idle && trial.secondsLeft > 0) await loop.tick();
  const seconds = (performance.now() - start) / 1000;
  return { cut: !loop.idle, seconds, readings: [...readings.values()], stats: loop.stats() };
}

/** The shape of `bench relay`. `requests` counts those that ended. */
function summarize(engine: NativeEngine, { cut, seconds, readings, stats }: Awaited<ReturnType<typeof play>>) {
  const ended = readings.filter(({ tokens }) => tokens.length > 0);
  const gaps = readings.flatMap(({ arrivals }) => arrivals.slice(1).map((at, i) => at - (arrivals[i] ?? 0)));
  const { rowMs, wastedMs, share, padKv } = stats.idle;
  const shareOf = (ms: number) => (rowMs > 0 ? ms / rowMs : 0);
  const { pad, dead, empty, stall } = wastedMs;
  return {
    rows,
    requests: ended.length,
    cut,
    seconds,
    requestsPerSecond: ended.length / seconds,
    outputTokensPerSecond: stats.tokens.generated / seconds,
    idle: { share, pad: shareOf(pad), dead: shareOf(dead), empty: shareOf(empty), stall: shareOf(stall), padKv },
    ttftMs: distribution(readings.flatMap(({ arrivals }) => arrivals.slice(0, 1))),
    itlMs: distribution(gaps),
    e2eMs: distribution(ended.map(({ arrivals }) => arrivals.at(-1) ?? 0)),
    stepMs: stats.stepMs,
    kv: { peakBytes: stats.arena.peak * engine.slotBytes, movedBytes: stats.movedSlots * engine.slotBytes },
  };
}

function distribution(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / Math.max(1, sorted.length);
  return { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

/** Every request's tokens must be the same by every policy; those that did not end are left out. */
function compare(runs: readonly (readonly Reading[])[]): string {
  let compared = 0;
  for (const [id, { tokens }] of (runs[0] ?? []).entries()) {
    for (const run of runs.slice(1)) {
      const others = run[id]?.tokens ?? [];
      if (tokens.length === 0 || others.length === 0) continue;
      if (tokens.join() !== others.join()) throw new Error(`request ${id}: its tokens depend on the policy`);
      compared++;
    }
  }
  return `${compared} requests compared`;
}

async function measure(shape: ShapeName, folder: string): Promise<string> {
  const begin = performance.now();
  const loaded = await load(readConfig({ ...SHAPES[shape], hidden_act: 'silu' }), folder);
  const { engine } = loaded;
  const loadSeconds = (performance.now() - begin) / 1000;
  const found = [`${(engine.weightBytes / 1e9).toFixed(2)} GB of weights loaded in ${loadSeconds.toFixed(1)} s`];
  try {
    await play(loaded, 'relay', makeLengths('uniform').slice(0, rows)); // clocks, caches, graphs
    for (const [name, lengths] of workloads) {
      const runs: (readonly Reading[])[] = [];
      for (const policy of flags.policies.split(',') as PolicyName[]) {
        if (trial.secondsLeft <= 0) break;
        const run = await play(loaded, policy, lengths);
        runs.push(run.readings);
        trial.add({ shape, weights: engine.weights, workload: name, policy, loadSeconds, ...summarize(engine, run) });
      }
      found.push(`${name}: ${compare(runs)}`);
    }
  } finally {
    await engine.close();
  }
  return found.join('; ');
}

for (const shape of flags.dry ? [] : shapes) {
  const folder = mkdtempSync(join(tmpdir(), 'baton-values-'));
  try {
    await trial.check(`${shape} (synthetic)`, () => measure(shape, folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
process.exitCode = trial.failed ? 1 : 0;
