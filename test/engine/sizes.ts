import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseSizes } from '../../src/engine/sizes.ts';
import { EngineError } from '../../src/errors.ts';

const sizes = suite('Sizes');

// 2 layers x (keys, values) x 2 heads x 8: 64 numbers a token.
const config = { context: 10_000, layers: 2, kvHeads: 2, headDim: 8 };
const model = { config, storedType: 'bf16' } as const;
const MUCH = 2 ** 40;

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof EngineError ? `${error.code} ${error.message}` : String(error);
  }
  return 'none';
}

sizes('keeps the stored type, and f32 keys and values beside f32 weights', () => {
  const formats = (storedType: 'f32' | 'bf16' | 'f16', asked = {}) => {
    const { weights, kv } = chooseSizes({ config, storedType }, asked, 1, MUCH);
    return `${weights} ${kv}`;
  };
  assert.is(formats('f32'), 'f32 f32');
  assert.is(formats('bf16'), 'bf16 bf16');
  assert.is(formats('f16', { weights: 'auto', kv: 'auto' }), 'bf16 bf16');
  assert.is(formats('bf16', { weights: 'int8' }), 'int8 bf16');
  assert.is(formats('f32', { weights: 'bf16' }), 'bf16 bf16');
  assert.is(formats('bf16', { kv: 'f32' }), 'bf16 f32');
});

sizes('gives every row its context, which is at most 8192 unless asked for', () => {
  assert.equal(chooseSizes(model, {}, 3, MUCH).context, 8192);
  assert.equal(chooseSizes(model, {}, 3, MUCH).slots, 3 * 8192);
  assert.equal(chooseSizes(model, { maxContext: 10_000 }, 1, MUCH).slots, 10_048);
  assert.equal(chooseSizes({ ...model, config: { ...config, context: 100 } }, {}, 2, MUCH).slots, 256);
});

sizes('takes at most a quarter of the free memory, in whole tiles', () => {
  const free = 4 * 128 * (8192 + 100); // 128 bytes a slot
  assert.equal(chooseSizes(model, {}, 3, free).slots, 8192 + 64);
  const refused = codeOf(() => chooseSizes(model, {}, 3, 4 * 128 * 8191));
  assert.match(refused, /^OUT_OF_MEMORY .* 1048576 bytes for one request of 8192/);
  assert.equal(chooseSizes(model, { maxContext: 64 }, 3, 4 * 128 * 64).slots, 64);
});

sizes('takes what is asked for, if one request fits', () => {
  assert.equal(chooseSizes(model, { kvBytes: 128 * 8192 }, 3, 0).slots, 8192);
  assert.equal(chooseSizes(model, { kvBytes: 2 ** 52 }, 3, 0).slots, 2 ** 31 - 64);
  const refused = (asked: object) => codeOf(() => chooseSizes(model, asked, 1, MUCH));
  assert.match(refused({ kvBytes: 128 * 8192 - 1 }), /^INVALID_OPTION kvBytes: expected at least 1048576/);
  assert.match(refused({ maxContext: 10_001 }), /^INVALID_OPTION maxContext: .* 10000, got 10001/);
});

sizes.run();
