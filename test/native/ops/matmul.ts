// Matrix products on every instruction set: against sums in double precision over what the operand and the matrix really
// hold, and the law: a row's bits depend on no other row and on no thread count.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../src/addon.ts';
import { Device, type Matrix, type Operand, type Rows, toBf16, toFloat, type WeightType } from '../../../src/kernels.ts';
import { Random } from '../fake/random.ts';
import { sameBits } from '../fake/story.ts';

const matmul = suite('matmul');

const ISAS = loadAddon().cpu().isas;
const TYPES: readonly WeightType[] = ['f32', 'bf16', 'int8'];
// Sums in float, of k products of about 1: the rounding of each addition, with room.
const TOLERANCE = 1e-5;

interface Case {
  readonly outputs: number;
  readonly inputs: number;
  readonly rows: number;
}

// Around every border: vectors of 16, panels of 32, blocks of 16 and 32 rows, tiles of 16, 32 and 64 inputs.
const CASES: readonly Case[] = [
  { outputs: 1, inputs: 1, rows: 1 },
  { outputs: 33, inputs: 8, rows: 2 },
  { outputs: 31, inputs: 172, rows: 3 },
  { outputs: 64, inputs: 64, rows: 16 },
  { outputs: 100, inputs: 250, rows: 17 },
  { outputs: 48, inputs: 96, rows: 33 },
  { outputs: 80, inputs: 130, rows: 150 },
];

/** The operand's rows as the products see them, and the matrix's as the embedding does: exactly what is multiplied. */
function reference(x: Float32Array, w: Float32Array, { outputs, inputs, rows }: Case): Float64Array {
  const sums = new Float64Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < outputs; o++) {
      let sum = 0;
      for (let k = 0; k < inputs; k++) sum += x[row * inputs + k]! * w[o * inputs + k]!;
      sums[row * outputs + o] = sum;
    }
  }
  return sums;
}

/** Weights as the type keeps them. */
function rounded(weights: Float32Array, inputs: number, type: WeightType): Float32Array {
  if (type === 'f32') return weights;
  if (type === 'bf16') return toFloat(toBf16(weights), 'bf16');
  const kept = new Float32Array(weights.length);
  for (let begin = 0; begin < weights.length; begin += inputs) {
    const row = weights.subarray(begin, begin + inputs);
    const scale = Math.fround(row.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0) / 127);
    row.forEach((value, i) => (kept[begin + i] = scale > 0 ? Math.round(value / scale) * scale : 0));
  }
  return kept;
}

function near(actual: Float32Array, expected: ArrayLike<number>, tolerance: number, name: string): void {
  assert.is(actual.length, expected.length, name);
  actual.forEach((value, i) => {
    assert.ok(Math.abs(value - expected[i]!) <= tolerance, `${name}: [${i}] is ${value}, expected ${expected[i]}`);
  });
}

interface Product {
  readonly on: Device;
  readonly x: Operand;
  readonly w: Matrix;
  readonly out: Rows;
}

function product(isa: string, type: WeightType, values: Float32Array, weights: Float32Array, size: Case, threads = 1): Product {
  const on = new Device({ isa, threads });
  const x = on.operand(size.rows, size.inputs, type);
  on.convert(x, on.rows(size.rows, size.inputs, values));
  const out = on.rows(size.rows, size.outputs, new Float32Array(size.rows * size.outputs).fill(NaN));
  return { on, x, w: on.matrix(weights, size.outputs, size.inputs, type), out };
}

