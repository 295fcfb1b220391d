// Writes a model folder as a GGUF file (version 3), for engines that read nothing else: header, metadata, the tensors'
// names and places, and their values, each tensor aligned to 32 bytes and in the order of its place.

import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EngineError } from '../errors.ts';
import { toBf16, toFloat } from '../kernels.ts';
import { Fields, shown } from '../model/fields.ts';
import { readBytes, withFile } from '../model/files.ts';
import { type ModelFolder, openModel } from '../model/load.ts';
import type { ModelConfig, TensorEntry } from '../native.ts';

/** Number formats of matrices. Vectors are always f32, as that format's readers expect. */
export const GGUF_TYPES = ['f32', 'f16', 'bf16', 'q8_0'] as const;
export type GgufType = (typeof GGUF_TYPES)[number];

const VERSION = 3;
const ALIGNMENT = 32;
const BLOCK = 32; // values of q8_0 that share a scale
const BLOCK_BYTES = 2 + BLOCK;
const CHUNK_VALUES = 1 << 20;
const LARGEST_F16 = 65504;

/** The format's numbers for types of tensors, and for files that consist mostly of them. */
const TENSOR_TYPES = { f32: 0, f16: 1, q8_0: 8, bf16: 30 } as const;
const FILE_TYPES = { f32: 0, f16: 1, q8_0: 7, bf16: 32 } as const;
const QUANTISATION_VERSION = 2;

/** What a token is, by the format's numbers. */
const TOKEN = { normal: 1, unknown: 2, control: 3, unused: 5, byte: 6 } as const;

type Value =
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s' | 'f32s'; readonly value: readonly number[] };

type Metadata = readonly (readonly [string, Value])[];

interface GgufTensor {
  readonly name: string;
  readonly type: GgufType;
  readonly shape: readonly number[]; // the slowest dimension first, as in the model folder; the file has it last
  /** Where its values are: in the model's files, or here. */
  readonly source: TensorEntry | Float32Array;
  /** Width of the heads whose rows change places, 1 for none. */
  readonly headDim: number;
}

/**
 * Writes the model in `folder` to `file`. Rows whose width is no multiple of 32 have no q8_0: such matrices become f16,
 * as other writers have it. Throws MODEL_UNSUPPORTED for what the format's readers would compute differently.
 */
export async function writeGguf(folder: string, file: string, type: GgufType): Promise<void> {
  const model = await openModel(folder);
  const tensors = listTensors(model, type);
  const head = header(listMetadata(model, type), tensors);
  const part = `${file}.part`; // so that a file under its own name is whole
  await mkdir(dirname(file), { recursive: true });
  try {
    await pipeline(Readable.from(contents(model, head, tensors)), createWriteStream(part));
    await rename(part, file);
  } finally {
    await rm(part, { force: true });
  }
}

async function* contents(model: ModelFolder, head: Uint8Array, tensors: readonly GgufTensor[]) {
  yield head;
  for (const tensor of tensors) {
    yield* values(model, tensor);
    const odd = tensorBytes(tensor) % ALIGNMENT;
    if (odd > 0) yield new Uint8Array(ALIGNMENT - odd);
  }
}

// What the model is

/** The name under which readers know this arithmetic. */
function architecture({ qkvBias, qkNorm, ropeScaling }: ModelConfig): 'llama' | 'qwen2' | 'qwen3' {
  if (qkvBias && qkNorm) throw unsupported('expected biases or norms of q and k, got both');
  const name = qkNorm ? 'qwen3' : qkvBias ? 'qwen2' : 'llama';
  if (name !== 'llama' && ropeScaling?.kind === 'llama3') throw unsupported(`expected no llama3 scaling in ${name}`);
  return name;
}

