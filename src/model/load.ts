import { EngineError } from '../errors.ts';
import type { ModelConfig, TensorEntry } from '../native.ts';
import { readConfig } from './config.ts';
import { selectTensors, STORED_TYPES } from './families.ts';
import { Fields } from './fields.ts';
import { findFolder, readJson } from './files.ts';
import { readTensorFiles } from './safetensors.ts';
import type { TokenizerFiles } from './tokenizer.ts';
import { readTokenizer } from './tokenizer.ts';

const MOST_CONFIG_BYTES = 10_000_000;

/** What the model's makers advise for sampling: generation_config.json, if it says to sample at all. */
export interface GenerationDefaults {
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  repetitionPenalty?: number;
}

/** A model folder, read and checked: everything but the weights themselves, which the engine maps. */
export interface ModelFolder {
  readonly folder: string; // real path
  readonly config: ModelConfig;
  readonly files: readonly string[];
  readonly tensors: readonly TensorEntry[]; // those the forward pass reads, no others
  readonly storedType: 'f32' | 'bf16' | 'f16'; // of the embedding
  readonly tokenizer: TokenizerFiles;
  readonly eosTokens: readonly number[];
  readonly bosToken: number | null;
  readonly generation: Readonly<GenerationDefaults>;
}

/**
 * Opens a folder in the layout of Hugging Face: config.json, safetensors, tokenizer.json. Reads headers, not weights.
 * Throws MODEL_NOT_FOUND, MODEL_FORMAT or MODEL_UNSUPPORTED.
 *
 * @example
 * const { config, tensors } = await openModel('models/tales');
 */
export async function openModel(folder: string): Promise<ModelFolder> {
  const real = await findFolder(folder);
  const configJson = await readJson(real, 'config.json', MOST_CONFIG_BYTES);
  if (configJson === undefined)
    throw new EngineError('MODEL_NOT_FOUND', `model: expected config.json in ${real}, got none`);
  const config = readConfig(configJson);
  const { files, tensors: all } = await readTensorFiles(real);
  const tensors = selectTensors(all, config);

  const tokenizer = await readTokenizer(real, config.vocabulary);
  const configFields = new Fields('config.json', configJson);
  const generationFields = new Fields(
    'generation_config.json',
    (await readJson(real, 'generation_config.json', MOST_CONFIG_BYTES)) ?? {},
  );
  return {
    folder: real,
    config,
    files,
    tensors,
    storedType: readStoredType(all),
    tokenizer,
    eosTokens: readTokens(generationFields, configFields, 'eos_token_id', config.vocabulary),
    bosToken: readTokens(generationFields, configFields, 'bos_token_id', config.vocabulary)[0] ?? null,
    generation: readGeneration(generationFields),
  };
}

function readStoredType(tensors: ReadonlyMap<string, TensorEntry>): ModelFolder['storedType'] {
  const type = STORED_TYPES.get(tensors.get('model.embed_tokens.weight')?.type ?? '');
  if (type === undefined) throw new EngineError('INTERNAL', 'expected selectTensors to have checked the embedding');
  return type;
}

/** One id or several, from generation_config.json where it has them, else from config.json. */
function readTokens(generation: Fields, config: Fields, key: string, vocabulary: number): number[] {
  const fields = generation.has(key) ? generation : config;
  const value = fields.get(key) ?? [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  return ids.map((id) => {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < vocabulary) return id;
    throw fields.error(key, `expected token ids below the vocabulary of ${vocabulary}`);
  });
}

function readGeneration(fields: Fields): GenerationDefaults {
  const generation: GenerationDefaults = {};
  if (!fields.boolean('do_sample', false)) return generation;
  if (fields.has('temperature')) generation.temperature = fields.number('temperature', 0, 100);
  if (fields.has('top_p')) generation.topP = fields.number('top_p', Number.MIN_VALUE, 1);
  if (fields.has('top_k')) generation.topK = Math.max(0, fields.integer('top_k', -1, 2 ** 31 - 1));
  if (fields.has('min_p')) generation.minP = fields.number('min_p', 0, 1);
  if (fields.has('repetition_penalty')) generation.repetitionPenalty = fields.number('repetition_penalty', 0.01, 100);
  return generation;
}
