// Files are read back by a reader of their own, written from the format's description.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { GGUF_TYPES, type GgufType, writeGguf } from '../../src/bench/gguf-writer.ts';
import { SHAPES, type ShapeName } from '../../src/bench/shapes.ts';
import { synthesize } from '../../src/bench/synthesize.ts';
import { EngineError } from '../../src/errors.ts';
import { makeParts, type ModelParts, singleFile, writeFolder } from '../fake/model-folder.ts';

interface Tensor {
  readonly type: number;
  readonly shape: readonly number[]; // as the file has it
  readonly begin: number; // from the start of the file
  readonly end: number;
}

interface Gguf {
  readonly bytes: Buffer;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly types: Readonly<Record<string, string>>; // of the metadata
  readonly tensors: ReadonlyMap<string, Tensor>;
}

const [F32, F16, Q8_0, BF16] = [0, 1, 8, 30];
const TYPE_NUMBERS = { f32: F32, f16: F16, q8_0: Q8_0, bf16: BF16 };

function readGguf(file: string): Gguf {
  const bytes = readFileSync(file);
  let at = 0;
  const take = (length: number) => bytes.subarray(at, (at += length));
  const u32 = () => take(4).readUInt32LE();
  const u64 = () => Number(take(8).readBigUInt64LE());
  const text = () => take(u64()).toString();
  const readers: Record<number, readonly [string, () => unknown]> = {
    4: ['u32', u32],
    5: ['i32', () => take(4).readInt32LE()],
    6: ['f32', () => take(4).readFloatLE()],
    7: ['bool', () => take(1).readUInt8() === 1],
    8: ['string', text],
  };
  const reader = (type: number) => readers[type] ?? assert.unreachable(`metadata type ${type}`);
  const value = (): readonly [string, unknown] => {
    const type = u32();
    if (type !== 9) {
      const [name, read] = reader(type)!;
      return [name, read()];
    }
    const [name, read] = reader(u32())!;
    return [`${name}[]`, Array.from({ length: u64() }, read)];
  };

  assert.is(take(4).toString(), 'GGUF');
  assert.is(u32(), 3);
  const [tensorCount, metadataCount] = [u64(), u64()];
  const entries = Array.from({ length: metadataCount }, () => [text(), value()] as const);
  const places = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64);
    return { name, shape, type: u32(), offset: u64() };
  });
  const data = Math.ceil(at / 32) * 32;
  assert.ok(bytes.subarray(at, data).every((byte) => byte === 0));
  const tensors = new Map(
    places.map(({ name, shape, type, offset }) => {
      const count = shape.reduce((product, size) => product * size, 1);
      const length = type === Q8_0 ? (count / 32) * 34 : count * (type === F32 ? 4 : 2);
      return [name, { type, shape, begin: data + offset, end: data + offset + length }];
    }),
  );
  assert.is(tensors.size, tensorCount);
  return {
    bytes,
    metadata: Object.fromEntries(entries.map(([key, [, one]]) => [key, one])),
    types: Object.fromEntries(entries.map(([key, [type]]) => [key, type])),
    tensors,
  };
}

function half(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** A tensor's values, and how far each may be from the stored one. */
function valuesOf({ bytes }: Gguf, { type, begin, end }: Tensor): readonly (readonly [number, number])[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset + begin, end - begin);
  const length = view.byteLength;
  if (type === F32) return Array.from({ length: length / 4 }, (_, i) => [view.getFloat32(4 * i, true), 0]);
  if (type === Q8_0) {
    return Array.from({ length: (length / 34) * 32 }, (_, i) => {
      const block = 34 * Math.floor(i / 32);
      const scale = half(view.getUint16(block, true));
      // Half a step, and what rounding the scale to f16 does to 127 of them.
      return [scale * view.getInt8(block + 2 + (i % 32)), scale * (0.5 + 127 * 2 ** -11 + 1e-3)];
    });
  }
  return Array.from({ length: length / 2 }, (_, i) => {
    const bits = view.getUint16(2 * i, true);
    if (type === F16) return [half(bits), Math.max(2 ** -25, Math.abs(half(bits)) * 2 ** -11)];
    const value = new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;
    return [value, Math.abs(value) * 2 ** -8];
  });
}

/** The floats of a folder stored as F32, by tensor. */
function stored(folder: string): Map<string, { shape: number[]; values: Float32Array }> {
  const bytes = readFileSync(join(folder, 'model.safetensors'));
  const begin = 8 + Number(bytes.readBigUInt64LE());
  type Header = Record<string, { shape: number[]; data_offsets: [number, number] }>;
  const { __metadata__, ...header } = JSON.parse(bytes.subarray(8, begin).toString()) as Header;
  return new Map(
    Object.entries(header).map(([name, { shape, data_offsets: [from, to] }]) => {
      return [name, { shape, values: new Float32Array(bytes.buffer.slice(begin + from, begin + to)) }];
    }),
  );
}

