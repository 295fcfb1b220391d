// What int8 costs in quality: the mean negative log-likelihood (nats per token) of real text under models/tales, token by
// token, with each weight type; and with weights rounded to int8 per output channel or per group of inputs, everything
// else in f32, which tells what finer scales would buy.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { loadAddon } from '../src/addon.ts';
import { openModel } from '../src/model/load.ts';
import { emptyResult, GREEDY, RUN_FIELDS, type Sampling, type TensorEntry } from '../src/native.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';
import { writeScriptRecord } from '../src/bench/record.ts';

const { values: flags } = parseArgs({
  options: { tokens: { type: 'string', default: '256' }, rows: { type: 'string', default: '32' }, out: { type: 'string' } },
});
const ROWS = Number(flags.rows);
const TOKENS = Number(flags.tokens);
const folder = fileURLToPath(new URL('../models/tales/', import.meta.url));
const corpus = fileURLToPath(new URL('../../shared/training/corpus.txt.gz', import.meta.url));

const model = await openModel(folder);

/** Real text: the corpus where it is at hand, else the recorded continuations. */
function readText(): string {
  if (existsSync(corpus)) return gunzipSync(readFileSync(corpus)).toString();
  const golden = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { items: { prompt: string; text: string }[] };
  return golden.items.map(({ prompt, text }) => prompt + text).join('\n').repeat(20);
}

/** [ROWS, TOKENS + 1]: each begins with the begin token. */
function readRows(): Int32Array[] {
  const text = readText();
  const tokenizer = new Tokenizer(model.tokenizer);
  const stride = Math.floor(text.length / ROWS);
  return Array.from({ length: ROWS }, (_, row) => {
    const ids = tokenizer.encode(text.slice(row * stride, row * stride + TOKENS * 8));
    if (ids.length <= TOKENS) throw new Error(`row ${row}: expected more than ${TOKENS} tokens, got ${ids.length}`);
    return Int32Array.from(ids.slice(0, TOKENS + 1));
  });
}

/** Greedy with so large a bias that the given token is drawn: the log-probability reported is the raw one. */
function forced(token: number): Sampling {
  return { ...GREEDY, biasTokens: Int32Array.of(token), biasValues: Float32Array.of(1e9) };
}

async function likelihood(load: { weights: string; files: readonly string[]; tensors: readonly TensorEntry[] }, rows: Int32Array[]) {
  const span = Math.ceil((TOKENS + 1) / 64) * 64;
  const engine = await loadAddon().load({
    config: model.config,
    device: 'cpu',
    isa: 'auto',
    threads: 0,
    graphs: true,
    checkLaunches: false,
    cublasLt: '',
    kv: load.weights === 'f32' ? 'f32' : 'bf16',
    slots: ROWS * span,
    hostSlots: 0,
    rows: ROWS,
    stepTokens: ROWS,
    context: TOKENS + 1,
    ...load,
  });
  const result = emptyResult(ROWS);
  const empty = new Int32Array(0);
  const runs = new Int32Array(ROWS * RUN_FIELDS);
  let sum = 0;
  for (let position = 0; position < TOKENS; position++) {
    rows.forEach((_, row) => runs.set([row, row * span, 0, position, 1], row * RUN_FIELDS));
    await engine.step(
      {
        moves: empty,
        moveCount: 0,
        rowMoves: empty,
        rowMoveCount: 0,
        starts: rows.map((ids, row) => ({ row, sampling: forced(ids[position + 1]!), tokens: [], promptLength: 0 })),
        runs,
        runCount: ROWS,
        tokens: Int32Array.from(rows, (ids) => ids[position]!),
        tokenCount: ROWS,
      },
      result,
    );
    rows.forEach((ids, row) => {
      if (result.sampled[row] !== ids[position + 1]) throw new Error(`row ${row}: the bias did not force its token`);
      sum -= result.logprobs[row]!;
    });
  }
  await engine.close();
  return sum / (ROWS * TOKENS);
}

/** The model's tensors as f32 in one file, matrices rounded to int8 with a scale per output and `group` inputs. */
function rounded(file: string, group: number) {
  const { toFloat } = loadAddon().kernels;
  const source = readFileSync(model.files[0]!);
  const parts: Float32Array[] = [];
  let offset = 0;
  const tensors = model.tensors.map((tensor) => {
    const bytes = source.subarray(tensor.begin, tensor.end);
    const values = toFloat(new Uint16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)), 'bf16');
    const [, inputs = 0] = tensor.shape;
    for (let row = 0; inputs > 0 && row < values.length; row += inputs) {
      for (let begin = row; begin < row + inputs; begin += group) {
        const some = values.subarray(begin, Math.min(begin + group, row + inputs));
        const scale = some.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0) / 127;
        if (scale > 0) some.forEach((value, i) => (some[i] = Math.round(value / scale) * scale));
      }
    }
    parts.push(values);
    const begin = offset;
    offset += values.byteLength;
    return { ...tensor, type: 'F32', begin, end: offset };
  });
  writeFileSync(file, Buffer.concat(parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength))));
  return { weights: 'f32', files: [file], tensors };
}

const rows = readRows();
const { files, tensors } = model;
const scratch = mkdtempSync(join(tmpdir(), 'baton-quantisation-'));
const contenders: [string, Parameters<typeof likelihood>[0]][] = [
  ['f32', { weights: 'f32', files, tensors }],
  ['bf16', { weights: 'bf16', files, tensors }],
  ['int8 (per channel, activations per token)', { weights: 'int8', files, tensors }],
  ...[Infinity, 128, 64, 32].map((group): [string, Parameters<typeof likelihood>[0]] => [
    `f32, weights rounded to int8 per ${group === Infinity ? 'channel' : `group of ${group}`}`,
    rounded(join(scratch, `${group}.bin`), group),
  ]),
];
const results: { name: string; nats: number; more: number }[] = [];
for (const [name, load] of contenders) {
  const nats = await likelihood(load, rows);
  const more = nats - (results[0]?.nats ?? nats);
  results.push({ name, nats, more });
  console.log(`${name.padEnd(46)} ${nats.toFixed(5)} nats/token  ${more >= 0 ? '+' : ''}${more.toFixed(5)}`);
}
rmSync(scratch, { recursive: true });
writeScriptRecord(flags.out, results);
