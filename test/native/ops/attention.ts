// attention: each instruction set against the definition computed here in double, and the law of numerics, bit by bit.
// Every slot that a request does not own holds NaN.

import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../src/addon.ts';
import { Random } from '../fake/random.ts';
import { Attending, sameBits, Story } from '../fake/story.ts';
import type { Shape } from '../fake/story.ts';

const attention = suite('attention');

const ISAS = loadAddon().cpu().isas;
const KINDS = ['f32', 'bf16'] as const;

/** Largest and root mean square error. AMX rounds q and the weights to bf16 where keys and values are. */
function tolerance(isa: string, kv: string): { readonly worst: number; readonly rms: number } {
  return isa === 'amx' && kv === 'bf16' ? { worst: 2e-2, rms: 2e-3 } : { worst: 3e-6, rms: 3e-7 };
}

function assertNear(out: Float32Array, expected: Float64Array, isa: string, kv: string, what: string): void {
  let worst = 0;
  let squares = 0;
  out.forEach((value, i) => {
    const error = Math.abs(value - expected[i]!);
    worst = error <= worst ? worst : error; // NaN is the worst
    squares += error * error;
  });
  const most = tolerance(isa, kv);
  assert.ok(worst <= most.worst, `${what}: an error of ${worst}`);
  assert.ok(Math.sqrt(squares / out.length) <= most.rms, `${what}: ${Math.sqrt(squares / out.length)} rms`);
}

function shapeOf(headDim: number, group: number, kvHeads = 2): Shape {
  return { heads: group * kvHeads, kvHeads, headDim };
}

interface Way {
  readonly chunk: number;
  readonly offset?: number;
  readonly masked?: number;
  readonly company?: boolean;
}

/** All of a story's rows, computed in chunks at some place of the arena, alone or in company. */
function compute(attending: Attending, story: Story, way: Way): Float32Array {
  const { chunk, offset = 0, masked = 0, company = false } = way;
  const { heads, headDim } = story.shape;
  const outWidth = heads * headDim;
  const out = new Float32Array(story.length * outWidth);
  const other = new Story(story.shape, 20, chunk + 1);
  const otherOffset = attending.slots - 128; // its own 128 slots, the last
  attending.poison();
  for (let begin = 0; begin < story.length; begin += chunk) {
    const end = Math.min(begin + chunk, story.length);
    const run = [offset, masked, begin, end - begin];
    if (!company) {
      out.set(attending.step([run], story.rows(begin, end)), begin * outWidth);
      continue;
    }
    const rows = new Float32Array((5 + end - begin) * story.width);
    rows.set(other.rows(0, 5));
    rows.set(story.rows(begin, end), 5 * story.width);
    const both = attending.step([[otherOffset, 3, 0, 5], run], rows);
    out.set(both.subarray(5 * outWidth), begin * outWidth);
  }
  return out;
}