const WRITTEN: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^lm_head/, 'output'],
  [/^model\.layers\./, 'blk.'],
  [/input_layernorm/, 'attn_norm'],
  [/post_attention_layernorm/, 'ffn_norm'],
  [/self_attn\.o_proj/, 'attn_output'],
  [/self_attn\.([qkv])_(proj|norm)/, 'attn_$1_$2'],
  [/_proj\./, '.'],
  [/mlp\./, 'ffn_'],
];

function writtenName(name: string): string {
  return WRITTEN.reduce((text, [from, to]) => text.replace(from, to), name);
}

/** Where llama.cpp's llama expects the rows of q and k: the two that are rotated together side by side. */
function neighbours(rows: number, headDim: number): number[] {
  return Array.from({ length: rows }, (_, row) => {
    const [head, pair, which] = [Math.floor(row / headDim), Math.floor((row % headDim) / 2), row % 2];
    return head * headDim + which * (headDim / 2) + pair;
  });
}

const writer = suite('gguf-writer');
const root = mkdtempSync(join(tmpdir(), 'baton-gguf-'));
writer.after(() => rmSync(root, { recursive: true, force: true }));

const HEAD_DIMS: Partial<Record<ShapeName, number>> = { 'tiny-llama': 16, 'tiny-qwen2': 8, 'tiny-qwen3': 32 };
const folders = new Map<ShapeName, string>();
writer.before(async () => {
  for (const shape of Object.keys(HEAD_DIMS) as ShapeName[]) {
    folders.set(shape, join(root, shape));
    await synthesize(join(root, shape), shape, { seed: 5, type: 'f32' });
  }
});

async function write(shape: ShapeName, type: GgufType): Promise<Gguf> {
  const file = join(root, `${shape}.${type}.gguf`);
  await writeGguf(folders.get(shape)!, file, type);
  return readGguf(file);
}

for (const [shape, headDim] of Object.entries(HEAD_DIMS) as [ShapeName, number][]) {
  for (const type of GGUF_TYPES) {
    writer(`${shape} in ${type} has every tensor, value by value, at its place`, async () => {
      const gguf = await write(shape, type);
      const scaled = shape === 'tiny-llama' ? 1 : 0; // its rope_freqs
      const all = stored(folders.get(shape)!);
      assert.is(gguf.tensors.size, all.size + scaled);
      let end = Math.min(...[...gguf.tensors.values()].map(({ begin }) => begin));
      for (const [name, tensor] of gguf.tensors) {
        assert.is(tensor.begin, Math.ceil(end / 32) * 32, name);
        assert.ok(gguf.bytes.subarray(end, tensor.begin).every((byte) => byte === 0));
        ({ end } = tensor);
      }
      assert.is(gguf.bytes.length, Math.ceil(end / 32) * 32);

      for (const [name, { shape: dimensions, values }] of all) {
        const tensor = gguf.tensors.get(writtenName(name));
        assert.ok(tensor, writtenName(name));
        assert.equal(tensor.shape, dimensions.toReversed());
        const width = dimensions[1] ?? 1;
        const matrix = type === 'q8_0' && width % 32 !== 0 ? F16 : TYPE_NUMBERS[type];
        assert.is(tensor.type, dimensions.length === 1 ? F32 : matrix, name);
        const moved = shape === 'tiny-llama' && /\.[qk]_proj/.test(name);
        const order = moved ? neighbours(dimensions[0]!, headDim) : undefined;
        for (const [i, [value, tolerance]] of valuesOf(gguf, tensor).entries()) {
          const row = Math.floor(i / width);
          const expected = values[(order?.[row] ?? row) * width + (i % width)]!;
          if (!(Math.abs(value - expected) <= tolerance)) assert.is(value, expected, `${name}[${i}]`);
        }
      }
    });
  }
}

writer('numbers are rounded to the nearest f16, ties to even', async () => {
  const tie = 1 + 2 ** -11;
  const cases = [
    [tie, 1],
    [tie + 2 ** -10, 1 + 2 ** -9],
    [-tie - 2 ** -20, -1 - 2 ** -10],
    [65504, 65504],
    [2 ** -14 - 2 ** -26, 2 ** -14],
    [2 ** -25, 0],
    [3 * 2 ** -25, 2 ** -23],
    [2 ** -24, 2 ** -24],
    [0, 0],
  ] as const;
  const parts = makeParts();
  const values = new Float32Array(parts.data.buffer, parts.data.byteOffset, cases.length);
  values.set(cases.map(([value]) => value)); // of the embedding
  const gguf = await writeParts(parts, 'f16');
  const written = valuesOf(gguf, gguf.tensors.get('token_embd.weight')!).slice(0, cases.length);
  assert.equal(
    written.map(([value]) => value),
    cases.map(([, expected]) => expected),
  );
});

