// A load of models/tales built by hand from its safetensors header, and plans to step it with.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadAddon } from '../../../src/addon.ts';
import { GREEDY, MOVE_FIELDS, ROW_MOVE_FIELDS, RUN_FIELDS, TOP_LOGPROBS } from '../../../src/native.ts';
import type {
  ModelConfig,
  NativeEngine,
  NativeLoad,
  RowStart,
  Sampling,
  StepPlan,
  StepResult,
  TensorEntry,
} from '../../../src/native.ts';

export const TALES = fileURLToPath(new URL('../../../models/tales/', import.meta.url));
export const FILE = `${TALES}model.safetensors`;

export const CONFIG: ModelConfig = {
  layers: 8,
  hidden: 256,
  intermediate: 640,
  heads: 4,
  kvHeads: 2,
  headDim: 64,
  vocabulary: 2048,
  context: 512,
  rmsEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tiedEmbedding: true,
  qkvBias: false,
  qkNorm: false,
};

/** The entries of one safetensors file. */
export function readEntries(bytes: Buffer): TensorEntry[] {
  const headerBytes = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const start = 8 + headerBytes;
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => {
        return { name, file: 0, type: dtype, shape, begin: start + begin, end: start + end };
      },
    );
}

const TENSORS = readEntries(readFileSync(FILE));

export function talesLoad(changes: Partial<NativeLoad> = {}): NativeLoad {
  return {
    config: CONFIG,
    files: [FILE],
    tensors: TENSORS,
    device: 'cpu',
    isa: 'auto',
    threads: 1,
    graphs: true,
    checkLaunches: false,
    cublasLt: '',
    weights: 'bf16',
    kv: 'f32',
    slots: 1024,
    hostSlots: 0,
    rows: 4,
    stepTokens: 256,
    context: 256,
    ...changes,
  };
}

export function loadTales(changes: Partial<NativeLoad> = {}): Promise<NativeEngine> {
  return loadAddon().load(talesLoad(changes));
}

export interface PlanParts {
  readonly moves?: readonly (readonly number[])[];
  readonly rowMoves?: readonly (readonly number[])[];
  readonly starts?: readonly RowStart[];
  readonly runs?: readonly (readonly number[])[];
  readonly tokens?: readonly number[];
}

export function makePlan({ moves = [], rowMoves = [], starts = [], runs = [], tokens = [] }: PlanParts = {}): StepPlan {
  const filled = (values: readonly number[], fields: number) => {
    const array = new Int32Array(Math.max(values.length, 8 * fields));
    array.set(values);
    return array;
  };
  return {
    moves: filled(moves.flat(), MOVE_FIELDS),
    moveCount: moves.length,
    rowMoves: filled(rowMoves.flat(), ROW_MOVE_FIELDS),
    rowMoveCount: rowMoves.length,
    starts: [...starts],
    runs: filled(runs.flat(), RUN_FIELDS),
    runCount: runs.length,
    tokens: filled(tokens, 1),
    tokenCount: tokens.length,
  };
}

export function makeResult(rows = 4): StepResult {
  return {
    sampled: new Int32Array(rows),
    logprobs: new Float32Array(rows),
    topTokens: new Int32Array(rows * TOP_LOGPROBS),
    topLogprobs: new Float32Array(rows * TOP_LOGPROBS),
  };
}

export function start(row: number, tokens: readonly number[], changes: Partial<Sampling> = {}): RowStart {
  return { row, sampling: { ...GREEDY, ...changes }, tokens, promptLength: tokens.length };
}

/** The code of the error that `call` rejects with or throws, and its message. */
export async function failure(call: () => unknown): Promise<{ readonly code: string; readonly message: string }> {
  try {
    await call();
  } catch (error) {
    const { code = 'no code', message } = error as { code?: string; message: string };
    return { code, message };
  }
  return { code: 'no error', message: '' };
}