function listMetadata(model: ModelFolder, type: GgufType): Metadata {
  const { config } = model;
  const name = architecture(config);
  const u32 = (key: string, value: number) => [key, { type: 'u32', value }] as const;
  const f32 = (key: string, value: number) => [key, { type: 'f32', value }] as const;
  const text = (key: string, value: string) => [key, { type: 'string', value }] as const;
  return [
    text('general.architecture', name),
    text('general.name', basename(model.folder)),
    u32('general.alignment', ALIGNMENT),
    u32('general.file_type', FILE_TYPES[type]),
    u32('general.quantization_version', QUANTISATION_VERSION),
    u32(`${name}.block_count`, config.layers),
    u32(`${name}.context_length`, config.context),
    u32(`${name}.vocab_size`, config.vocabulary),
    u32(`${name}.embedding_length`, config.hidden),
    u32(`${name}.feed_forward_length`, config.intermediate),
    u32(`${name}.attention.head_count`, config.heads),
    u32(`${name}.attention.head_count_kv`, config.kvHeads),
    u32(`${name}.attention.key_length`, config.headDim),
    u32(`${name}.attention.value_length`, config.headDim),
    f32(`${name}.attention.layer_norm_rms_epsilon`, config.rmsEps),
    u32(`${name}.rope.dimension_count`, config.headDim),
    f32(`${name}.rope.freq_base`, config.ropeTheta),
    ...(config.ropeScaling?.kind === 'linear'
      ? [text(`${name}.rope.scaling.type`, 'linear'), f32(`${name}.rope.scaling.factor`, config.ropeScaling.factor)]
      : []),
    ...listTokenizer(model),
  ];
}

/** Every id of the model has a text of its own, so that ids mean the same to both. */
function listTokenizer({ config: { vocabulary }, tokenizer, bosToken, eosTokens }: ModelFolder): Metadata {
  const fields = new Fields('tokenizer.json', tokenizer.tokenizerJson);
  const bpe = fields.fields('model')!; // checked by readTokenizer, as is every id
  if (bpe.string('type') !== 'BPE') throw bpe.unsupported('type', 'expected "BPE"');
  const byteFallback = bpe.boolean('byte_fallback', false);
  const unknown = bpe.string('unk_token');

  const tokens = Array.from({ length: vocabulary }, (_, id) => `<|no token ${id}|>`);
  const kinds = new Array<number>(vocabulary).fill(TOKEN.unused);
  for (const [token, id] of Object.entries(bpe.get('vocab') as Record<string, number>)) {
    tokens[id] = token;
    kinds[id] = byteFallback && /^<0x[0-9A-F]{2}>$/.test(token) ? TOKEN.byte : TOKEN.normal;
  }
  for (const one of (fields.get('added_tokens') ?? []) as readonly unknown[]) {
    const added = new Fields('tokenizer.json: added_tokens', one);
    const id = added.get('id') as number;
    tokens[id] = added.string('content') ?? '';
    kinds[id] = added.string('content') === unknown ? TOKEN.unknown : TOKEN.control;
  }
  checkTokens(tokens);

  const merges = readMerges(bpe);
  const u32 = (key: string, value: number | null | undefined) =>
    value === null || value === undefined ? [] : [[key, { type: 'u32', value }] as const];
  return [
    ['tokenizer.ggml.model', { type: 'string', value: byteFallback ? 'llama' : 'gpt2' }],
    ['tokenizer.ggml.pre', { type: 'string', value: 'default' }],
    ['tokenizer.ggml.tokens', { type: 'strings', value: tokens }],
    ['tokenizer.ggml.token_type', { type: 'i32s', value: kinds }],
    byteFallback
      ? ['tokenizer.ggml.scores', { type: 'f32s', value: scores(tokens, merges) }]
      : ['tokenizer.ggml.merges', { type: 'strings', value: merges.map((pair) => pair.join(' ')) }],
    ...u32('tokenizer.ggml.bos_token_id', bosToken),
    ...u32('tokenizer.ggml.eos_token_id', eosTokens[0]),
    ['tokenizer.ggml.add_bos_token', { type: 'bool', value: false }],
  ];
}

/** Readers keep a map from text to id, and end the process where two ids have one text. */
function checkTokens(tokens: readonly string[]): void {
  const seen = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    const other = seen.get(token);
    const half = /\p{Surrogate}/u.test(token) ? 'half a character' : undefined;
    const wrong = other === undefined ? half : `that of ${other} too`;
    if (wrong !== undefined) throw format(`token ${id}: expected a text of its own, got ${shown(token)}, ${wrong}`);
    seen.set(token, id);
  }
}

/** Old files write "a b", new ones ["a", "b"]. */
function readMerges(bpe: Fields): readonly (readonly [string, string])[] {
  const merges = bpe.get('merges') ?? [];
  if (!Array.isArray(merges)) throw bpe.error('merges', 'expected an array');
  return merges.map((merge: unknown) => {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    const [left, right, more] = Array.isArray(pair) ? (pair as readonly unknown[]) : [];
    if (typeof left === 'string' && typeof right === 'string' && more === undefined) return [left, right] as const;
    throw format(`tokenizer.json: merges: expected pairs of texts, got ${shown(merge)}`);
  });
}