writer('the metadata are those of the architecture, each of the type that readers ask for', async () => {
  const { metadata, types } = await write('tiny-llama', 'bf16');
  const { 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.token_type': kinds, ...rest } = metadata;
  const { rms_norm_eps: _eps, ...config } = SHAPES['tiny-llama'];
  assert.equal(
    { ...rest, 'llama.attention.layer_norm_rms_epsilon': 0 },
    {
      'general.architecture': 'llama',
      'general.name': 'tiny-llama',
      'general.alignment': 32,
      'general.file_type': 32,
      'general.quantization_version': 2,
      'llama.block_count': config.num_hidden_layers,
      'llama.context_length': config.max_position_embeddings,
      'llama.vocab_size': config.vocab_size,
      'llama.embedding_length': config.hidden_size,
      'llama.feed_forward_length': config.intermediate_size,
      'llama.attention.head_count': config.num_attention_heads,
      'llama.attention.head_count_kv': config.num_key_value_heads,
      'llama.attention.key_length': 16,
      'llama.attention.value_length': 16,
      'llama.attention.layer_norm_rms_epsilon': 0,
      'llama.rope.dimension_count': 16,
      'llama.rope.freq_base': config.rope_theta,
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'default',
      'tokenizer.ggml.merges': [],
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': 0,
      'tokenizer.ggml.add_bos_token': false,
    },
  );
  assert.is(rest['llama.attention.layer_norm_rms_epsilon'], Math.fround(1e-5));
  assert.is(types['llama.block_count'], 'u32');
  assert.is(types['llama.rope.freq_base'], 'f32');
  assert.is(types['tokenizer.ggml.token_type'], 'i32[]');
  assert.is((tokens as string[]).length, config.vocab_size);
  assert.is((tokens as string[])[0], '<|endoftext|>');
  assert.equal((kinds as number[]).slice(0, 2), [3, 1]);
  assert.is(new Set(tokens as string[]).size, config.vocab_size);
});

writer('Qwen2 and Qwen3 go by their own names, with linear scaling where the model has it', async () => {
  const qwen2 = await write('tiny-qwen2', 'f32');
  assert.equal([qwen2.metadata['general.architecture'], qwen2.metadata['qwen2.block_count']], ['qwen2', 3]);
  const { metadata } = await write('tiny-qwen3', 'f32');
  assert.equal(
    ['general.architecture', 'qwen3.rope.scaling.type', 'qwen3.rope.scaling.factor'].map((key) => metadata[key]),
    ['qwen3', 'linear', 2],
  );
});

writer('llama3 scaling is a tensor: 1 for quick turns, the factor for slow ones, between them in between', async () => {
  const gguf = await write('tiny-llama', 'f32');
  const factors = valuesOf(gguf, gguf.tensors.get('rope_freqs.weight')!).map(([value]) => value);
  assert.is(factors.length, 8);
  assert.equal([factors[0], factors.at(-1)], [1, 4]); // headDim 16, base 10,000, original context 256
  // Frequency 2 turns 256 / 2π × 10,000^(−2/8) = 4.07 times, frequency 3 1.29 times: (1.29 − 1) / 3 of the way.
  assert.is(factors[2], 1);
  const turns = 256 / (2 * Math.PI) / 10_000 ** (3 / 8);
  const share = (turns - 1) / 3;
  assert.ok(Math.abs(factors[3]! - 1 / ((1 - share) / 4 + share)) < 1e-6, String(factors[3]));
});

writer('tales has the text of every token, and its merges', async () => {
  const folder = fileURLToPath(new URL('../../models/tales/', import.meta.url));
  const file = join(root, 'tales.gguf');
  await writeGguf(folder, file, 'bf16');
  const { metadata } = readGguf(file);
  const { model } = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number>; merges: string[] };
  };
  const tokens = metadata['tokenizer.ggml.tokens'] as string[];
  for (const [token, id] of Object.entries(model.vocab)) assert.is(tokens[id], token);
  assert.equal(metadata['tokenizer.ggml.merges'], model.merges);
});

