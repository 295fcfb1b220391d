import { loadAddon } from './addon.ts';
import { fromNative } from './errors.ts';
import type { ModelConfig, NativeDevice, NativeDeviceOptions, StepPlan, StepResult } from './native.ts';

export { MOVE_FIELDS, ROW_MOVE_FIELDS, RUN_FIELDS, TOP_LOGPROBS } from './native.ts';
export type { ModelConfig, RopeScaling, RowStart, Sampling, StepPlan, StepResult } from './native.ts';

export type WeightType = 'f32' | 'bf16' | 'int8';

/** Options of a {@link Device}; everything has a default small enough to try an op on its own. */
export interface DeviceOptions extends Partial<Omit<NativeDeviceOptions, 'config'>> {
  readonly config?: Partial<ModelConfig>;
}

const TINY: ModelConfig = {
  layers: 1,
  hidden: 64,
  intermediate: 128,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  vocabulary: 256,
  context: 1024,
  rmsEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tiedEmbedding: true,
  qkvBias: false,
  qkNorm: false,
};

/** A weight matrix on a device: y[outputs] = W[outputs, inputs] x[inputs]. */
export interface Matrix {
  readonly id: number;
  readonly outputs: number;
  readonly inputs: number;
  readonly type: WeightType;
}

/** A vector of float weights on a device. */
export interface Vector {
  readonly id: number;
  readonly size: number;
}

/** Rows of `width` activations on a device. */
export interface Rows {
  readonly id: number;
  readonly count: number;
  readonly width: number;
}

/** Rows in the form in which matrix products read them: packed, rounded to bf16, or quantised to int8 with scales. */
export interface Operand {
  readonly id: number;
  readonly capacity: number;
  readonly width: number;
  readonly type: WeightType;
}

/**
 * The ops of the forward pass, one by one, for tests and benches. Memory is made once and used by many calls; every op
 * runs on the calling thread (with the device's own threads beside it) and has ended when it returns. The ops between
 * {@link Device.begin} and the next one compute that plan's tokens.
 *
 * @example
 * const device = new Device({ isa: 'avx2', threads: 1 });
 * const w = device.matrix(weights, 512, 256, 'bf16');   // Float32Array of 512 × 256, row by row
 * const x = device.operand(8, 256, 'bf16');
 * device.convert(x, device.rows(8, 256, activations));  // Float32Array of 8 × 256
 * const y = device.rows(8, 512);
 * device.matmul(y, x, w);
 * device.read(y);                                       // Float32Array of 8 × 512
 * device.close();
 */
export class Device {
  readonly config: ModelConfig;
  /** The instruction set in use. */
  readonly isa: string;
  readonly threads: number;
  readonly #native: NativeDevice;
  readonly #operandRows = new Map<number, number>();

  constructor(options: DeviceOptions = {}) {
    const { kernels } = loadAddon();
    this.config = { ...TINY, ...options.config };
    const defaults = {
      device: 'cpu',
      isa: 'auto',
      threads: 1,
      graphs: true,
      checkLaunches: false,
      cublasLt: '',
      weights: 'f32',
      kv: 'f32',
      slots: 4096,
      hostSlots: 0,
      rows: 64,
      stepTokens: 1024,
    };
    const given = { ...defaults, context: this.config.context, ...options, config: this.config };
    this.#native = rethrown(() => new kernels.Device(given));
    this.isa = this.#native.isa;
    this.threads = this.#native.threads;
  }

