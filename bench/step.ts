// Where a step goes: the ops of a step of decoding rows and a prompt's chunk, called one by one in the order of the
// forward pass, with a clock between the calls. Random weights in a public shape, on the CPU; every layer has its own,
// and keys and values of its own behind every row.
import { parseArgs } from 'node:util';
import { readNames, tableOf } from '../src/bench/bench.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { SHAPES, type ShapeName } from '../src/bench/shapes.ts';
import { median } from '../src/bench/statistics.ts';
import { Device, type Operand, type StepPlan, toBf16, type WeightType } from '../src/kernels.ts';
import { tiled } from '../src/loop/arena.ts';
import { generator } from '../src/loop/workloads.ts';
import { readConfig } from '../src/model/config.ts';
import { emptyResult, GREEDY } from '../src/native.ts';

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'SmolLM2-135M' },
    weights: { type: 'string', default: 'bf16,int8' },
    rows: { type: 'string', default: '16' },
    context: { type: 'string', default: '256' }, // positions before each decoding row, and before the chunk
    chunk: { type: 'string', default: '0,61' }, // tokens, one step after another; 0: none
    isa: { type: 'string', default: 'auto' },
    threads: { type: 'string', default: '0' },
    rounds: { type: 'string', default: '25' },
    out: { type: 'string' },
  },
});
const ROWS = Number(flags.rows);
const CONTEXT = Number(flags.context);
const WARM_UPS = 3;

const [shape] = readNames('shape', flags.shape, Object.keys(SHAPES) as ShapeName[]);
const config = readConfig({ ...SHAPES[shape!], hidden_act: 'silu' });
const { layers, hidden, intermediate, heads, kvHeads, headDim, vocabulary } = config;

type Run = readonly [row: number, offset: number, masked: number, position: number, tokens: number];

function planOf(runs: readonly Run[]): StepPlan {
  const tokenCount = runs.reduce((sum, run) => sum + run[4], 0);
  const starts = runs.filter(([row]) => row >= 0).map(([row]) => ({ row, sampling: GREEDY, tokens: [], promptLength: 0 }));
  const none = new Int32Array(0);
  return {
    ...{ moves: none, moveCount: 0, rowMoves: none, rowMoveCount: 0, starts },
    runs: Int32Array.from(runs.flat()),
    runCount: runs.length,
    tokens: Int32Array.from({ length: tokenCount }, (_, i) => (i * 7919) % vocabulary),
    tokenCount,
  };
}

const RESULT = emptyResult(ROWS);

const uniform = generator(1);
const POOL = new Float32Array(Math.max(vocabulary * hidden, 2 * intermediate * hidden));
for (let i = 0; i < POOL.length; i++) POOL[i] = (uniform() - 0.5) * Math.sqrt(12 / hidden); // of variance 1 / inputs
const POOL_BF16 = toBf16(POOL);

