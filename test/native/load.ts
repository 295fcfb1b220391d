// load(): what it refuses, how it says so, and what it makes of files that are unusual but right.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addonPath, loadAddon } from '../../src/addon.ts';
import type { ModelConfig, NativeEngine, NativeLoad, TensorEntry } from '../../src/native.ts';
import {
  CONFIG,
  failure,
  FILE,
  loadTales,
  makePlan,
  makeResult,
  readEntries,
  start,
  TALES,
  talesLoad,
} from './fake/tales.ts';

const load = suite('load');
const folder = mkdtempSync(join(tmpdir(), 'baton-load-'));
load.after(() => rmSync(folder, { recursive: true }));

const BYTES = readFileSync(FILE);
const TENSORS = readEntries(BYTES);
const UP = 'model.layers.3.mlp.up_proj.weight';
const NORM = 'model.norm.weight';

function withTensor(name: string, changes: Partial<TensorEntry>): TensorEntry[] {
  return TENSORS.map((entry) => (entry.name === name ? { ...entry, ...changes } : entry));
}

function entry(name: string): TensorEntry {
  return TENSORS.find((one) => one.name === name)!;
}

/** Ten greedy tokens after a few given ones. */
async function continuation(engine: NativeEngine): Promise<number[]> {
  const result = makeResult();
  const tokens = [0, 1415, 327, 574, 260, 501, 406, 311, 260];
  await engine.step(makePlan({ starts: [start(0, tokens)], runs: [[0, 0, 0, 0, tokens.length]], tokens }), result);
  const drawn = [result.sampled[0]!];
  while (drawn.length < 10) {
    const position = tokens.length + drawn.length - 1;
    await engine.step(makePlan({ runs: [[0, 0, 0, position, 1]], tokens: [drawn.at(-1)!] }), result);
    drawn.push(result.sampled[0]!);
  }
  await engine.close();
  return drawn;
}

const GOLDEN = (
  JSON.parse(readFileSync(`${TALES}golden.json`, 'utf8')) as { items: { continuation_ids: number[] }[] }
).items[0]!.continuation_ids.slice(0, 10);

load('gives an engine that says what it is and continues as the reference does', async () => {
  const shares: number[] = [];
  const engine = await loadTales({ weights: 'f32', onProgress: (share) => void shares.push(share) });
  assert.is(engine.device, 'cpu');
  assert.is(engine.isa, loadAddon().cpu().isas[0]);
  assert.is(engine.threads, 1);
  assert.is(engine.weights, 'f32');
  assert.is(engine.kv, 'f32');
  assert.is(engine.slots, 1024);
  assert.is(engine.slotBytes, 8 * 2 * 2 * 64 * 4);
  assert.ok(engine.weightBytes >= 6_033_664 * 4, `${engine.weightBytes}`);
  assert.is(shares[0], 0);
  assert.is(shares.at(-1), 1);
  assert.equal(
    shares,
    [...shares].sort((a, b) => a - b),
  );
  assert.equal(await continuation(engine), GOLDEN);
});

