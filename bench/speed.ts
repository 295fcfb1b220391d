// How near the CPU backend comes to this machine's ceilings: decode against a plain read of the same bytes, prefill
// against the matrix unit's peak. Synthetic weights with public shapes; contenders take turns inside one run.
import { parseArgs } from 'node:util';
import { loadAddon } from '../src/addon.ts';
import { openModel } from '../src/model/load.ts';
import { emptyResult, GREEDY, type ModelConfig, type NativeEngine, RUN_FIELDS } from '../src/native.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { median } from '../src/bench/statistics.ts';
import type { ShapeName } from '../src/bench/shapes.ts';
import { findModel } from '../src/bench/models.ts';

const { values: flags } = parseArgs({
  options: {
    shapes: { type: 'string', default: 'SmolLM2-135M,Qwen2.5-0.5B' },
    weights: { type: 'string', default: 'bf16,int8' },
    rows: { type: 'string', default: '1,4,16,32' },
    threads: { type: 'string', default: '0' },
    isa: { type: 'string', default: 'auto' },
    rounds: { type: 'string', default: '7' },
    out: { type: 'string' },
  },
});

const CONTEXT = 128; // tokens before each decoding row
const SPAN = 512;
const PREFILL = 512;
const STEPS = 8; // decode steps per round
const PREFILLS = 3; // per round

/** One step with `rows` runs of `count` tokens at `position`, sampled if it is one; milliseconds. */
async function step(engine: NativeEngine, rows: number, position: number, count: number, vocabulary: number) {
  const sampled = count === 1;
  const runs = new Int32Array(rows * RUN_FIELDS);
  const tokens = Int32Array.from({ length: rows * count }, (_, i) => (i * 7919 + position) % vocabulary);
  for (let row = 0; row < rows; row++) runs.set([sampled ? row : -1, row * SPAN, 0, position, count], row * RUN_FIELDS);
  const starts = Array.from({ length: sampled ? rows : 0 }, (_, row) => ({ row, sampling: GREEDY, tokens: [], promptLength: 0 }));
  const empty = new Int32Array(0);
  const plan = {
    moves: empty,
    moveCount: 0,
    rowMoves: empty,
    rowMoveCount: 0,
    starts,
    runs,
    runCount: rows,
    tokens,
    tokenCount: rows * count,
  };
  const result = emptyResult(64);
  const start = performance.now();
  await engine.step(plan, result);
  return performance.now() - start;
}

/** Floating-point operations of a prefill, whose last layer ends with its keys and values. */
function operations(config: ModelConfig, tokens: number): number {
  const { hidden, intermediate, heads, kvHeads, headDim, layers } = config;
  const qkv = hidden * headDim * (heads + 2 * kvHeads);
  const rest = hidden * (headDim * heads + 3 * intermediate);
  const attention = heads * headDim * (tokens + 1); // q k and weights v, half of the square
  return 2 * tokens * (layers * qkv + (layers - 1) * (rest + attention));
}

async function measure(shape: ShapeName, weights: string) {
  const { folder } = await findModel(shape);
  const { config, files, tensors } = await openModel(folder);
  const addon = loadAddon();
  const rowCounts = flags.rows.split(',').map(Number);
  const rows = Math.max(...rowCounts);
  const threads = Number(flags.threads);
  const load = performance.now();
  const limits = { slots: rows * SPAN, hostSlots: 0, rows, stepTokens: PREFILL, context: SPAN, threads, graphs: true, checkLaunches: false, cublasLt: '' };
  const engine = await addon.load({ config, files, tensors, device: 'cpu', isa: flags.isa, weights, kv: 'bf16', ...limits });
  const loadSeconds = (performance.now() - load) / 1000;
  const { vocabulary } = config;

  await step(engine, 1, 0, PREFILL, vocabulary); // touches memory
  for (let at = 0; at < CONTEXT; at += 4) await step(engine, rows, at, 4, vocabulary);

  const readMs: number[] = [];
  const prefillMs: number[] = [];
  const peaks: number[] = [];
  const decodeMs = new Map<number, number[]>(rowCounts.map((count) => [count, []]));
  for (let round = 0; round < Number(flags.rounds); round++) {
    readMs.push(1000 * addon.kernels.readSeconds(engine.weightBytes, engine.threads, 5));
    for (const count of rowCounts) {
      for (let i = 0; i < STEPS; i++) decodeMs.get(count)!.push(await step(engine, count, CONTEXT + i, 1, vocabulary));
    }
    for (let i = 0; i < PREFILLS; i++) prefillMs.push(await step(engine, 1, 0, PREFILL, vocabulary));
    peaks.push(addon.kernels.peakOperations(engine.isa, weights === 'int8', engine.threads));
  }
  await engine.close();

  const read = median(readMs);
  const one = median(decodeMs.get(1) ?? [NaN]);
  const decode = rowCounts.map((count) => {
    const ms = median(decodeMs.get(count)!);
    return { rows: count, ms, tokensPerSecond: (1000 * count) / ms, timesOneRow: (count * one) / ms, shareOfRead: read / ms };
  });
  const ms = median(prefillMs);
  const gigaflops = operations(config, PREFILL) / ms / 1e6;
  return {
    shape,
    weights,
    isa: engine.isa,
    threads: engine.threads,
    loadSeconds,
    weightMegabytes: engine.weightBytes / 1e6,
    readGigabytesPerSecond: engine.weightBytes / read / 1e6,
    decode,
    prefill: { tokens: PREFILL, ms, tokensPerSecond: (1000 * PREFILL) / ms, gigaflops, shareOfPeak: (gigaflops * 1e9) / median(peaks) },
    peakGigaflops: median(peaks) / 1e9,
  };
}

const results = [];
for (const shape of flags.shapes.split(',') as ShapeName[]) {
  for (const weights of flags.weights.split(',')) {
    const result = await measure(shape, weights);
    results.push(result);
    const { decode, prefill } = result;
    console.log(
      `${shape} (synthetic) ${weights}, ${result.isa}, ${result.threads} threads: ${result.weightMegabytes.toFixed(0)} MB loaded in ` +
        `${result.loadSeconds.toFixed(2)} s; ceilings: read ${result.readGigabytesPerSecond.toFixed(1)} GB/s, ` +
        `products ${result.peakGigaflops.toFixed(0)} G/s`,
    );
    for (const { rows, ms, tokensPerSecond, timesOneRow, shareOfRead } of decode) {
      console.log(
        `  decode ${String(rows).padStart(2)} rows  ${ms.toFixed(2).padStart(8)} ms  ${tokensPerSecond.toFixed(0).padStart(6)} tok/s  ` +
          `${timesOneRow.toFixed(2).padStart(6)} x one row  ${(100 * shareOfRead).toFixed(1).padStart(5)} % of a plain read`,
      );
    }
    console.log(
      `  prefill ${prefill.tokens}     ${prefill.ms.toFixed(2).padStart(8)} ms  ${prefill.tokensPerSecond.toFixed(0).padStart(6)} tok/s  ` +
        `${prefill.gigaflops.toFixed(0).padStart(6)} GFLOP/s  ${(100 * prefill.shareOfPeak).toFixed(1).padStart(5)} % of peak`,
    );
  }
}
writeScriptRecord(flags.out, results);