/** Such a reader joins the pair whose text has the highest score: the one that the merges have first. */
function scores(tokens: readonly string[], merges: readonly (readonly [string, string])[]): number[] {
  const ranks = new Map<string, number>();
  for (const [rank, pair] of merges.entries()) if (!ranks.has(pair.join(''))) ranks.set(pair.join(''), rank);
  return tokens.map((token) => -(ranks.get(token) ?? merges.length));
}

// Tensors

const NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'model.embed_tokens': 'token_embd',
    'model.norm': 'output_norm',
    lm_head: 'output',
    input_layernorm: 'attn_norm',
    'self_attn.q_proj': 'attn_q',
    'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output',
    'self_attn.q_norm': 'attn_q_norm',
    'self_attn.k_norm': 'attn_k_norm',
    post_attention_layernorm: 'ffn_norm',
    'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down',
  }),
);

function listTensors(model: ModelFolder, type: GgufType): GgufTensor[] {
  const { config } = model;
  const llama = architecture(config) === 'llama';
  const tensors = model.tensors.map((source): GgufTensor => {
    const { name, shape } = source;
    const [, layer, own = '', kind = ''] = /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? [];
    const written = NAMES.get(own);
    if (written === undefined) throw new EngineError('INTERNAL', `${name}: expected a tensor of families.ts`);
    return {
      name: `${layer === undefined ? '' : `blk.${layer}.`}${written}.${kind}`,
      type: matrixType(shape, type),
      shape,
      source,
      headDim: llama && /\.[qk]_proj$/.test(own) ? config.headDim : 1,
    };
  });
  const factors = ropeFactors(config);
  if (factors === undefined) return tensors;
  const rope = { name: 'rope_freqs.weight', type: 'f32', shape: [factors.length], source: factors, headDim: 1 } as const;
  return [rope, ...tensors];
}

function matrixType(shape: readonly number[], type: GgufType): GgufType {
  if (shape.length < 2) return 'f32';
  return type === 'q8_0' && shape.at(-1)! % BLOCK !== 0 ? 'f16' : type;
}

