// The whole native surface, as types. `test/fake/engine.ts` implements the same interfaces.

/** Numbers in one run of {@link StepPlan.runs}: row, span offset, masked slots, position, tokens. */
export const RUN_FIELDS = 5;
/** Numbers in one move of {@link StepPlan.moves}: from slot, to slot, slots. */
export const MOVE_FIELDS = 3;
/** Numbers in one row move of {@link StepPlan.rowMoves}: from row, to row. */
export const ROW_MOVE_FIELDS = 2;
/** Alternatives that {@link StepResult} has room for, per row. */
export const TOP_LOGPROBS = 20;

/**
 * A token of a plan that stands for the one last drawn for its run's row, so that a step can be queued before the step
 * before it has ended. Only where the run has this one token, and its row has drawn one since its start.
 */
export const DRAWN = -1;

/** How the tokens of one request are drawn. Numbers are checked in `options.ts`, and again by the engine. */
export interface Sampling {
  /** 0: greedy. */
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly minP: number;
  /** 1: off. Over prompt and output. */
  readonly repetitionPenalty: number;
  /** 0: off. Over output. */
  readonly presencePenalty: number;
  /** 0: off. Over output. */
  readonly frequencyPenalty: number;
  /** Integer from 0 to 2^53 − 1. The generator is keyed by (seed, position), so tokens never depend on company. */
  readonly seed: number;
  /** Alternatives reported per token, 0 to 20; the chosen token's log-probability is always reported. */
  readonly logprobs: number;
  /** While fewer tokens than this have been generated, `stopTokens` are banned. */
  readonly minTokens: number;
  readonly stopTokens: Int32Array;
  /** Tokens and what is added to their logits; −Infinity bans. */
  readonly biasTokens: Int32Array;
  readonly biasValues: Float32Array;
}

/** Always the likeliest token, nothing else. */
export const GREEDY: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
  logprobs: 0,
  minTokens: 0,
  stopTokens: new Int32Array(0),
  biasTokens: new Int32Array(0),
  biasValues: new Float32Array(0),
};

/** A row that changes hands in this step: what its sampler must know of the request that takes it. */
export interface RowStart {
  readonly row: number;
  readonly sampling: Sampling;
  /** Prompt and output so far; penalties look at them. */
  readonly tokens: ArrayLike<number>;
  readonly promptLength: number;
}

/**
 * What one step asks of the device. Filled in place by a policy, never reallocated.
 *
 * Slots are numbered through: those of the arena, then those in host memory, where requests are parked. Runs lie in the
 * arena; a move may park (to host memory) or unpark (from there), but never copy within host memory.
 *
 * Applied in this order: `moves`, `rowMoves`, `starts`, `runs`. The key of position p of a run's request lies in slot
 * `span offset + masked slots + p`; masked slots are never read. A run computes its tokens at positions
 * position .. position + tokens − 1, appending their keys and values; its last token is sampled for `row`, unless row
 * is −1. Each row has at most one run.
 */
export interface StepPlan {
  readonly moves: Int32Array; // [moveCount, 3] from slot, to slot, slots; no move reads or writes what another wrote; one may overlap itself
  moveCount: number;
  readonly rowMoves: Int32Array; // [rowMoveCount, 2] from row, to row; sampler state follows the row; in order
  rowMoveCount: number;
  readonly starts: RowStart[];
  readonly runs: Int32Array; // [runCount, 5] row, span offset, masked slots, position, tokens
  runCount: number;
  readonly tokens: Int32Array; // [tokenCount] the tokens of all runs, one after another; DRAWN: see there
  tokenCount: number;
}

/** Filled by a step, indexed by row; a row without a run in that step keeps what it had. */
export interface StepResult {
  readonly sampled: Int32Array; // [rows]; −1 where the logits hold no finite maximum
  readonly logprobs: Float32Array; // [rows] of the sampled token, before penalties and temperature
  readonly topTokens: Int32Array; // [rows, 20] most likely first
  readonly topLogprobs: Float32Array; // [rows, 20]
}

/** Room for what a step of so many rows answers. */
export function emptyResult(rows: number): StepResult {
  return {
    sampled: new Int32Array(rows),
    logprobs: new Float32Array(rows),
    topTokens: new Int32Array(rows * TOP_LOGPROBS),
    topLogprobs: new Float32Array(rows * TOP_LOGPROBS),
  };
}

/** What a loaded model is, as far as the loop and the text need to know. */
export interface NativeModel {
  readonly device: string; // 'cpu', 'cuda:0', …
  readonly isa: string; // 'amx' | 'avx512' | 'avx2' | 'neon' | 'scalar' on the CPU, the capability on a GPU: 'sm_90'
  readonly threads: number;
  readonly weights: string; // 'f32' | 'bf16' | 'int8'
  readonly kv: string; // 'f32' | 'bf16'
  readonly weightBytes: number;
  readonly slotBytes: number; // keys and values of one token, all layers
}

/** A model on a device with its arena. One step at a time; the next may be queued before the last has ended. */
export interface NativeEngine extends NativeModel {
  /** Slots in the arena, a multiple of 64. */
  readonly slots: number;
  /** Slots in host memory, numbered on from the arena's: where requests are parked. 0 or a multiple of 64. */
  readonly hostSlots: number;
  step(plan: StepPlan, result: StepResult): Promise<void>;
  /** Waits for the running step, then releases everything. Idempotent. */
  close(): Promise<void>;
}

