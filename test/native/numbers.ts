// Conversions of 16-bit floats, and the tables of rotary embedding, against their definitions.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ropeTable, toBf16, toFloat } from '../../src/kernels.ts';
import type { RopeScaling } from '../../src/native.ts';
import { failure } from './fake/tales.ts';

const numbers = suite('numbers');

const ALL_BITS = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

numbers('bf16 is the upper half of a float, for all 65,536', () => {
  const expected = new Float32Array(Uint32Array.from(ALL_BITS, (bits) => bits << 16).buffer);
  assert.equal(new Uint32Array(toFloat(ALL_BITS, 'bf16').buffer), new Uint32Array(expected.buffer));
});

numbers('f16 means what IEEE 754 says, for all 65,536', () => {
  const values = toFloat(ALL_BITS, 'f16');
  for (const bits of ALL_BITS) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    let expected = sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
    if (exponent === 0) expected = sign * fraction * 2 ** -24;
    if (exponent === 31) expected = fraction === 0 ? sign * Infinity : NaN;
    assert.ok(Object.is(values[bits], expected), `${bits}: expected ${expected}, got ${values[bits]}`);
  }
});

numbers('rounding to bf16 takes the nearest, and the even one of two', () => {
  const rounded: readonly [number, number][] = [
    [1, 1],
    [1 + 2 ** -8, 1],
    [1 + 3 * 2 ** -8, 1 + 2 ** -6],
    [1 + 2 ** -8 + 2 ** -20, 1 + 2 ** -7],
    [-1 - 3 * 2 ** -8, -1 - 2 ** -6],
    [2 ** 127 * 1.9921, 2 ** 127 * 1.9921875], // the largest
    [-0, -0],
    [1e-45, 0],
  ];
  const values = Float32Array.from(rounded, ([value]) => value);
  assert.equal(
    [...toFloat(toBf16(values), 'bf16')],
    rounded.map(([, expected]) => expected),
  );
});

numbers('rounding to bf16 keeps infinities, overflows to them, and keeps NaN a NaN', () => {
  const quietest = new Float32Array(new Uint32Array([0x7f800001, 0xffc00000]).buffer);
  const [a, b, c, d, e] = toFloat(toBf16(new Float32Array([Infinity, -Infinity, 3.4028235e38, ...quietest])), 'bf16');
  assert.equal([a, b, c], [Infinity, -Infinity, Infinity]);
  assert.ok(Number.isNaN(d) && Number.isNaN(e));
});

numbers('every bf16 survives a round trip', () => {
  const finite = ALL_BITS.filter((bits) => (bits & 0x7f80) !== 0x7f80 || (bits & 0x7f) === 0);
  assert.equal(toBf16(toFloat(finite, 'bf16')), finite);
});

/** Hugging Face's modeling_rope_utils, in doubles. */
function frequencies(headDim: number, theta: number, scaling: RopeScaling | null): number[] {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => 1 / theta ** ((2 * i) / headDim));
  if (scaling === null) return plain;
  if (scaling.kind === 'linear') return plain.map((frequency) => frequency / scaling.factor);
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContext } = scaling;
  return plain.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    const smooth = (originalContext / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
    if (wavelength < originalContext / highFrequencyFactor) return frequency;
    if (wavelength > originalContext / lowFrequencyFactor) return frequency / factor;
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

const LLAMA3: RopeScaling = {
  kind: 'llama3',
  factor: 8,
  lowFrequencyFactor: 1,
  highFrequencyFactor: 4,
  originalContext: 8192,
};
const TABLES: readonly [string, number, number, RopeScaling | null][] = [
  ['without scaling', 64, 10_000, null],
  ['of a head of two', 2, 10_000, null],
  ['with linear scaling', 64, 10_000, { kind: 'linear', factor: 4 }],
  ['of Llama 3.1', 128, 500_000, LLAMA3],
  ['of Llama 3.2', 64, 500_000, { ...LLAMA3, factor: 32 }],
];
for (const [name, headDim, ropeTheta, ropeScaling] of TABLES) {
  numbers(`the rotary table ${name} is Hugging Face's`, () => {
    const context = 300;
    const table = ropeTable({ headDim, ropeTheta, ropeScaling }, context);
    assert.is(table.length, context * headDim);
    const half = headDim / 2;
    for (const [i, frequency] of frequencies(headDim, ropeTheta, ropeScaling).entries()) {
      for (let position = 0; position < context; position++) {
        const [cosine, sine] = [table[position * headDim + i]!, table[position * headDim + half + i]!];
        assert.ok(Math.abs(cosine - Math.cos(position * frequency)) < 1e-7, `cosine ${i} at ${position}`);
        assert.ok(Math.abs(sine - Math.sin(position * frequency)) < 1e-7, `sine ${i} at ${position}`);
      }
    }
  });
}

numbers("Llama 3.1's scaling keeps, blends and stretches", () => {
  const plain = frequencies(128, 500_000, null);
  const scaled = frequencies(128, 500_000, LLAMA3);
  const kept = plain.filter((frequency, i) => scaled[i] === frequency).length;
  const stretched = plain.filter((frequency, i) => scaled[i] === frequency / 8).length;
  assert.ok(kept > 10 && stretched > 10 && kept + stretched < 64, `${kept} kept, ${stretched} stretched`);
});

numbers('what is no array of the right kind is refused', async () => {
  assert.is((await failure(() => toBf16([1] as never))).code, 'INVALID_ARGUMENT');
  assert.is((await failure(() => toFloat(new Float32Array(1) as never, 'bf16'))).code, 'INVALID_ARGUMENT');
  assert.is((await failure(() => toFloat(new Uint16Array(1), 'f32' as never))).code, 'INVALID_ARGUMENT');
  assert.is((await failure(() => ropeTable({ context: 100 }, 101))).code, 'INVALID_ARGUMENT');
  assert.is((await failure(() => ropeTable({ headDim: 3 }, 1))).code, 'MODEL_UNSUPPORTED');
});

numbers.run();