  /** `values`: [outputs, inputs], floats or bf16 bits, packed as the device likes it in `type`. */
  matrix(values: Float32Array | Uint16Array, outputs: number, inputs: number, type: WeightType): Matrix {
    const stored = values instanceof Float32Array ? 'f32' : 'bf16';
    const id = rethrown(() => this.#native.matrix(values, stored, outputs, inputs, type, false));
    return { id, outputs, inputs, type };
  }

  /** For {@link matmulSwiglu} only. `values`: [2 width, inputs], the gates' `width` rows before the ups'. */
  gatedMatrix(values: Float32Array | Uint16Array, width: number, inputs: number, type: WeightType): Matrix {
    const stored = values instanceof Float32Array ? 'f32' : 'bf16';
    const id = rethrown(() => this.#native.matrix(values, stored, 2 * width, inputs, type, true));
    return { id, outputs: 2 * width, inputs, type };
  }

  vector(values: Float32Array): Vector {
    return rethrown(() => ({ id: this.#native.vector(values), size: values.length }));
  }

  /** `count` rows, zero or `values`. They live until the device is closed. */
  rows(count: number, width: number, values?: Float32Array): Rows {
    return rethrown(() => {
      const rows = { id: this.#native.rows(count, width), count, width };
      if (values !== undefined) this.#native.write(rows.id, count, values);
      return rows;
    });
  }

  operand(capacity: number, width: number, type: WeightType): Operand {
    return rethrown(() => ({ id: this.#native.operand(capacity, width, type), capacity, width, type }));
  }

  write(to: Rows, values: Float32Array): void {
    rethrown(() => this.#native.write(to.id, to.count, values));
  }

  read(from: Rows, values: Float32Array = new Float32Array(from.count * from.width)): Float32Array {
    rethrown(() => this.#native.read(values, from.id, from.count));
    return values;
  }

  /** What a product would see of the rows last put into `from`: rounded, or quantised and scaled back. */
  readOperand(from: Operand): Float32Array {
    const values = new Float32Array((this.#operandRows.get(from.id) ?? 0) * from.width);
    rethrown(() => this.#native.readOperand(values, from.id));
    return values;
  }

  /** Starts a step: applies the plan's moves, row moves and row starts, and keeps its runs and tokens for the ops. */
  begin(plan: StepPlan): void {
    rethrown(() => this.#native.begin(plan));
  }

  /** out[t] = table[token t] for the plan's tokens; table: [vocabulary, width]. */
  embedding(out: Rows, table: Matrix): void {
    rethrown(() => this.#native.embedding(out.id, out.count, table.id));
  }

  /** out[r, i] = x[r, i] * weight[i] / sqrt(mean(x[r]²) + eps) */
  rmsNorm(out: Operand, x: Rows, weight: Vector, eps = this.config.rmsEps): void {
    rethrown(() => this.#native.rmsNorm(out.id, x.id, x.count, weight.id, eps));
    this.#operandRows.set(out.id, x.count);
  }

  /** out = x, in the form that products read. */
  convert(out: Operand, x: Rows): void {
    rethrown(() => this.#native.convert(out.id, x.id, x.count));
    this.#operandRows.set(out.id, x.count);
  }

  /** out[r, o] = Σ x[r, i] w[o, i] + bias[o] */
  matmul(out: Rows, x: Operand, w: Matrix, bias?: Vector): void {
    rethrown(() => this.#native.matmul(out.id, out.count, x.id, w.id, bias?.id ?? null));
  }

  /** out[r, o] += Σ x[r, i] w[o, i] */
  matmulAdd(out: Rows, x: Operand, w: Matrix): void {
    rethrown(() => this.#native.matmulAdd(out.id, out.count, x.id, w.id));
  }

  /**
   * qkv: [tokens, (heads + 2 kvHeads) headDim]. Normalises each head of q and k where norms are given ([headDim]),
   * rotates both by their position, and writes k and v into the plan's slots of `layer`.
   */
  kvAppend(qkv: Rows, layer: number, qNorm?: Vector, kNorm?: Vector): void {
    rethrown(() => this.#native.kvAppend(qkv.id, qkv.count, layer, qNorm?.id ?? null, kNorm?.id ?? null));
  }

  /** out[t, h] = softmax(q[t, h] Kᵀ / √headDim) V over positions 0 to that of t; q is the front of qkv. */
  attention(out: Operand, qkv: Rows, layer: number): void {
    rethrown(() => this.#native.attention(out.id, qkv.id, qkv.count, layer));
    this.#operandRows.set(out.id, qkv.count);
  }

  /** out[r, i] = silu(x[r] · gate[i]) * (x[r] · up[i]); `gateUp` comes from {@link gatedMatrix}. */
  matmulSwiglu(out: Operand, x: Operand, gateUp: Matrix): void {
    rethrown(() => this.#native.matmulSwiglu(out.id, x.id, gateUp.id));
    this.#operandRows.set(out.id, this.#operandRows.get(x.id) ?? 0);
  }

  /** out[i] = x[last token of the (first + i)-th run that is sampled] */
  selectSampled(out: Rows, x: Rows, first = 0): void {
    rethrown(() => this.#native.selectSampled(out.id, out.count, x.id, x.count, first));
  }

  /** Draws a token from each row of logits [vocabulary] for the sampled runs from `first` on, into the run's row. */
  sample(result: StepResult, logits: Rows, first = 0): void {
    rethrown(() => this.#native.sample(result, logits.id, logits.count, first));
  }

  /** Releases everything. Idempotent; any other call on a closed device throws CLOSED. */
  close(): void {
    rethrown(() => this.#native.close());
  }
}

/** Rounds to bfloat16, nearest even. */
export function toBf16(values: Float32Array): Uint16Array {
  return rethrown(() => loadAddon().kernels.toBf16(values));
}

/** The floats that 16-bit numbers stand for. */
export function toFloat(bits: Uint16Array, type: 'bf16' | 'f16'): Float32Array {
  return rethrown(() => loadAddon().kernels.toFloat(bits, type));
}

/** Rotary embedding: [context, headDim], per position headDim / 2 cosines and then as many sines. */
export function ropeTable(config: Partial<ModelConfig>, context: number): Float32Array {
  return rethrown(() => loadAddon().kernels.ropeTable({ ...TINY, ...config }, context));
}

/** Seconds to read `bytes` of memory once with `threads` threads, the least of `repeats`: a decode step's ceiling. */
export function readSeconds(bytes: number, threads: number, repeats = 5): number {
  return rethrown(() => loadAddon().kernels.readSeconds(bytes, threads, repeats));
}

/** Operations per second that this machine reaches in registers, a multiply and an addition counting as two. */
export function peakOperations(isa: string, int8: boolean, threads: number): number {
  return rethrown(() => loadAddon().kernels.peakOperations(isa, int8, threads));
}

function rethrown<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw fromNative(cause);
  }
}
