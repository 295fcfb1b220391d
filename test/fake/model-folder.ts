// A model folder small enough to be written thousands of times, as parts that a test can spoil one by one.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../src/model/config.ts';
import { tensorShapes } from '../../src/model/families.ts';

export interface HeaderEntry {
  dtype: unknown;
  shape: unknown;
  data_offsets: unknown;
}

/** Parts of a folder with one safetensors file. Tests change them in place, then write them. */
export interface ModelParts {
  config: Record<string, unknown>;
  header: Record<string, HeaderEntry>;
  data: Buffer;
  tokenizer: Record<string, unknown>;
  tokenizerConfig: Record<string, unknown>;
  generation: Record<string, unknown>;
}

export const VOCABULARY = 300;

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  hidden_act: 'silu',
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  vocab_size: VOCABULARY,
  bos_token_id: 0,
  eos_token_id: [0, 1],
};

/** A valid toy model; `config` overrides fields of its config.json, and the tensors follow. */
export function makeParts(config: Record<string, unknown> = {}): ModelParts {
  const whole: Record<string, unknown> = { ...structuredClone(CONFIG), ...config };
  const header: Record<string, HeaderEntry> = {};
  const values: Float32Array[] = [];
  let offset = 0;
  for (const [name, shape] of tensorShapes(readConfig(whole))) {
    const count = shape.reduce((product, size) => product * size, 1);
    values.push(Float32Array.from({ length: count }, (_, i) => (shape.length === 1 ? 1 : Math.sin(offset + i) / 4)));
    header[name] = { dtype: 'F32', shape: [...shape], data_offsets: [offset, offset + 4 * count] };
    offset += 4 * count;
  }
  return {
    config: whole,
    header,
    data: Buffer.concat(values.map((one) => Buffer.from(one.buffer))),
    tokenizer: {
      version: '1.0',
      added_tokens: [{ id: 0, content: '<|end|>', special: true }],
      model: {
        type: 'BPE',
        vocab: Object.fromEntries(Array.from({ length: 40 }, (_, id) => [`t${id}`, id])),
        merges: [],
      },
    },
    tokenizerConfig: { bos_token: '<|end|>', eos_token: '<|end|>', chat_template: '{{ messages[0].content }}' },
    generation: { do_sample: true, temperature: 0.7, top_k: 20 },
  };
}

/** A safetensors file: length, header, data. `length` and `text` lie where a test wants them to. */
export function safetensors(text: string, data: Uint8Array, length = BigInt(Buffer.byteLength(text))): Buffer {
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(length);
  return Buffer.concat([head, Buffer.from(text), data]);
}

/** The files of a folder with one safetensors file, by name. */
export function singleFile(parts: ModelParts): Map<string, Buffer> {
  return new Map([['model.safetensors', safetensors(JSON.stringify(parts.header), parts.data)], ...sideFiles(parts)]);
}

/** The same model in two shards with an index. */
export function sharded(parts: ModelParts): Map<string, Buffer> {
  const names = Object.keys(parts.header);
  const halves = [names.slice(0, 5), names.slice(5)];
  const files = new Map<string, Buffer>();
  const places: Record<string, string> = {};
  for (const [number, half] of halves.entries()) {
    const file = `model-0000${number + 1}-of-00002.safetensors`;
    const header: Record<string, HeaderEntry> = {};
    const data: Buffer[] = [];
    let offset = 0;
    for (const name of half) {
      const entry = parts.header[name];
      const [begin, end] = entry?.data_offsets as [number, number];
      data.push(parts.data.subarray(begin, end));
      header[name] = { ...(entry as HeaderEntry), data_offsets: [offset, offset + end - begin] };
      offset += end - begin;
      places[name] = file;
    }
    files.set(file, safetensors(JSON.stringify(header), Buffer.concat(data)));
  }
  const index = { metadata: { total_size: parts.data.length }, weight_map: places };
  files.set('model.safetensors.index.json', Buffer.from(JSON.stringify(index)));
  return new Map([...files, ...sideFiles(parts)]);
}

function sideFiles(parts: ModelParts): [string, Buffer][] {
  return [
    ['config.json', Buffer.from(JSON.stringify(parts.config))],
    ['tokenizer.json', Buffer.from(JSON.stringify(parts.tokenizer))],
    ['tokenizer_config.json', Buffer.from(JSON.stringify(parts.tokenizerConfig))],
    ['generation_config.json', Buffer.from(JSON.stringify(parts.generation))],
  ];
}

let root: string | undefined;
let folders = 0;

/** Writes the files into a folder of their own, which is removed when the process ends. */
export function writeFolder(files: ReadonlyMap<string, Uint8Array>): string {
  if (root === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'baton-model-'));
    process.on('exit', () => rmSync(made, { recursive: true, force: true }));
    root = made;
  }
  const folder = join(root, String(folders++));
  mkdirSync(folder);
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  return folder;
}