for (const isa of ISAS) {
  for (const kv of KINDS) {
    attention(`is what it is defined to be on ${isa} with ${kv} keys and values`, () => {
      for (const headDim of [8, 32, 64, 80, 96, 128, 256]) {
        for (const group of [1, 3, 7, 8]) {
          const story = new Story(shapeOf(headDim, group), 37, headDim + group);
          const attending = new Attending({ ...story.shape, isa, kv, slots: 192 });
          const out = compute(attending, story, { chunk: 37, offset: 64, masked: group });
          const width = group * 2 * headDim;
          for (const position of [0, 1, 15, 16, 31, 32, 36]) {
            const row = out.subarray(position * width, (position + 1) * width);
            assertNear(row, story.expected(position, kv), isa, kv, `head_dim ${headDim} group ${group} at ${position}`);
          }
          attending.device.close();
        }
      }
    });

    attention(`merges splits of a long context on ${isa} with ${kv}`, () => {
      const length = isa === 'scalar' ? 600 : 1100;
      const story = new Story(shapeOf(64, 3, 1), length, 5);
      // A key in the second split outweighs all others for the last token's q, so that splits differ in their largest.
      const q = story.rows(length - 1, length);
      for (let i = 0; i < 64; i++) story.qkv[300 * story.width + 3 * 64 + i] = 3 * q[i]!;
      const attending = new Attending({ ...story.shape, isa, kv, threads: 2 });
      const out = compute(attending, story, { chunk: 500, masked: 5 });
      for (const position of [255, 256, 257, 511, 512, length - 1]) {
        const row = out.subarray(position * 192, (position + 1) * 192);
        assertNear(row, story.expected(position, kv), isa, kv, `at ${position}`);
      }
      attending.device.close();
    });

    attention(`has the same bits for every chunking, place, company and thread count on ${isa} with ${kv}`, () => {
      const length = isa === 'scalar' ? 280 : 700; // two splits, or three
      const story = new Story(shapeOf(64, 3), length, 11);
      const devices = [1, 2, 3].map((threads) => new Attending({ ...story.shape, isa, kv, threads }));
      const whole = compute(devices[0]!, story, { chunk: length });
      const ways: (Way & { threads: number })[] = [
        { chunk: length, offset: 64, masked: 1, threads: 2 },
        { chunk: length, offset: 1216 - 64, masked: 63, company: true, threads: 3 },
        { chunk: 300, offset: 128, masked: 33, threads: 1 },
        { chunk: 300, offset: 320, company: true, threads: 2 },
        { chunk: 64, offset: 64, masked: 17, company: true, threads: 3 },
        { chunk: 64, threads: 2 },
        { chunk: 7, offset: 192, masked: 8, company: true, threads: 2 },
        { chunk: 7, offset: 448, masked: 61, threads: 1 },
        { chunk: 1, offset: 640, masked: 2, threads: 3 },
        { chunk: 1, offset: 64, masked: 31, company: true, threads: 1 },
      ];
      for (const { threads, ...way } of ways) {
        const out = compute(devices[threads - 1]!, story, way);
        assert.ok(sameBits(out, whole), `${JSON.stringify(way)} on ${threads} threads`);
      }
      for (const { device } of devices) device.close();
    });

    attention(`has the same bits in steps of one and as a whole for other shapes on ${isa} with ${kv}`, () => {
      for (const [headDim, group] of [[8, 8], [32, 7], [80, 1], [96, 3], [128, 4], [256, 16]] as const) {
        const story = new Story(shapeOf(headDim, group, 1), 50, headDim);
        const attending = new Attending({ ...story.shape, isa, kv, slots: 256 });
        const whole = compute(attending, story, { chunk: 50 });
        const ones = compute(attending, story, { chunk: 1, masked: 7, company: true });
        assert.ok(sameBits(whole, ones), `head_dim ${headDim} group ${group}`);
        attending.device.close();
      }
    });

    attention(`reads to the arena's last slot and no further on ${isa} with ${kv}`, () => {
      const story = new Story(shapeOf(64, 2), 97, 3);
      const attending = new Attending({ ...story.shape, isa, kv, slots: 192 });
      const end = compute(attending, story, { chunk: 97, offset: 64, masked: 31 });
      assert.ok(sameBits(end, compute(attending, story, { chunk: 97 })));
      attending.device.close();
    });

    attention(`shares one long row among threads without changing it on ${isa} with ${kv}`, () => {
      const length = 900;
      const story = new Story(shapeOf(32, 2), length, 7);
      const short = new Story(story.shape, 3, 8);
      const rows = new Float32Array(4 * story.width);
      rows.set(story.rows(length - 1, length));
      rows.set(short.qkv, story.width);
      const outs = [1, 2, 3].map((threads) => {
        const attending = new Attending({ ...story.shape, isa, kv, threads });
        attending.append([[0, 9, 0, length]], story.qkv);
        const out = attending.step([[0, 9, length - 1, 1], [1024, 1, 0, 3]], rows);
        attending.device.close();
        return out;
      });
      assertNear(outs[0]!.subarray(0, 128), story.expected(length - 1, kv), isa, kv, 'the long row');
      assertNear(outs[0]!.subarray(3 * 128), short.expected(2, kv), isa, kv, 'the short row');
      assert.ok(sameBits(outs[0]!, outs[1]!) && sameBits(outs[0]!, outs[2]!));
    });

    attention(`keeps what is not a number in its own row on ${isa} with ${kv}`, () => {
      const story = new Story(shapeOf(64, 3), 40, 13);
      const attending = new Attending({ ...story.shape, isa, kv, slots: 256 });
      const clean = compute(attending, story, { chunk: 40 });
      const spoilt = story.qkv.slice();
      spoilt.fill(NaN, 20 * story.width, 20 * story.width + 64); // q of token 20, first head
      const out = attending.attend([[0, 0, 0, 40]], spoilt);
      const width = 6 * 64;
      assert.ok(out.subarray(20 * width, 20 * width + 64).every(Number.isNaN));
      out.set(clean.subarray(20 * width, 20 * width + 64), 20 * width);
      assert.ok(sameBits(out, clean));
      attending.device.close();
    });

    attention(`stays finite for scores that e^x is not on ${isa} with ${kv}`, () => {
      const story = new Story(shapeOf(64, 1), 64, 17);
      const loud = new Random(18).normals(64 * story.width, 40);
      story.qkv.set(loud);
      const attending = new Attending({ ...story.shape, isa, kv, slots: 256 });
      const out = compute(attending, story, { chunk: 64 });
      const expected = story.expected(63, kv);
      const row = out.subarray(63 * 128);
      // Scores are in the thousands: one key takes all, whatever the rounding.
      row.forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) <= 1e-4 * 40, `${value}, ${expected[i]}`));
      attending.device.close();
    });
  }
}

// Recorded, since no machine has all three.
const DIGESTS = { f32: '13237f703eb2f7d9', bf16: '162c40a2a722b11c' };
const ALIKE = ISAS.filter((isa) => ['avx2', 'avx512', 'neon'].includes(isa));

attention('has the same bits on AVX2, AVX-512 and NEON', () => {
  if (ALIKE.length === 0) return console.log('SKIP has the same bits on AVX2, AVX-512 and NEON: needs one of them');
  for (const kv of KINDS) {
    const story = new Story(shapeOf(80, 3), 600, 19);
    for (const isa of ALIKE) {
      const attending = new Attending({ ...story.shape, isa, kv, threads: 2 });
      const out = compute(attending, story, { chunk: 600, masked: 3 });
      attending.device.close();
      assert.is(createHash('sha256').update(out).digest('hex').slice(0, 16), DIGESTS[kv], `${isa}, ${kv}`);
    }
  }
});

attention('agrees with the scalar definition on every instruction set', () => {
  for (const kv of KINDS) {
    const story = new Story(shapeOf(64, 7), 300, 23);
    const outs = ISAS.map((isa) => {
      const attending = new Attending({ ...story.shape, isa, kv });
      const out = compute(attending, story, { chunk: 300, masked: 1 });
      attending.device.close();
      return { isa, out };
    });
    const scalar = Float64Array.from(outs.find(({ isa }) => isa === 'scalar')!.out);
    for (const { isa, out } of outs) assertNear(out, scalar, isa, kv, `${isa} ${kv}`);
  }
});

attention.run();
