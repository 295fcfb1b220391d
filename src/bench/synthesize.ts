// Writes a model folder of random weights in a public shape, for speed work and tests: what a model costs does not
// depend on what it knows.

import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readConfig } from '../model/config.ts';
import { tensorShapes } from '../model/families.ts';
import { type ShapeName, SHAPES } from './shapes.ts';

export type SyntheticType = 'bf16' | 'f32';

export interface SynthesizeOptions {
  readonly seed?: number;
  readonly type?: SyntheticType;
}

const TABLE_SIZE = 1 << 16;
// Values until a tensor repeats itself: prime, so that no row equals another.
const PERIOD = (1 << 22) - 3;
const BIAS_SCALE = 0.02;
const NORM_SPREAD = 0.1;

/**
 * Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json. The same shape, seed and type give
 * the same bytes. Matrices have variance 1 / inputs, and those that write to the residual stream 1 / (2 layers) of
 * that, so activations stay near 1 however deep the model; norms are near 1 and biases small.
 */
export async function synthesize(folder: string, shape: ShapeName, options: SynthesizeOptions = {}): Promise<void> {
  const { seed = 1, type = 'bf16' } = options;
  const torchType = type === 'bf16' ? 'bfloat16' : 'float32';
  const config = { ...SHAPES[shape], hidden_act: 'silu', torch_dtype: torchType, _synthetic: true };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify(config, null, 2));
  await writeTokenizer(folder, config.vocab_size, config.bos_token_id, config.eos_token_id);
  await writeWeights(
    join(folder, 'model.safetensors'),
    tensorShapes(readConfig(config)),
    config.num_hidden_layers,
    seed,
    type,
  );
}

async function writeWeights(
  path: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  layers: number,
  seed: number,
  type: SyntheticType,
): Promise<void> {
  const normals = makeNormals(seed);
  const file = await open(path, 'w');
  try {
    await file.writeFile(makeHeader(shapes, type));
    let tensor = 0;
    for (const [name, shape] of shapes) {
      const { mean, deviation } = spread(name, shape, layers);
      const table = encode(
        normals.map((value) => mean + deviation * value),
        type,
      );
      const count = shape.reduce((product, size) => product * size, 1);
      const period = draw(table, mix(mix(seed) + ++tensor), Math.min(PERIOD, count));
      const bytes = count * table.BYTES_PER_ELEMENT;
      for (let written = 0; written < bytes; written += period.length) {
        await file.writeFile(period.subarray(0, bytes - written));
      }
    }
  } finally {
    await file.close();
  }
}

function makeHeader(shapes: ReadonlyMap<string, readonly number[]>, type: SyntheticType): Buffer {
  const entries: Record<string, unknown> = { __metadata__: { format: 'pt', synthetic: 'true' } };
  let offset = 0;
  for (const [name, shape] of shapes) {
    const end = offset + shape.reduce((product, size) => product * size, type === 'bf16' ? 2 : 4);
    entries[name] = { dtype: type.toUpperCase(), shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = JSON.stringify(entries);
  const padded = text.padEnd(Math.ceil(text.length / 8) * 8); // so that the first tensor is aligned
  const header = Buffer.alloc(8 + padded.length);
  header.writeBigUInt64LE(BigInt(padded.length));
  header.write(padded, 8);
  return header;
}

function spread(name: string, shape: readonly number[], layers: number): { mean: number; deviation: number } {
  if (name.endsWith('.bias')) return { mean: 0, deviation: BIAS_SCALE };
  if (shape.length === 1) return { mean: 1, deviation: NORM_SPREAD };
  const toResidual = name.includes('o_proj') || name.includes('down_proj');
  return { mean: 0, deviation: 1 / Math.sqrt((shape[1] ?? 1) * (toResidual ? 2 * layers : 1)) };
}

/** Integers to integers, every bit of the answer depending on every bit of the question. Constants: lowbias32. */
function mix(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d);
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b);
  return bits ^ (bits >>> 16);
}

/** A table of draws from the normal distribution. Weights are then drawn from the table: one hash makes two of them. */
function makeNormals(seed: number): Float64Array {
  const uniform = (counter: number) => ((mix(mix(seed) + counter) >>> 0) + 0.5) / 2 ** 32;
  return Float64Array.from({ length: TABLE_SIZE }, (_, i) => {
    return Math.sqrt(-2 * Math.log(uniform(2 * i))) * Math.cos(2 * Math.PI * uniform(2 * i + 1));
  });
}

function encode(values: Float64Array, type: SyntheticType): Uint16Array | Float32Array {
  const floats = Float32Array.from(values);
  if (type === 'f32') return floats;
  // To the nearest, ties to even; the table holds no NaN.
  return Uint16Array.from(new Uint32Array(floats.buffer), (bits) => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16);
}

function draw(table: Uint16Array | Float32Array, key: number, count: number): Uint8Array {
  const values = table instanceof Float32Array ? new Float32Array(count) : new Uint16Array(count);
  for (let i = 0; i < count; i += 2) {
    const bits = mix(key + i / 2);
    values[i] = table[bits & 0xffff] ?? 0;
    values[i + 1] = table[bits >>> 16] ?? 0; // past the end where count is odd: ignored
  }
  return new Uint8Array(values.buffer);
}

/** Byte-level, without merges; ids that no byte takes are filled with tokens that no text yields. */
async function writeTokenizer(folder: string, vocabulary: number, bos: number, eos: number): Promise<void> {
  const content = (id: number) => (id === eos ? '<|endoftext|>' : '<|begin|>');
  const special = [...new Set([bos, eos])].sort((a, b) => a - b);
  const free = Array.from({ length: vocabulary }, (_, id) => id).filter((id) => !special.includes(id));
  const symbols = byteSymbols();
  const vocab = free.map((id, i) => [symbols[i] ?? `<|unused ${id}|>`, id] as const);
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((id) => {
      return {
        id,
        content: content(id),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      };
    }),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      vocab: Object.fromEntries([...vocab, ...special.map((id) => [content(id), id])]),
      merges: [],
    },
  };
  const config = { tokenizer_class: 'PreTrainedTokenizerFast', bos_token: content(bos), eos_token: content(eos) };
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
}

/** The character GPT-2's byte-level scheme writes for each byte: itself if visible, else one from U+0100 on. */
function byteSymbols(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const visible = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCodePoint(visible ? byte : next++);
  });
}
