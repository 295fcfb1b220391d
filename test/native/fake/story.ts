// One request's queries, keys and values, random, and a device to attend with that turns nothing by its position, so
// that what is written is what is read.

import { Device, toBf16, toFloat } from '../../../src/kernels.ts';
import type { ModelConfig, Operand, Rows } from '../../../src/kernels.ts';
import { Random } from './random.ts';
import { makePlan } from './tales.ts';

export interface Shape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface AttendingOptions extends Shape {
  readonly isa: string;
  readonly kv: string;
  readonly threads?: number;
  readonly slots?: number;
  readonly layers?: number;
}

/** A device, room for the rows of a step, and every slot of every layer full of NaN. */
export class Attending {
  static readonly STEP = 1024;
  readonly device: Device;
  readonly shape: Shape;
  readonly slots: number;
  readonly layers: number;
  readonly #qkv: Rows;
  readonly #out: Operand;

  constructor({ heads, kvHeads, headDim, isa, kv, threads = 1, slots = 2048, layers = 1 }: AttendingOptions) {
    this.shape = { heads, kvHeads, headDim };
    this.slots = slots;
    this.layers = layers;
    const config: Partial<ModelConfig> = {
      layers,
      heads,
      kvHeads,
      headDim,
      context: slots,
      ropeScaling: { kind: 'linear', factor: 1e30 }, // angles below 1e-26: no float is changed by them
    };
    this.device = new Device({ config, isa, kv, threads, slots, context: slots, stepTokens: Attending.STEP });
    this.#qkv = this.device.rows(Attending.STEP, (heads + 2 * kvHeads) * headDim);
    this.#out = this.device.operand(Attending.STEP, heads * headDim, 'f32');
    this.poison();
  }

  poison(): void {
    const { width } = this.#qkv;
    for (let offset = 0; offset < this.slots; offset += Attending.STEP) {
      const count = Math.min(Attending.STEP, this.slots - offset);
      const nan = new Float32Array(count * width).fill(NaN);
      this.append([[offset, 0, 0, count]], nan);
    }
  }

  /** Writes k and v of qkv rows [tokens, width] for runs of [offset, masked, position, tokens], in `layers`. */
  append(runs: readonly (readonly number[])[], qkv: Float32Array, layers = this.#all()): void {
    const rows = this.#begin(runs, qkv);
    for (const layer of layers) this.device.kvAppend(rows, layer);
  }

  /** Attention of the rows' q, without writing their k and v. */
  attend(runs: readonly (readonly number[])[], qkv: Float32Array, layer = 0): Float32Array {
    const rows = this.#begin(runs, qkv);
    this.device.attention(this.#out, rows, layer);
    return this.device.readOperand(this.#out);
  }

  /** Both: one step of a model. */
  step(runs: readonly (readonly number[])[], qkv: Float32Array): Float32Array {
    this.append(runs, qkv);
    return this.attend(runs, qkv);
  }

  move(moves: readonly (readonly number[])[]): void {
    this.device.begin(makePlan({ moves }));
  }

  #all(): number[] {
    return Array.from({ length: this.layers }, (_, layer) => layer);
  }

  #begin(runs: readonly (readonly number[])[], qkv: Float32Array): Rows {
    const count = runs.reduce((sum, run) => sum + run[3]!, 0);
    const rows = { ...this.#qkv, count };
    this.device.begin(makePlan({ runs: runs.map((run) => [-1, ...run]), tokens: new Array<number>(count).fill(0) }));
    this.device.write(rows, qkv);
    return rows;
  }
}

export class Story {
  readonly qkv: Float32Array; // [length, width]
  readonly width: number;
  readonly shape: Shape;
  readonly length: number;

  constructor(shape: Shape, length: number, seed: number) {
    this.shape = shape;
    this.length = length;
    this.width = (shape.heads + 2 * shape.kvHeads) * shape.headDim;
    this.qkv = new Random(seed).normals(length * this.width);
  }

  rows(begin: number, end: number): Float32Array {
    return this.qkv.subarray(begin * this.width, end * this.width);
  }

  /** Attention of one token, in double, from the definition; keys and values as the cache's type keeps them. */
  expected(position: number, kv: string): Float64Array {
    const { heads, kvHeads, headDim } = this.shape;
    const out = new Float64Array(heads * headDim);
    const kept = kv === 'bf16' ? toFloat(toBf16(this.qkv), 'bf16') : this.qkv;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const q = position * this.width + head * headDim;
      const k = (heads + kvHead) * headDim;
      const v = (heads + kvHeads + kvHead) * headDim;
      const scores = Array.from({ length: position + 1 }, (_, p) => {
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += this.qkv[q + i]! * kept[p * this.width + k + i]!;
        return dot / Math.sqrt(headDim);
      });
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const sum = weights.reduce((a, b) => a + b);
      weights.forEach((weight, p) => {
        for (let i = 0; i < headDim; i++) out[head * headDim + i]! += (weight / sum) * kept[p * this.width + v + i]!;
      });
    }
    return out;
  }
}

/** The same bits, NaN included. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const left = Buffer.from(a.buffer, a.byteOffset, a.byteLength);
  return left.equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}
