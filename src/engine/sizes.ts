import { EngineError } from '../errors.ts';
import { TILE } from '../loop/arena.ts';
import type { ModelConfig } from '../native.ts';
import type { LoadOptions } from '../options.ts';

const DEFAULT_CONTEXT = 8192;
const MOST_SLOTS = 2 ** 31 - TILE; // slots are numbered in 32 bits
const SHARE_OF_MEMORY = 1 / 4; // of a machine that does other things too
const SHARE_OF_GPU = 0.9; // of what weights and workspace leave
const GPU_WORKSPACE_BYTES = 2 ** 30;
const MOST_PINNED_BYTES = 2 ** 32; // the system takes about a second to pin as much, and has it no more
// Prompt tokens that a step takes beside one for each row: large enough for matrix products to run at full speed.
const STEP_PROMPT_TOKENS = { cpu: 256, gpu: 2048 };
// Room for all rows at full context, so many times. A dense layout is copied, and its prefilled pool lies beside it.
const ROOMS: Partial<Record<NonNullable<LoadOptions['policy']>, number>> = { baton: 2.5, 'baton-pd': 2.5 };
// Policies that compute a whole prompt in one step, and pay for it with the memory of as many activations.
const WHOLE_PROMPTS: readonly LoadOptions['policy'][] = ['orca', 'baton', 'baton-pd'];

/** What a model is loaded as, when everything is said that the caller left open. */
export interface Sizes {
  readonly context: number; // most tokens of one request
  readonly weights: string;
  readonly kv: string;
  readonly slots: number; // of the arena
  readonly hostSlots: number; // where requests are parked
  readonly stepTokens: number; // most of one step
}

export interface SizedModel {
  readonly config: ModelConfig;
  readonly storedType: 'f32' | 'bf16' | 'f16';
}

/** Memory that the model may take a part of; `gpu`: it has no other use. */
export interface FreeMemory {
  readonly freeBytes: number;
  readonly hostFreeBytes: number;
  readonly gpu: boolean;
}

type Asked = Pick<LoadOptions, 'maxContext' | 'weights' | 'kv' | 'kvBytes' | 'parkBytes' | 'policy'>;

/**
 * The arena gets what was asked for. Else on a GPU nine tenths of what the weights leave; on the CPU room for all rows
 * at full context (more, where they lie in a dense layout), at most a quarter of the free memory. So does the host
 * memory to park in; else it is as large as the arena, at most a quarter of what is free there (on a GPU, where it is
 * pinned, 4 GiB), and none for policies that do not park. On the CPU both are touched only when used. A step takes a
 * token of each row, and a good many of prompts: one of full context, if the policy computes prompts whole.
 * Throws INVALID_OPTION or OUT_OF_MEMORY if a request of full context does not fit.
 */
export function chooseSizes(model: SizedModel, asked: Asked, rows: number, memory: FreeMemory): Sizes {
  const { config, storedType } = model;
  const context = asked.maxContext ?? Math.min(config.context, DEFAULT_CONTEXT);
  if (context > config.context) {
    const expected = `expected at most the model's context of ${config.context}`;
    throw new EngineError('INVALID_OPTION', `maxContext: ${expected}, got ${context}`);
  }
  const weights = given(asked.weights) ?? (storedType === 'f32' ? 'f32' : 'bf16');
  const kv = given(asked.kv) ?? (weights === 'f32' ? 'f32' : 'bf16');

  const slotBytes = bytesOfSlot(config, kv);
  const rooms = ROOMS[asked.policy ?? 'relay'];
  const usual = STEP_PROMPT_TOKENS[memory.gpu ? 'gpu' : 'cpu'];
  const promptTokens = WHOLE_PROMPTS.includes(asked.policy) ? Math.max(usual, context) : usual;
  const workspace = GPU_WORKSPACE_BYTES + (promptTokens - usual) * activationBytes(config);
  const least = Math.ceil(context / TILE) * TILE;
  const room = memory.gpu
    ? (memory.freeBytes - weightBytes(config, weights) - workspace) * SHARE_OF_GPU
    : Math.min((rooms ?? 1) * rows * least * slotBytes, memory.freeBytes * SHARE_OF_MEMORY);
  const bytes = asked.kvBytes ?? room;
  const slots = Math.min(MOST_SLOTS, Math.floor(bytes / slotBytes / TILE) * TILE);
  const most = Math.min(memory.hostFreeBytes * SHARE_OF_MEMORY, memory.gpu ? MOST_PINNED_BYTES : Infinity);
  const parkBytes = asked.parkBytes ?? (rooms === undefined ? Math.min(slots * slotBytes, most) : 0);
  const hostSlots = Math.min(MOST_SLOTS - slots, Math.floor(parkBytes / slotBytes / TILE) * TILE);
  if (slots >= least) return { context, weights, kv, slots, hostSlots, stepTokens: rows + promptTokens };

  const expected = `expected at least ${least * slotBytes} bytes for one request of ${context} tokens`;
  if (asked.kvBytes !== undefined) {
    throw new EngineError('INVALID_OPTION', `kvBytes: ${expected}, got ${asked.kvBytes}`);
  }
  const advice = 'lower maxContext, or set kvBytes';
  const free = `${Math.floor(Math.max(0, room))} bytes, with ${memory.freeBytes} free`;
  throw new EngineError('OUT_OF_MEMORY', `keys and values: ${expected}, got ${free}; ${advice}`);
}

/** Keys and values of one token, in all layers. */
export function bytesOfSlot({ layers, kvHeads, headDim }: ModelConfig, kv: string): number {
  return layers * 2 * kvHeads * headDim * (kv === 'f32' ? 4 : 2);
}

/** Of the matrices, which is nearly all. */
function weightBytes(config: ModelConfig, weights: string): number {
  const { hidden, intermediate, layers, heads, kvHeads, headDim, vocabulary, tiedEmbedding } = config;
  const layer = hidden * headDim * (2 * heads + 2 * kvHeads) + 3 * hidden * intermediate;
  const values = layers * layer + vocabulary * hidden * (tiedEmbedding ? 1 : 2);
  return values * (weights === 'f32' ? 4 : weights === 'bf16' ? 2 : 1);
}

/** Of one token on its way through a layer, at most. */
function activationBytes({ hidden, intermediate, heads, kvHeads, headDim }: ModelConfig): number {
  return 4 * (2 * hidden + headDim * (2 * heads + 2 * kvHeads) + intermediate);
}

function given(format: string | undefined): string | undefined {
  return format === 'auto' ? undefined : format;
}
