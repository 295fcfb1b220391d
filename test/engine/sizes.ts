import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { chooseSizes } from '../../src/engine/sizes.ts';
import { EngineError } from '../../src/errors.ts';
import type { PolicyName } from '../../src/loop/loop.ts';
import type { ModelConfig } from '../../src/native.ts';

const sizes = suite('Sizes');

// 2 layers x (keys, values) x 2 heads x 8: 64 numbers a token.
const config: ModelConfig = {
  ...{ context: 10_000, layers: 2, heads: 4, kvHeads: 2, headDim: 8, hidden: 16, intermediate: 64, vocabulary: 1000 },
  ...{ rmsEps: 1e-5, ropeTheta: 10_000, ropeScaling: null, tiedEmbedding: true, qkvBias: false, qkNorm: false },
};
const model = { config, storedType: 'bf16' } as const;
const cpu = (freeBytes: number) => ({ freeBytes, hostFreeBytes: freeBytes, gpu: false });
const MUCH = cpu(2 ** 40);

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
  assert.equal(chooseSizes(model, {}, 3, cpu(free)).slots, 8192 + 64);
  const refused = codeOf(() => chooseSizes(model, {}, 3, cpu(4 * 128 * 8191)));
  assert.match(refused, /^OUT_OF_MEMORY .* 1048576 bytes for one request of 8192/);
  assert.equal(chooseSizes(model, { maxContext: 64 }, 3, cpu(4 * 128 * 64)).slots, 64);
});

sizes('takes nine tenths of what the weights leave of a GPU', () => {
  const gpu = (freeBytes: number) => ({ freeBytes, hostFreeBytes: 2 ** 30, gpu: true });
  const { slots, stepTokens } = chooseSizes(model, {}, 3, gpu(2 ** 30 + 2 ** 25));
  // Per layer q and output 2 x 16 x 32, k and v 2 x 16 x 16, the rest 3 x 16 x 64; the embedding is the head too.
  const weights = 2 * (2 * (1024 + 512 + 3072) + 16_000);
  assert.is(slots, Math.floor((0.9 * (2 ** 25 - weights)) / 128 / 64) * 64);
  assert.ok(slots > 3 * 8192, 'more than the rows need: prompts wait in it too');
  assert.is(stepTokens, 3 + 2048);
  assert.is(chooseSizes(model, { kvBytes: 128 * 8192 }, 3, gpu(0)).slots, 8192);
  assert.match(codeOf(() => chooseSizes(model, {}, 3, gpu(2 ** 30))), /^OUT_OF_MEMORY .* got 0 bytes, with 1073741824 free/);
});

sizes('takes a prompt of full context in one step for policies that compute prompts whole', () => {
  const stepTokens = (policy: PolicyName, maxContext: number) =>
    chooseSizes(model, { policy, maxContext }, 3, MUCH).stepTokens;
  for (const policy of ['orca', 'baton', 'baton-pd'] as const) {
    assert.equal([stepTokens(policy, 5000), stepTokens(policy, 100)], [3 + 5000, 3 + 256]);
  }
  for (const policy of ['relay', 'static'] as const) assert.is(stepTokens(policy, 5000), 3 + 256);
});

sizes('gives a dense layout room for its copy and its pool', () => {
  const slots = (policy: PolicyName, memory = MUCH) => chooseSizes(model, { policy }, 4, memory).slots;
  assert.equal([slots('orca'), slots('baton'), slots('baton-pd')], [4 * 8192, 10 * 8192, 10 * 8192]);
  assert.is(slots('baton', cpu(4 * 128 * 8192)), 8192);
});

sizes('gives a GPU less for keys and values where steps are longer', () => {
  const slots = (policy: PolicyName) => chooseSizes(model, { policy }, 3, { freeBytes: 2 ** 31, hostFreeBytes: 0, gpu: true }).slots;
  const activation = 4 * (2 * 16 + 8 * (2 * 4 + 2 * 2) + 64); // bytes of one token
  const less = ((8192 - 2048) * activation * 0.9) / 128;
  assert.ok(Math.abs(slots('relay') - slots('orca') - less) <= 64);
});

sizes('parks in as much as the arena has, at most a quarter of the free host memory, or what is asked for', () => {
  const parked = (asked: object, freeBytes: number) => {
    return chooseSizes(model, { kvBytes: 128 * 8192, ...asked }, 3, cpu(freeBytes)).hostSlots;
  };
  assert.is(parked({}, 2 ** 40), 8192);
  assert.is(parked({}, 4 * 128 * 500), 448);
  assert.is(parked({}, 0), 0);
  assert.is(parked({ parkBytes: 0 }, 2 ** 40), 0);
  assert.is(parked({ parkBytes: 128 * 10_000 }, 0), 9984);
  assert.is(parked({ parkBytes: 2 ** 52 }, 0), 2 ** 31 - 64 - 8192); // slots are numbered through
  const gpu = { freeBytes: 2 ** 33, hostFreeBytes: 4 * 128 * 640, gpu: true };
  assert.is(chooseSizes(model, {}, 3, gpu).hostSlots, 640);
  const large = { freeBytes: 2 ** 36, hostFreeBytes: 2 ** 40, gpu: true }; // what is parked in is pinned there
  assert.is(chooseSizes(model, {}, 3, large).hostSlots, 2 ** 32 / 128);
});

sizes('takes what is asked for, if one request fits', () => {
  assert.equal(chooseSizes(model, { kvBytes: 128 * 8192 }, 3, cpu(0)).slots, 8192);
  assert.equal(chooseSizes(model, { kvBytes: 2 ** 52 }, 3, cpu(0)).slots, 2 ** 31 - 64);
  const refused = (asked: object) => codeOf(() => chooseSizes(model, asked, 1, MUCH));
  assert.match(refused({ kvBytes: 128 * 8192 - 1 }), /^INVALID_OPTION kvBytes: expected at least 1048576/);
  assert.match(refused({ maxContext: 10_001 }), /^INVALID_OPTION maxContext: .* 10000, got 10001/);
});

sizes.run();