/** Milliseconds of each op in each round. */
function measure(weights: WeightType, chunk: number): Map<string, number[]> {
  const span = tiled(CONTEXT + chunk + 1);
  const decodes = Array.from({ length: ROWS }, (_, row): Run => [row, row * span, 0, CONTEXT, 1]);
  const chunks: Run[] = chunk > 0 ? [[-1, ROWS * span, 0, CONTEXT, chunk]] : [];
  const mixed = planOf([...decodes, ...chunks]);
  const device = new Device({
    ...{ config, weights, kv: 'bf16', isa: flags.isa, threads: Number(flags.threads) },
    ...{ rows: ROWS, slots: (ROWS + 1) * span, stepTokens: Math.max(CONTEXT, mixed.tokenCount), context: span },
  });
  const qWidth = heads * headDim;
  const qkvWidth = qWidth + 2 * kvHeads * headDim;
  const tokens = mixed.tokenCount;
  const matrix = (outputs: number, inputs: number) => {
    return device.matrix(POOL_BF16.subarray(0, outputs * inputs), outputs, inputs, weights);
  };
  const norm = device.vector(new Float32Array(hidden).fill(1));
  const table = matrix(vocabulary, hidden);
  const stack = Array.from({ length: layers }, () => ({
    qkv: matrix(qkvWidth, hidden),
    output: matrix(hidden, qWidth),
    gateUp: device.gatedMatrix(POOL_BF16.subarray(0, 2 * intermediate * hidden), intermediate, hidden, weights),
    down: matrix(hidden, intermediate),
  }));
  const operand = (count: number, width: number): Operand => device.operand(count, width, weights);
  const x = device.rows(tokens, hidden);
  const qkv = device.rows(tokens, qkvWidth);
  const selected = device.rows(ROWS, hidden);
  const logits = device.rows(ROWS, vocabulary);
  const normed = operand(tokens, hidden);
  const attended = operand(tokens, qWidth);
  const activated = operand(tokens, intermediate);
  const selectedNormed = operand(ROWS, hidden);

  // Keys and values of what came before: whatever is attended to has been written.
  const before = device.rows(CONTEXT, qkvWidth, POOL.subarray(0, CONTEXT * qkvWidth));
  for (let row = 0; row <= ROWS; row++) {
    device.begin(planOf([[-1, row * span, 0, 0, CONTEXT]]));
    for (let layer = 0; layer < layers; layer++) device.kvAppend(before, layer);
  }

  const times = new Map<string, number[]>();
  let round = new Map<string, number>();
  const clock = (name: string, op: () => void) => {
    const start = performance.now();
    op();
    round.set(name, (round.get(name) ?? 0) + performance.now() - start);
  };
  const forward = () => {
    device.begin(mixed);
    clock('embedding', () => device.embedding(x, table));
    for (const [layer, { qkv: qkvWeights, output, gateUp, down }] of stack.entries()) {
      clock('rms_norm', () => device.rmsNorm(normed, x, norm));
      clock('matmul, qkv', () => device.matmul(qkv, normed, qkvWeights));
      clock('kv_append', () => device.kvAppend(qkv, layer));
      clock('attention', () => device.attention(attended, qkv, layer));
      clock('matmul_add, output', () => device.matmulAdd(x, attended, output));
      clock('rms_norm', () => device.rmsNorm(normed, x, norm));
      clock('matmul_swiglu', () => device.matmulSwiglu(activated, normed, gateUp));
      clock('matmul_add, down', () => device.matmulAdd(x, activated, down));
    }
    device.selectSampled(selected, x);
    clock('rms_norm', () => device.rmsNorm(selectedNormed, selected, norm));
    clock('matmul, vocabulary', () => device.matmul(logits, selectedNormed, table));
    clock('sample', () => device.sample(RESULT, logits));
  };
  for (let i = -WARM_UPS; i < Number(flags.rounds); i++) {
    round = new Map();
    forward();
    if (i < 0) continue;
    for (const [name, ms] of round) times.set(name, [...(times.get(name) ?? []), ms]);
  }
  const step = `${ROWS} decoding rows and a chunk of ${chunk} tokens, ${CONTEXT} positions before each`;
  console.log(`${flags.shape} (synthetic), ${weights}, ${device.isa}, ${device.threads} threads: ${step}`);
  device.close();
  return times;
}

const results: object[] = [];
for (const weights of flags.weights.split(',') as WeightType[]) {
  for (const chunk of flags.chunk.split(',').map(Number)) {
    const times = [...measure(weights, chunk)].map(([op, all]) => ({ op, ms: median(all) }));
    const total = times.reduce((sum, { ms }) => sum + ms, 0);
    const ops = times.map(({ op, ms }) => ({ op, ms, share: ms / total })).toSorted((a, b) => b.ms - a.ms);
    results.push({ shape: flags.shape, weights, rows: ROWS, chunkTokens: chunk, context: CONTEXT, totalMs: total, ops });
    const lines = ops.map(({ op, ms, share }) => [op, ms.toFixed(2), `${(100 * share).toFixed(1)} %`]);
    console.log(tableOf([['op', 'ms', 'share'], ...lines, ['all', total.toFixed(2), '']]));
  }
}
writeScriptRecord(flags.out, results);