const LIES: readonly [string, () => readonly TensorEntry[], RegExp][] = [
  ['an end before its begin', () => withTensor(UP, { begin: 9000, end: 8000 }), /up_proj.*got 9000 to 8000/],
  ['a negative begin', () => withTensor(UP, { begin: -4, end: entry(UP).end }), /up_proj.*got -4/],
  ['an end behind the file', () => withTensor(NORM, { end: BYTES.length + 1 }), /model.norm.*within the file's/],
  ['an end far behind the file', () => withTensor(NORM, { end: 2 ** 53 }), /model.norm.*within the file's/],
  ['fewer bytes than its shape', () => withTensor(UP, { end: entry(UP).end - 2 }), /up_proj.*expected 327680 bytes/],
  ['another type than its bytes', () => withTensor(UP, { type: 'F32' }), /up_proj.*expected 655360 bytes/],
  ['a shape that overflows', () => withTensor(UP, { shape: [2 ** 40, 2 ** 40] }), /up_proj.*too many bytes/],
  ['a shape that overflows to the right size', () => withTensor(UP, { shape: [2 ** 32, 2 ** 32, 640] }), /up_proj/],
  ['a negative dimension', () => withTensor(UP, { shape: [-640, -256] }), /up_proj/],
  ['a transposed shape', () => withTensor(UP, { shape: [256, 640] }), /up_proj.*\[640, 256\], got \[256, 640\]/],
  ['a flat shape', () => withTensor(UP, { shape: [640 * 256] }), /up_proj.*\[640, 256\], got \[163840\]/],
  ['no shape', () => withTensor(NORM, { shape: [], end: entry(NORM).begin + 2 }), /model.norm.*\[256\], got \[\]/],
  ['a type of integers', () => withTensor(UP, { type: 'I16' }), /up_proj.*expected type F32, BF16 or F16, got I16/],
  ['a type that is none', () => withTensor(UP, { type: '' }), /up_proj.*expected type/],
  ['a file that is none', () => withTensor(UP, { file: 1 }), /up_proj.*one of 1 files, got number 1/],
  ['no such tensor', () => TENSORS.filter(({ name }) => name !== UP), /up_proj.*\[640, 256\], found none/],
  ['the same tensor twice', () => [...TENSORS, entry(UP)], /up_proj.*got two/],
  ['no tensors', () => [], /embed_tokens.*found none/],
];

for (const [lie, tensors, message] of LIES) {
  load(`refuses ${lie}`, async () => {
    const refused = await failure(() => loadTales({ tensors: tensors() }));
    assert.is(refused.code, 'MODEL_FORMAT', refused.message);
    assert.match(refused.message, message);
  });
}

const CONFIGS: readonly [Partial<ModelConfig>, string, RegExp][] = [
  [{ layers: 9 }, 'MODEL_FORMAT', /model\.layers\.8\.input_layernorm\.weight.*found none/],
  [{ hidden: 128 }, 'MODEL_FORMAT', /embed_tokens.*\[2048, 128\], got \[2048, 256\]/],
  [{ vocabulary: 2049 }, 'MODEL_FORMAT', /embed_tokens.*\[2049, 256\]/],
  [{ tiedEmbedding: false }, 'MODEL_FORMAT', /lm_head\.weight.*\[2048, 256\], found none/],
  [{ qkvBias: true }, 'MODEL_FORMAT', /model\.layers\.0\.self_attn\.q_proj\.bias.*\[256\]/],
  [{ qkNorm: true }, 'MODEL_FORMAT', /model\.layers\.0\.self_attn\.q_norm\.weight.*\[64\]/],
  [{ layers: 0 }, 'MODEL_UNSUPPORTED', /layers: expected 1 to/],
  [{ layers: -1 }, 'MODEL_UNSUPPORTED', /layers/],
  [{ hidden: 2 ** 31 - 1 }, 'MODEL_UNSUPPORTED', /hidden/],
  [{ intermediate: 2 ** 30 }, 'MODEL_UNSUPPORTED', /intermediate/],
  [{ heads: 2 ** 30, kvHeads: 2 ** 30 }, 'MODEL_UNSUPPORTED', /heads/],
  [{ kvHeads: 3 }, 'MODEL_UNSUPPORTED', /kvHeads: expected a divisor of heads 4, got 3/],
  [{ kvHeads: 8 }, 'MODEL_UNSUPPORTED', /kvHeads/],
  [{ headDim: 63 }, 'MODEL_UNSUPPORTED', /headDim: expected an even number/],
  [{ vocabulary: 2 ** 30 }, 'MODEL_UNSUPPORTED', /vocabulary/],
  [{ context: 0 }, 'MODEL_UNSUPPORTED', /context/],
  [{ rmsEps: 0 }, 'MODEL_UNSUPPORTED', /rmsEps/],
  [{ ropeTheta: NaN }, 'MODEL_UNSUPPORTED', /ropeTheta/],
  [{ ropeTheta: Infinity }, 'MODEL_UNSUPPORTED', /ropeTheta/],
  [{ ropeScaling: { kind: 'linear', factor: 0 } }, 'MODEL_UNSUPPORTED', /ropeScaling\.factor/],
  [{ heads: 1.5 }, 'INVALID_ARGUMENT', /config\.heads: expected an integer/],
  [{ heads: '4' as never }, 'INVALID_ARGUMENT', /config\.heads: expected a number, got a string/],
  [{ qkNorm: 1 as never }, 'INVALID_ARGUMENT', /config\.qkNorm: expected a boolean/],
  [{ ropeScaling: { kind: 'yarn', factor: 2 } as never }, 'INVALID_ARGUMENT', /ropeScaling\.kind.*got 'yarn'/],
];

for (const [changes, code, message] of CONFIGS) {
  load(`refuses a config with ${JSON.stringify(changes)}`, async () => {
    const refused = await failure(() => loadTales({ config: { ...CONFIG, ...changes } }));
    assert.is(refused.code, code, refused.message);
    assert.match(refused.message, message);
  });
}

const OPTIONS: readonly [string, Partial<NativeLoad>, string, RegExp][] = [
  ['a device that is none', { device: 'tpu' }, 'DEVICE_UNAVAILABLE', /device: expected 'cpu'.*, got 'tpu'/],
  ['an instruction set that is none', { isa: 'sse9' }, 'INVALID_OPTION', /isa/],
  ['a weight type that is none', { weights: 'fp4' }, 'INVALID_ARGUMENT', /weights.*got 'fp4'/],
  ['a kv type that is none', { kv: 'int8' }, 'INVALID_ARGUMENT', /kv.*got 'int8'/],
  ['slots that fill no tile', { slots: 1000 }, 'INVALID_ARGUMENT', /slots: expected a multiple of 64, got 1000/],
  ['host slots that fill no tile', { hostSlots: 65 }, 'INVALID_ARGUMENT', /hostSlots: expected a multiple of 64, got 65/],
  ['more slots than have numbers', { hostSlots: 2 ** 31 - 64 }, 'INVALID_ARGUMENT', /hostSlots/],
  ['no slots', { slots: 0 }, 'INVALID_ARGUMENT', /slots/],
  ['no rows', { rows: 0 }, 'INVALID_ARGUMENT', /rows/],
  ['negative threads', { threads: -1 }, 'INVALID_ARGUMENT', /threads/],
  ['a context beyond the model', { context: 513 }, 'INVALID_ARGUMENT', /context.*1 to 512/],
  ['no tokens per step', { stepTokens: 0 }, 'INVALID_ARGUMENT', /stepTokens/],
  ['too many tokens per step', { stepTokens: 2 ** 31 }, 'INVALID_ARGUMENT', /stepTokens/],
  ['files that are no list', { files: FILE as never }, 'INVALID_ARGUMENT', /files: expected an array, got a string/],
  ['a path cut short', { files: [`${FILE}\0.txt`] }, 'INVALID_ARGUMENT', /files\[0\].*null character/],
  ['tensors that are no list', { tensors: {} as never }, 'INVALID_ARGUMENT', /tensors: expected an array/],
  [
    'an offset that is no number',
    { tensors: withTensor(UP, { begin: NaN }) },
    'INVALID_ARGUMENT',
    /tensors\[\d+\]\.begin/,
  ],
  ['a dimension that is no integer', { tensors: withTensor(UP, { shape: [0.5] }) }, 'INVALID_ARGUMENT', /\.shape/],
  ['progress told to no function', { onProgress: 7 as never }, 'INVALID_ARGUMENT', /onProgress: expected a function/],
  ['a file that is not there', { files: [`${FILE}.gone`] }, 'MODEL_NOT_FOUND', /model\.safetensors\.gone/],
  ['a folder for a file', { files: [TALES] }, 'MODEL_FORMAT', /expected a regular file/],
];

for (const [name, changes, code, message] of OPTIONS) {
  load(`refuses ${name}`, async () => {
    const refused = await failure(() => loadTales(changes));
    assert.is(refused.code, code, refused.message);
    assert.match(refused.message, message);
  });
}

load('refuses options that are no object', async () => {
  for (const options of [undefined, null, 7, 'x'] as never[]) {
    assert.is((await failure(() => loadAddon().load(options))).code, 'INVALID_ARGUMENT');
  }
});

load('refuses an empty file', async () => {
  const path = join(folder, 'empty.safetensors');
  writeFileSync(path, '');
  assert.is((await failure(() => loadTales({ files: [path] }))).code, 'MODEL_FORMAT');
});

load('refuses a file that was cut off', async () => {
  const path = join(folder, 'cut.safetensors');
  writeFileSync(path, BYTES.subarray(0, BYTES.length - 1));
  assert.is((await failure(() => loadTales({ files: [path] }))).code, 'MODEL_FORMAT');
});

load('says how much memory an impossible arena would take', async () => {
  const config = { ...CONFIG, kvHeads: 1024, heads: 1024, headDim: 1024 };
  const refused = await failure(() => loadTales({ config, slots: 2 ** 31 - 64 }));
  assert.is(refused.code, 'OUT_OF_MEMORY');
  assert.match(refused.message, /2147483584 of 67108864 bytes/);
});

load('refuses what the system has no memory for, and lives on', () => {
  if (process.platform !== 'linux' || process.env['ASAN_OPTIONS'] !== undefined) {
    console.log('SKIP out of memory: address space cannot be limited here');
    return;
  }
  const script = `
    const { spawnSync } = require('node:child_process');
    const { readFileSync } = require('node:fs');
    const { load } = require(${JSON.stringify(addonPath())});
    const options = ${JSON.stringify(talesLoad({ weights: 'f32' }))};
    const limit = (bytes) => {
      const { status } = spawnSync('prlimit', ['--pid', process.pid, '--as=' + bytes + ':unlimited']);
      if (status !== 0) process.exit(77);
    };
    const size = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
    limit(size + 24 * 2 ** 20);   // room for a thread and the mapped file, not for the weights
    load(options).then(
      () => process.exit(1),
      async ({ code, message }) => {
        limit('unlimited');
        console.log(code, message);
        await (await load(options)).close();
      },
    );`;
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  if (status === 77) return console.log('SKIP out of memory: prlimit is not installed');
  assert.is(status, 0, `${signal} ${stderr}`);
  assert.match(stdout, /^OUT_OF_MEMORY .*\d/);
});

/** The tensors of tales in a file of their own: `shift` bytes from its start, each written by `encode`. */
function rewrite(
  name: string,
  shift: number,
  type: string,
  encode: (bytes: Uint8Array) => Uint8Array,
): Partial<NativeLoad> {
  const path = join(folder, name);
  const parts: Uint8Array[] = [Buffer.alloc(shift)];
  let at = shift;
  const tensors = TENSORS.map((tensor) => {
    const part = encode(BYTES.subarray(tensor.begin, tensor.end));
    parts.push(part);
    at += part.length;
    return { ...tensor, type, begin: at - part.length, end: at };
  });
  writeFileSync(path, Buffer.concat(parts));
  return { files: [path], tensors };
}

load('reads tensors that are not aligned', async () => {
  const changes = rewrite('shifted.bin', 1, 'BF16', (bytes) => bytes);
  assert.equal(await continuation(await loadTales({ ...changes, weights: 'f32' })), GOLDEN);
});

load('reads f32 files', async () => {
  const changes = rewrite('f32.bin', 0, 'F32', (bytes) => {
    const wide = new Uint8Array(bytes.length * 2); // a bf16 is the upper half of a float
    for (let i = 0; i < bytes.length; i++) wide[2 * i + (i % 2 === 0 ? 2 : 1)] = bytes[i]!;
    return wide;
  });
  assert.equal(await continuation(await loadTales({ ...changes, weights: 'f32' })), GOLDEN);
});

load('reads files of several parts', async () => {
  const middle = entry(UP).begin;
  writeFileSync(join(folder, 'a.bin'), BYTES.subarray(0, entry(UP).end));
  writeFileSync(join(folder, 'b.bin'), BYTES.subarray(middle));
  const tensors = TENSORS.map((one) =>
    one.begin < middle ? one : { ...one, file: 1, begin: one.begin - middle, end: one.end - middle },
  );
  const files = [join(folder, 'a.bin'), join(folder, 'b.bin')];
  assert.equal(await continuation(await loadTales({ files, tensors, weights: 'f32' })), GOLDEN);
});

load('takes an output matrix of its own, and leaves the embedding unquantised', async () => {
  const config = { ...CONFIG, tiedEmbedding: false };
  const tensors = [...TENSORS, { ...entry('model.embed_tokens.weight'), name: 'lm_head.weight' }];
  const tied = await loadTales({ weights: 'int8' });
  const untied = await loadTales({ config, tensors, weights: 'int8' });
  assert.ok(untied.weightBytes - tied.weightBytes >= 2048 * 256 * 2, 'the embedding is kept in bf16 beside the head');
  await tied.close();
  await untied.close();
  assert.equal(await continuation(await loadTales({ config, tensors, weights: 'f32' })), GOLDEN);
});

load('rejects with what onProgress threw, and can be tried again', async () => {
  const thrown = new Error('enough');
  for (const share of [0, 1]) {
    const onProgress = (now: number) => {
      if (now === share) throw thrown;
    };
    let caught: unknown;
    await loadTales({ onProgress }).catch((error: unknown) => (caught = error));
    assert.is(caught, thrown);
  }
  await (await loadTales()).close();
});

load('loads several at once', async () => {
  const engines = await Promise.all([loadTales(), loadTales(), loadTales()]);
  const answers = await Promise.all(engines.map(continuation));
  assert.equal(answers[0], answers[1]);
  assert.equal(answers[0], answers[2]);
});

load.run();
