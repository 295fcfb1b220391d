import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TokenizerSource } from '../../src/text/tokenizer.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Byte-level BPE. */
export const TALES = join(ROOT, 'models/tales');
/** SentencePiece BPE with byte fallback; null where the folder of shared material is missing. */
export const STORIES = present(join(ROOT, '../shared/models/stories260K/hf'));
/** Strings that tokenizers get wrong, one file for many vocabularies. */
export const VOCAB_STRINGS = present(join(ROOT, '../shared/vocab/ggml-vocab-llama-bpe.gguf.inp'));
export const TEMPLATES = present(join(ROOT, '../shared/chat-templates/models/templates'));

export function readTokenizer(folder: string): TokenizerSource {
  return {
    tokenizerJson: readJson(join(folder, 'tokenizer.json')),
    tokenizerConfig: readJson(join(folder, 'tokenizer_config.json')) as Record<string, unknown>,
  };
}

export function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** The strings of a llama.cpp vocabulary test. */
export function readVocabStrings(path: string): string[] {
  return readFileSync(path, 'utf8').split('\n__ggml_vocab_test__\n');
}

function present(path: string): string | null {
  if (existsSync(path)) return path;
  console.log(`SKIP what reads ${path}: it is not there`);
  return null;
}