writer('a vocabulary with bytes to fall back on has scores in the order of its merges', async () => {
  const parts = makeParts();
  const vocab = { '<unk>': 0, '<s>': 1, '<0x0A>': 2, a: 3, b: 4, ab: 5, aba: 6 };
  parts.tokenizer = {
    added_tokens: [
      { id: 0, content: '<unk>' },
      { id: 1, content: '<s>' },
    ],
    model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab, merges: [['a', 'b'], 'ab a'] },
  };
  const { metadata } = await writeParts(parts, 'f32');
  assert.is(metadata['tokenizer.ggml.model'], 'llama');
  assert.equal((metadata['tokenizer.ggml.token_type'] as number[]).slice(0, 8), [2, 3, 6, 1, 1, 1, 1, 5]);
  const [ab, aba, none] = [5, 6, 7].map((id) => (metadata['tokenizer.ggml.scores'] as number[])[id]!);
  assert.ok(ab! > aba! && aba! > none!, `${ab} ${aba} ${none}`);
});

async function writeParts(parts: ModelParts, type: GgufType): Promise<Gguf> {
  const folder = writeFolder(singleFile(parts));
  await writeGguf(folder, join(folder, 'model.gguf'), type);
  return readGguf(join(folder, 'model.gguf'));
}

const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };

function withTokenizer(change: (model: Record<string, unknown>, tokenizer: Record<string, unknown>) => void): ModelParts {
  const parts = makeParts();
  change(parts.tokenizer['model'] as Record<string, unknown>, parts.tokenizer);
  return parts;
}

function withValue(value: number): ModelParts {
  const parts = makeParts();
  parts.data.writeFloatLE(value, 4);
  return parts;
}

const HOSTILE: readonly (readonly [string, ModelParts, GgufType, string, RegExp])[] = [
  ['two ids with one text', withTokenizer((_, tokenizer) => (tokenizer['added_tokens'] = [{ id: 7, content: 't8' }])), 'f32', 'MODEL_FORMAT', /token 8: .* that of 7 too/],
  ['half a character', withTokenizer((model) => (model['vocab'] = { '\ud800': 3 })), 'f32', 'MODEL_FORMAT', /half a character/],
  ['a merge of three', withTokenizer((model) => (model['merges'] = ['a b c'])), 'f32', 'MODEL_FORMAT', /expected pairs of texts, got "a b c"/],
  ['merges that are none', withTokenizer((model) => (model['merges'] = 3)), 'f32', 'MODEL_FORMAT', /merges: expected an array, got 3/],
  ['another kind of tokenizer', withTokenizer((model) => (model['type'] = 'Unigram')), 'f32', 'MODEL_UNSUPPORTED', /expected "BPE", got "Unigram"/],
  ['a value beyond f16', withValue(65536), 'f16', 'MODEL_UNSUPPORTED', /token_embd.weight: .* got 65536/],
  ['a value that is no number', withValue(NaN), 'q8_0', 'MODEL_UNSUPPORTED', /got NaN/],
  ['llama3 scaling of Qwen', makeParts({ architectures: ['Qwen2ForCausalLM'], rope_scaling: llama3 }), 'f32', 'MODEL_UNSUPPORTED', /no llama3 scaling in qwen2/],
  ['norms and biases', makeParts({ architectures: ['Qwen3ForCausalLM'], attention_bias: true }), 'f32', 'MODEL_UNSUPPORTED', /got both/],
];

for (const [name, parts, type, code, message] of HOSTILE) {
  writer(`refuses ${name}, and leaves no file`, async () => {
    const folder = writeFolder(singleFile(parts));
    const before = readdirSync(folder);
    const error: unknown = await writeGguf(folder, join(folder, 'model.gguf'), type).catch((one: unknown) => one);
    assert.instance(error, EngineError);
    assert.is((error as EngineError).code, code);
    assert.match((error as EngineError).message, message);
    assert.equal(readdirSync(folder), before);
  });
}

const shared = fileURLToPath(new URL('../../../shared/models/stories260K/hf/', import.meta.url));
const sameAsPublic = "stories260K is the public file's weights, bit for bit";
if (existsSync(join(shared, 'stories260K-f32.gguf'))) {
  writer(sameAsPublic, async () => {
    await writeGguf(shared, join(root, 'stories.gguf'), 'f32');
    const [ours, theirs] = [readGguf(join(root, 'stories.gguf')), readGguf(join(shared, 'stories260K-f32.gguf'))];
    assert.equal([...ours.tensors.keys()].sort(), [...theirs.tensors.keys()].sort());
    for (const [name, { begin, end }] of theirs.tensors) {
      const own = ours.tensors.get(name)!;
      assert.ok(ours.bytes.subarray(own.begin, own.end).equals(theirs.bytes.subarray(begin, end)), name);
    }
  });
} else {
  console.log(`SKIP ${sameAsPublic}: ../shared/models/stories260K is not here`);
  writer.skip(sameAsPublic);
}

writer.run();