/** One tensor of a model's files; the engine checks it against the file before use. */
export interface TensorEntry {
  readonly name: string;
  readonly file: number; // index into ModelSpec.files
  readonly type: string; // safetensors' name: 'F32' | 'BF16' | 'F16' …
  readonly shape: readonly number[];
  readonly begin: number; // bytes from the start of the file
  readonly end: number;
}

/** A decoder-only model of the Llama family, in numbers. */
export interface ModelConfig {
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly context: number;
  readonly rmsEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  readonly tiedEmbedding: boolean;
  readonly qkvBias: boolean;
  readonly qkNorm: boolean;
}

export type RopeScaling =
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    };

export interface NativeLoad {
  readonly config: ModelConfig;
  readonly files: readonly string[];
  readonly tensors: readonly TensorEntry[];
  readonly device: string; // 'cpu' | 'cuda' | 'cuda:N'; in a build against the emulator 'cuda-emu' for 'cuda'
  readonly isa: string; // of the CPU: 'auto' | 'amx' | 'avx512' | 'avx2' | 'neon' | 'scalar'
  readonly threads: number; // of the CPU; 0: as many as there are free cores
  readonly graphs: boolean; // of a GPU: replay recorded decode steps
  readonly checkLaunches: boolean; // of a GPU: wait after every launch, so that an error names its operation
  readonly cublasLt: string; // of a GPU, for large products: '' none, 'auto' what the loader finds, else its path
  readonly weights: string; // 'f32' | 'bf16' | 'int8'
  readonly kv: string; // 'f32' | 'bf16'
  readonly slots: number; // of the arena, a multiple of 64
  readonly hostSlots: number; // in host memory, 0 or a multiple of 64
  readonly rows: number; // most rows a plan may name
  readonly stepTokens: number; // most tokens in one step
  readonly context: number; // most tokens of one request
  readonly onProgress?: ((share: number) => void) | undefined; // 0 to 1, called on the JS thread
}

export interface CpuDevice {
  readonly isas: readonly string[]; // usable here, best first
  readonly cores: number;
  readonly model: string;
}

export interface CudaDevice {
  readonly name: string; // 'cuda:0', …
  readonly model: string;
  readonly capability: string; // '9.0'
  readonly multiprocessors: number;
  readonly bytes: number;
}

export interface CudaDevices {
  readonly devices: readonly CudaDevice[];
  readonly reason: string; // why there are none; empty where there are some
}

/** Where and how single ops compute: a load without files. */
export type NativeDeviceOptions = Omit<NativeLoad, 'files' | 'tensors' | 'onProgress'>;

/**
 * A backend whose ops are called one by one, on the calling thread. What it makes (matrices, vectors, rows, operands)
 * is named by number; in an op, rows are two arguments: the number, and how many of them. `kernels.ts` gives it types.
 */
export interface NativeDevice {
  readonly isa: string;
  readonly threads: number;
  close(): void;
  matrix(
    values: Float32Array | Uint16Array,
    stored: string,
    outputs: number,
    inputs: number,
    type: string,
    gated: boolean,
  ): number;
  vector(values: Float32Array): number;
  rows(count: number, width: number): number;
  operand(capacity: number, width: number, type: string): number;
  write(rows: number, count: number, values: Float32Array): void;
  read(values: Float32Array, rows: number, count: number): void;
  readOperand(values: Float32Array, operand: number): void;
  begin(plan: StepPlan): void;
  embedding(out: number, count: number, table: number): void;
  rmsNorm(out: number, x: number, count: number, weight: number, eps: number): void;
  convert(out: number, x: number, count: number): void;
  matmul(out: number, count: number, x: number, w: number, bias: number | null): void;
  matmulAdd(out: number, count: number, x: number, w: number): void;
  kvAppend(qkv: number, count: number, layer: number, qNorm: number | null, kNorm: number | null): void;
  attention(out: number, qkv: number, count: number, layer: number): void;
  matmulSwiglu(out: number, x: number, gateUp: number): void;
  selectSampled(out: number, outCount: number, x: number, count: number, first: number): void;
  sample(result: StepResult, logits: number, count: number, first: number): void;
}

export interface NativeKernels {
  readonly Device: new (options: NativeDeviceOptions) => NativeDevice;
  toBf16(values: Float32Array): Uint16Array;
  toFloat(bits: Uint16Array, type: string): Float32Array;
  ropeTable(config: ModelConfig, context: number): Float32Array;
  readSeconds(bytes: number, threads: number, repeats: number): number;
  peakOperations(isa: string, int8: boolean, threads: number): number;
}

export interface Addon {
  readonly version: string;
  readonly commit: string;
  load(options: NativeLoad): Promise<NativeEngine>;
  cpu(): CpuDevice;
  /** Wakes no GPU, and never throws for want of one. */
  cuda(): CudaDevices;
  /** Bytes that a load could take on this GPU now. Wakes it. Throws as `load` does. */
  cudaFreeBytes(device: string): number;
  readonly kernels: NativeKernels;
}