for (const isa of ISAS) {
  for (const type of TYPES) {
    matmul(`gives the sums, with a bias and onto a residual, in ${type} on ${isa}`, () => {
      for (const size of CASES) {
        const random = new Random(size.inputs * 1000 + size.rows);
        const values = random.normals(size.rows * size.inputs);
        const weights = random.normals(size.outputs * size.inputs);
        const bias = random.normals(size.outputs);
        const { on, x, w, out } = product(isa, type, values, weights, size);
        const expected = reference(on.readOperand(x), rounded(weights, size.inputs, type), size);
        const tolerance = TOLERANCE * size.inputs + 1e-6;
        const name = `${isa} ${type} ${JSON.stringify(size)}`;
        on.matmul(out, x, w);
        near(on.read(out), expected, tolerance, name);
        on.matmul(out, x, w, on.vector(bias));
        near(on.read(out), expected.map((sum, i) => sum + bias[i % size.outputs]!), tolerance, `${name} with bias`);
        on.write(out, new Float32Array(expected.length).fill(3));
        on.matmulAdd(out, x, w);
        near(on.read(out), expected.map((sum) => sum + 3), tolerance, `${name} onto 3`);
        on.close();
      }
    });

    matmul(`gates the first half of the outputs by silu, in ${type} on ${isa}`, () => {
      for (const { outputs: width, inputs, rows } of CASES) {
        const random = new Random(inputs * 7 + rows);
        const values = random.normals(rows * inputs);
        const weights = random.normals(2 * width * inputs, 1 / Math.sqrt(inputs));
        const on = new Device({ isa });
        const x = on.operand(rows, inputs, type);
        on.convert(x, on.rows(rows, inputs, values));
        const out = on.operand(rows, width, 'f32');
        on.matmulSwiglu(out, x, on.gatedMatrix(weights, width, inputs, type));
        const sums = reference(on.readOperand(x), rounded(weights, inputs, type), { outputs: 2 * width, inputs, rows });
        const expected = Float64Array.from({ length: rows * width }, (_, i) => {
          const row = Math.floor(i / width) * 2 * width;
          const gate = sums[row + (i % width)]!;
          return (gate / (1 + Math.exp(-gate))) * sums[row + width + (i % width)]!;
        });
        near(on.readOperand(out), expected, 1e-4, `${isa} ${type} ${width} x ${inputs}, ${rows} rows`);
        on.close();
      }
    });

    matmul(`gives a row the same bits in any company and on any threads, in ${type} on ${isa}`, () => {
      const size = { outputs: 70, inputs: 200, rows: 83 };
      const random = new Random(5);
      const values = random.normals(size.rows * size.inputs);
      const weights = random.normals(size.outputs * size.inputs);
      const together = product(isa, type, values, weights, size, 3);
      together.on.matmul(together.out, together.x, together.w);
      const all = together.on.read(together.out);
      for (const [first, rows] of [[0, 1], [5, 2], [40, 3], [10, 16], [3, 17], [20, 47]] as const) {
        const some = values.subarray(first * size.inputs, (first + rows) * size.inputs);
        const { on, x, w, out } = product(isa, type, some, weights, { ...size, rows });
        on.matmul(out, x, w);
        const expected = all.subarray(first * size.outputs, (first + rows) * size.outputs);
        assert.ok(sameBits(on.read(out), expected), `${rows} rows from ${first}`);
        on.close();
      }
      together.on.close();
    });

    matmul(`makes what is not a number of a row with one, and of no other, in ${type} on ${isa}`, () => {
      const size = { outputs: 40, inputs: 70, rows: 20 };
      const random = new Random(6);
      const values = random.normals(size.rows * size.inputs);
      values[7 * size.inputs + 11] = NaN;
      values[9 * size.inputs + 69] = Infinity;
      const { on, x, w, out } = product(isa, type, values, random.normals(size.outputs * size.inputs), size);
      on.matmul(out, x, w);
      on.read(out).forEach((value, i) => {
        const row = Math.floor(i / size.outputs);
        assert.is(Number.isFinite(value), row !== 7 && row !== 9, `row ${row}: ${value}`);
      });
      on.close();
    });
  }

  matmul(`gives int8 products that are exact, the same as plain loops, on ${isa}`, () => {
    const size = { outputs: 64, inputs: 192, rows: 40 };
    const random = new Random(8);
    const values = random.normals(size.rows * size.inputs);
    const weights = random.normals(size.outputs * size.inputs);
    const [here, plain] = [isa, 'scalar'].map((one) => {
      const { on, x, w, out } = product(one, 'int8', values, weights, size);
      on.matmul(out, x, w);
      const result = on.read(out);
      on.close();
      return result;
    });
    assert.ok(sameBits(here!, plain!));
  });

  matmul(`normalises rows and looks up embeddings on ${isa}`, () => {
    const random = new Random(9);
    for (const width of [1, 15, 16, 64, 130]) {
      const on = new Device({ isa, config: { vocabulary: 37 } });
      const rows = 21;
      const values = random.normals(rows * width);
      const weight = random.normals(width);
      const normed = on.operand(rows, width, 'f32');
      on.rmsNorm(normed, on.rows(rows, width, values), on.vector(weight), 1e-5);
      const expected = values.map((value, i) => {
        const row = values.subarray(i - (i % width), i - (i % width) + width);
        const mean = row.reduce((sum, one) => sum + one * one, 0) / width;
        return (value * weight[i % width]!) / Math.sqrt(mean + 1e-5);
      });
      near(on.readOperand(normed), expected, 1e-5, `norm of ${width}`);

      for (const type of TYPES) {
        const table = random.normals(37 * width);
        const tokens = Int32Array.from({ length: rows }, () => random.integer(0, 36));
        const empty = new Int32Array(0);
        on.begin({
          moves: empty,
          moveCount: 0,
          rowMoves: empty,
          rowMoveCount: 0,
          starts: [],
          runs: Int32Array.of(-1, 0, 0, 0, rows),
          runCount: 1,
          tokens,
          tokenCount: rows,
        });
        const out = on.rows(rows, width);
        on.embedding(out, on.matrix(table, 37, width, type));
        const kept = rounded(table, width, type);
        near(on.read(out), Array.from(tokens).flatMap((token) => [...kept.subarray(token * width, (token + 1) * width)]), 1e-6, type);
      }
      on.close();
    }
  });
}

matmul.run();