/** What each frequency of the rotation is divided by under llama3 scaling. */
function ropeFactors({ headDim, ropeTheta, ropeScaling }: ModelConfig): Float32Array | undefined {
  if (ropeScaling?.kind !== 'llama3') return undefined;
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = ropeScaling;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const turns = originalContext / (2 * Math.PI * ropeTheta ** ((2 * i) / headDim)); // in the original context
    if (turns > high) return 1;
    if (turns < low) return factor;
    const smooth = (turns - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function bytesOf(count: number, type: GgufType): number {
  return type === 'q8_0' ? (count / BLOCK) * BLOCK_BYTES : count * (type === 'f32' ? 4 : 2);
}

function tensorBytes({ shape, type }: GgufTensor): number {
  return bytesOf(countOf(shape), type);
}

/** A tensor's bytes, some rows at a time, whole heads where their rows change places. */
async function* values(model: ModelFolder, { name, type, shape, source, headDim }: GgufTensor) {
  if (source instanceof Float32Array) {
    yield encode(source, type, name);
    return;
  }
  const rows = shape[0] ?? 1;
  const width = countOf(shape.slice(1));
  const step = Math.max(1, Math.floor(CHUNK_VALUES / width / headDim)) * headDim;
  const bytesPerRow = (source.end - source.begin) / rows;
  for (let row = 0; row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const path = model.files[source.file]!;
    const stored = await withFile(path, source.name, (file) => {
      return readBytes(file, source.name, source.begin + row * bytesPerRow, count * bytesPerRow);
    });
    yield encode(interleaved(toFloats(stored, source.type), width, headDim), type, name);
  }
}

function toFloats({ buffer, byteOffset, byteLength }: Buffer, type: string): Float32Array {
  const own = buffer.slice(byteOffset, byteOffset + byteLength); // a copy, so aligned
  return type === 'F32' ? new Float32Array(own) : toFloat(new Uint16Array(own), type === 'BF16' ? 'bf16' : 'f16');
}

/**
 * Each head's rows in the order 0, half, 1, half + 1, …: a model folder rotates value i with value i + half, llama.cpp's
 * llama rotates neighbours.
 */
function interleaved(values: Float32Array, width: number, headDim: number): Float32Array {
  if (headDim === 1) return values;
  const out = new Float32Array(values.length);
  for (let row = 0; row < values.length / width; row++) {
    const within = row % headDim;
    const from = row - within + (within >> 1) + (within % 2) * (headDim / 2);
    out.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return out;
}

// Number formats

function encode(values: Float32Array, type: GgufType, name: string): Uint8Array {
  const most = type === 'f16' ? LARGEST_F16 : type === 'q8_0' ? LARGEST_F16 * 127 : Infinity;
  if (most < Infinity) {
    const beyond = values.findIndex((value) => !(Math.abs(value) <= most));
    if (beyond >= 0) throw unsupported(`${name}: expected values up to ${most} in ${type}, got ${values[beyond]}`);
  }
  switch (type) {
    case 'f32':
      return bytes(values);
    case 'bf16':
      return bytes(toBf16(values));
    case 'f16':
      return bytes(toF16(values));
    case 'q8_0':
      return quantised(values);
  }
}

function bytes({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The nearest f16, ties to even, of numbers within its range. */
function toF16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const size = bits[i]! & 0x7fffffff;
    const sign = (bits[i]! >>> 16) & 0x8000;
    if (size >= 0x38800000) {
      out[i] = sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13); // from 2^-14: another exponent
    } else {
      const steps = Math.abs(values[i]!) * 2 ** 24;
      const below = Math.floor(steps);
      const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
      out[i] = sign | (below + Number(up));
    }
  }
  return out;
}

/** Blocks of 32: a scale in f16, and as many integers from −127 to 127. */
function quantised(values: Float32Array): Uint8Array {
  const scales = new Float32Array(values.length / BLOCK);
  for (let block = 0; block < scales.length; block++) {
    let most = 0;
    for (let i = block * BLOCK; i < (block + 1) * BLOCK; i++) most = Math.max(most, Math.abs(values[i]!));
    scales[block] = most / 127;
  }
  const written = toF16(scales);
  const out = new Int8Array(bytesOf(values.length, 'q8_0'));
  for (let block = 0; block < scales.length; block++) {
    const at = block * BLOCK_BYTES;
    out[at] = written[block]!;
    out[at + 1] = written[block]! >>> 8;
    const inverse = scales[block] === 0 ? 0 : 1 / scales[block]!;
    for (let i = 0; i < BLOCK; i++) out[at + 2 + i] = Math.round(values[block * BLOCK + i]! * inverse);
  }
  return new Uint8Array(out.buffer);
}

// The head of the file

/** The format's numbers for types of metadata. */
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

function header(metadata: Metadata, tensors: readonly GgufTensor[]): Buffer {
  const parts: Buffer[] = [];
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    parts.push(bytes);
  };
  const u64 = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    parts.push(bytes);
  };
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    u64(bytes.length);
    parts.push(bytes);
  };
  const array = (type: number, length: number) => {
    u32(VALUE_TYPES.array);
    u32(type);
    u64(length);
  };

  parts.push(Buffer.from('GGUF'));
  u32(VERSION);
  u64(tensors.length);
  u64(metadata.length);
  for (const [key, { type, value }] of metadata) {
    text(key);
    switch (type) {
      case 'u32':
        u32(VALUE_TYPES.u32);
        u32(value);
        break;
      case 'f32':
        u32(VALUE_TYPES.f32);
        parts.push(Buffer.from(Float32Array.of(value).buffer));
        break;
      case 'bool':
        u32(VALUE_TYPES.bool);
        parts.push(Buffer.of(Number(value)));
        break;
      case 'string':
        u32(VALUE_TYPES.string);
        text(value);
        break;
      case 'strings':
        array(VALUE_TYPES.string, value.length);
        value.forEach(text);
        break;
      case 'i32s':
        array(VALUE_TYPES.i32, value.length);
        parts.push(Buffer.from(Int32Array.from(value).buffer));
        break;
      case 'f32s':
        array(VALUE_TYPES.f32, value.length);
        parts.push(Buffer.from(Float32Array.from(value).buffer));
        break;
    }
  }

  let offset = 0;
  for (const tensor of tensors) {
    text(tensor.name);
    u32(tensor.shape.length);
    for (const size of tensor.shape.toReversed()) u64(size);
    u32(TENSOR_TYPES[tensor.type]);
    u64(offset);
    offset += Math.ceil(tensorBytes(tensor) / ALIGNMENT) * ALIGNMENT;
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  parts.push(Buffer.alloc(Math.ceil(length / ALIGNMENT) * ALIGNMENT - length));
  return Buffer.concat(parts);
}

function unsupported(message: string): EngineError {
  return new EngineError('MODEL_UNSUPPORTED', `GGUF: ${message}`);
}

function format(message: string): EngineError {
  return new EngineError('MODEL_FORMAT', message);
}
