import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ShapeName } from '../../src/bench/shapes.ts';
import { SHAPES } from '../../src/bench/shapes.ts';
import type { SynthesizeOptions } from '../../src/bench/synthesize.ts';
import { synthesize } from '../../src/bench/synthesize.ts';
import { readConfig } from '../../src/model/config.ts';
import { tensorShapes } from '../../src/model/families.ts';
import type { ModelFolder } from '../../src/model/load.ts';
import { openModel } from '../../src/model/load.ts';

const synthetic = suite('synthesize');
const root = mkdtempSync(join(tmpdir(), 'baton-synthetic-'));
synthetic.after(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
async function make(shape: ShapeName, options: SynthesizeOptions = {}): Promise<ModelFolder> {
  const folder = join(root, String(folders++));
  await synthesize(folder, shape, options);
  return openModel(folder);
}

/** The values of one tensor of a folder stored as F32. */
function values(model: ModelFolder, name: string): Float32Array {
  const entry = model.tensors.find((tensor) => tensor.name === name);
  assert.ok(entry, name);
  return new Float32Array(readFileSync(model.files[0] ?? '').buffer.slice(entry.begin, entry.end));
}

const TOYS: readonly ShapeName[] = ['tiny-llama', 'tiny-qwen2', 'tiny-qwen3'];

for (const shape of TOYS) {
  for (const type of ['f32', 'bf16'] as const) {
    synthetic(`${shape} in ${type} opens as a model`, async () => {
      const model = await make(shape, { type });
      assert.is(model.storedType, type);
      assert.equal(model.config, readConfig(SHAPES[shape]));
      assert.is(JSON.parse(readFileSync(join(model.folder, 'config.json'), 'utf8'))._synthetic, true);
    });
  }
}

synthetic('the toys have every variant of the family between them', () => {
  const configs = TOYS.map((shape) => readConfig(SHAPES[shape]));
  for (const key of ['qkvBias', 'qkNorm', 'tiedEmbedding'] as const) {
    assert.equal(new Set(configs.map((config) => config[key])).size, 2, key);
  }
  assert.equal(configs.map(({ ropeScaling }) => ropeScaling?.kind ?? 'none').sort(), ['linear', 'llama3', 'none']);
});

/** Parameters of the published models, as their pages state them. */
const PUBLISHED: readonly [ShapeName, number][] = [
  ['SmolLM2-135M', 134_515_008],
  ['Qwen2.5-0.5B', 494_032_768],
  ['Llama-3.2-1B', 1_235_814_400],
  ['Llama-3-8B', 8_030_261_248],
];

for (const [shape, parameters] of PUBLISHED) {
  synthetic(`${shape} has the published number of parameters`, () => {
    let sum = 0;
    for (const dimensions of tensorShapes(readConfig(SHAPES[shape])).values()) {
      sum += dimensions.reduce((product, size) => product * size, 1);
    }
    assert.is(sum, parameters);
  });
}

synthetic('one seed gives one file, another seed another', async () => {
  const read = async (seed: number) => readFileSync((await make('tiny-llama', { seed })).files[0] ?? '');
  const first = await read(1);
  assert.ok(first.equals(await read(1)));
  assert.not.ok(first.equals(await read(2)));
});

synthetic('weights are normal, with the variance that keeps activations near one', async () => {
  const model = await make('tiny-qwen3', { type: 'f32' });
  const moments = (name: string) => {
    const all = values(model, name);
    const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
    const variance = all.reduce((sum, value) => sum + (value - mean) ** 2, 0) / all.length;
    const fourth = all.reduce((sum, value) => sum + (value - mean) ** 4, 0) / all.length;
    return { mean, deviation: Math.sqrt(variance), kurtosis: fourth / variance ** 2 };
  };
  const near = (value: number, expected: number, tolerance: number) => {
    assert.ok(Math.abs(value - expected) <= tolerance, `expected ${expected} ± ${tolerance}, got ${value}`);
  };
  const up = moments('model.layers.0.mlp.up_proj.weight'); // 144 × 80 values
  near(up.mean, 0, 0.005);
  near(up.deviation, 1 / Math.sqrt(80), 0.005);
  near(up.kurtosis, 3, 0.3);
  near(moments('model.layers.1.mlp.down_proj.weight').deviation, 1 / Math.sqrt(144 * 4), 0.003);
  near(moments('model.norm.weight').mean, 1, 0.05);
});

synthetic('no row of a matrix is another, though a large matrix repeats its values', async () => {
  const { files, tensors, config } = await make('SmolLM2-135M');
  const { vocabulary, hidden } = config;
  const { begin = 0, end = 0 } = tensors.find(({ name }) => name === 'model.embed_tokens.weight') ?? {};
  const table = new Uint16Array(readFileSync(files[0] ?? '').buffer.slice(begin, end));
  assert.is(table.length, vocabulary * hidden);
  const row = (i: number) => table.subarray(i * hidden, (i + 1) * hidden).join();
  assert.is(new Set(Array.from({ length: vocabulary }, (_, i) => row(i))).size, vocabulary);
});

synthetic('tensors are not copies of each other', async () => {
  const model = await make('tiny-llama', { type: 'f32' });
  const [gate, up] = ['gate', 'up'].map((name) => values(model, `model.layers.0.mlp.${name}_proj.weight`));
  const equal = gate?.filter((value, i) => value === up?.[i]).length ?? 0;
  assert.ok(equal < (gate?.length ?? 0) / 100, `${equal} equal values`);
});

synthetic('the tokenizer takes any text and gives it back', async () => {
  for (const shape of TOYS) {
    const { tokenizer, config, eosTokens } = await make(shape);
    const real = new Tokenizer(tokenizer.tokenizerJson as object, tokenizer.tokenizerConfig);
    const text = 'Où est l’âne? 🐴\n\t{x}';
    const ids: readonly number[] = real.encode(text).ids;
    assert.is(ids.length, Buffer.byteLength(text));
    assert.ok(ids.every((id) => id < config.vocabulary));
    assert.is(real.decode([...ids]), text);
    assert.equal(real.encode('<|endoftext|>').ids, eosTokens);
  }
});

synthetic('the first tensor is aligned', async () => {
  const model = await make('tiny-llama');
  assert.is((model.tensors[0]?.begin ?? 1) % 8, 0);
  assert.is(statSync(model.files[0] ?? '').size, Math.max(...model.tensors.map(({ end }) => end)));
});

synthetic.run();
