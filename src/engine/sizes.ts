import { EngineError } from '../errors.ts';
import { TILE } from '../loop/arena.ts';
import type { ModelConfig } from '../native.ts';
import type { LoadOptions } from '../options.ts';

const DEFAULT_CONTEXT = 8192;
const MOST_SLOTS = 2 ** 31 - TILE; // slots are numbered in 32 bits
const SHARE_OF_MEMORY = 1 / 4;

/** What a model is loaded as, when everything is said that the caller left open. */
export interface Sizes {
  readonly context: number; // most tokens of one request
  readonly weights: string;
  readonly kv: string;
  readonly slots: number; // of the arena
}

export interface SizedModel {
  readonly config: Pick<ModelConfig, 'context' | 'layers' | 'kvHeads' | 'headDim'>;
  readonly storedType: 'f32' | 'bf16' | 'f16';
}

type Asked = Pick<LoadOptions, 'maxContext' | 'weights' | 'kv' | 'kvBytes'>;

/**
 * The arena gets what was asked for, else room for all rows at full context, at most a quarter of the free memory.
 * Throws INVALID_OPTION or OUT_OF_MEMORY if a request of full context does not fit.
 */
export function chooseSizes(model: SizedModel, asked: Asked, rows: number, freeBytes: number): Sizes {
  const { config, storedType } = model;
  const context = asked.maxContext ?? Math.min(config.context, DEFAULT_CONTEXT);
  if (context > config.context) {
    const expected = `expected at most the model's context of ${config.context}`;
    throw new EngineError('INVALID_OPTION', `maxContext: ${expected}, got ${context}`);
  }
  const weights = given(asked.weights) ?? (storedType === 'f32' ? 'f32' : 'bf16');
  const kv = given(asked.kv) ?? (weights === 'f32' ? 'f32' : 'bf16');

  const slotBytes = config.layers * 2 * config.kvHeads * config.headDim * (kv === 'f32' ? 4 : 2);
  const least = Math.ceil(context / TILE) * TILE;
  const bytes = asked.kvBytes ?? Math.min(rows * least * slotBytes, freeBytes * SHARE_OF_MEMORY);
  const slots = Math.min(MOST_SLOTS, Math.floor(bytes / slotBytes / TILE) * TILE);
  if (slots >= least) return { context, weights, kv, slots };

  const expected = `expected at least ${least * slotBytes} bytes for one request of ${context} tokens`;
  if (asked.kvBytes !== undefined) {
    throw new EngineError('INVALID_OPTION', `kvBytes: ${expected}, got ${asked.kvBytes}`);
  }
  const advice = 'lower maxContext, or set kvBytes';
  throw new EngineError('OUT_OF_MEMORY', `keys and values: ${expected}, got a quarter of ${freeBytes} free; ${advice}`);
}

function given(format: string | undefined): string | undefined {
  return format === 'auto' ? undefined : format;
}
