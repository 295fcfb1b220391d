// The KV cache: what is written is what is read, and moves copy slots in all layers. A value is read exactly by a token
// that attends to its slot alone; a key is seen through the weights of a token that attends to two slots.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../src/addon.ts';
import { Device, toBf16, toFloat } from '../../../src/kernels.ts';
import { Random } from '../fake/random.ts';
import { Attending, sameBits, Story } from '../fake/story.ts';
import type { Shape } from '../fake/story.ts';
import { failure } from '../fake/tales.ts';

const kv = suite('kv');

const ISAS = loadAddon().cpu().isas;
const KINDS = ['f32', 'bf16'];
const SLOTS = 256;
const SHAPE: Shape = { heads: 2, kvHeads: 2, headDim: 40 };
const HEAD = SHAPE.headDim;
const WIDTH = (SHAPE.heads + 2 * SHAPE.kvHeads) * HEAD;
const V = (SHAPE.heads + SHAPE.kvHeads) * HEAD; // first value in a row of qkv

/** The run whose token at `position` sees the slots from `slot` on. */
function runAt(slot: number, position: number): number[] {
  return [slot - (slot % 64), slot % 64, position, 1];
}

function each(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** The values of all slots in a layer, as qkv rows have them: [slots, kvHeads * headDim]. */
function readValues(attending: Attending, layer: number): Float32Array {
  return attending.attend(each(SLOTS).map((slot) => runAt(slot, 0)), new Float32Array(SLOTS * WIDTH), layer);
}

/** What a q of `probe` sees in slots s and s + 1, for every s: [slots − 1, heads * headDim]. */
function readPairs(attending: Attending, layer: number, probe: Float32Array): Float32Array {
  const rows = new Float32Array((SLOTS - 1) * WIDTH);
  for (let slot = 0; slot < SLOTS - 1; slot++) rows.set(probe, slot * WIDTH);
  return attending.attend(each(SLOTS - 1).map((slot) => runAt(slot, 1)), rows, layer);
}

interface Filled {
  readonly attending: Attending;
  readonly rows: readonly Float32Array[]; // [layers] of [slots, width]
}

function filled(kind: string, layers: number, threads: number, isa = 'auto'): Filled {
  const attending = new Attending({ ...SHAPE, isa, kv: kind, layers, threads, slots: SLOTS });
  const rows = each(layers).map((layer) => new Random(100 + layer).normals(SLOTS * WIDTH));
  rows.forEach((qkv, layer) => attending.append([[0, 0, 0, SLOTS]], qkv, [layer]));
  return { attending, rows };
}

for (const isa of ISAS) {
  kv(`keeps f32 values as they are, in every layer, on ${isa}`, () => {
    const { attending, rows } = filled('f32', 3, 2, isa);
    rows.forEach((qkv, layer) => {
      const values = readValues(attending, layer);
      for (let slot = 0; slot < SLOTS; slot++) {
        const own = values.subarray(slot * 2 * HEAD, (slot + 1) * 2 * HEAD);
        assert.ok(sameBits(own, qkv.subarray(slot * WIDTH + V, (slot + 1) * WIDTH)), `layer ${layer} slot ${slot}`);
      }
    });
    attending.device.close();
  });

  kv(`rounds bf16 values to the nearest, ties to even, and keeps NaN, on ${isa}`, () => {
    const attending = new Attending({ ...SHAPE, isa, kv: 'bf16', slots: SLOTS });
    const rows = new Random(1).normals(SLOTS * WIDTH);
    const bits = new Uint32Array(rows.buffer);
    bits[V] = 0x3f808000; // between two, the lower is even
    bits[V + 1] = 0x3f818000; // between two, the upper is even
    bits[V + 2] = 0x3f808001; // above the middle
    bits[V + 3] = 0x3f817fff; // below the middle
    bits[V + 4] = 0xbf818000;
    bits[V + 5] = 0x7f7fffff; // the largest float is above the largest bf16
    bits[V + HEAD] = 0x7f800001; // a NaN whose upper half alone would be infinity
    attending.append([[0, 0, 0, SLOTS]], rows);
    const values = readValues(attending, 0);
    const first = [0x3f800000, 0x3f820000, 0x3f810000, 0x3f810000, 0xbf820000, 0x7f800000];
    assert.equal([...new Uint32Array(values.buffer).subarray(0, 6)], first);
    assert.ok(Number.isNaN(values[HEAD]));
    for (let slot = 1; slot < SLOTS; slot++) {
      const rounded = toFloat(toBf16(rows.slice(slot * WIDTH + V, (slot + 1) * WIDTH)), 'bf16');
      assert.ok(sameBits(values.subarray(slot * 2 * HEAD, (slot + 1) * 2 * HEAD), rounded), `slot ${slot}`);
    }
    attending.device.close();
  });
}

/** Moves that do not read or write what another writes; each may overlap itself. */
function randomMoves(random: Random): number[][] {
  const taken = new Array<'read' | 'written' | undefined>(SLOTS).fill(undefined);
  const moves: number[][] = [];
  for (let attempt = 0; attempt < 12; attempt++) {
    const count = random.integer(1, attempt < 2 ? 70 : 9);
    const from = random.integer(0, SLOTS - count);
    const near = random.integer(-5, 5);
    const to = attempt % 2 === 0 ? from + near : random.integer(0, SLOTS - count);
    if (to < 0 || to + count > SLOTS) continue;
    const reads = each(count).map((i) => from + i);
    const writes = each(count).map((i) => to + i);
    if (reads.some((slot) => taken[slot] === 'written') || writes.some((slot) => taken[slot] !== undefined)) continue;
    for (const slot of reads) taken[slot] = 'read';
    for (const slot of writes) taken[slot] = 'written';
    moves.push([from, to, count]);
  }
  return moves;
}

for (const kind of KINDS) {
  kv(`moves ${kind} slots, all layers, whatever their parity and overlap`, () => {
    const layers = 2;
    const probe = new Random(3).normals(WIDTH);
    const random = new Random(kind.length);
    for (let round = 0; round < 40; round++) {
      const { attending, rows } = filled(kind, layers, 1 + (round % 3));
      const moves = randomMoves(random);
      const source = each(SLOTS); // of each slot's content, after the moves
      for (const [from, to, count] of moves) for (let i = 0; i < count!; i++) source[to! + i] = from! + i;
      attending.move(moves);
      // The same content, written where the moves put it.
      const written = new Attending({ ...SHAPE, isa: 'auto', kv: kind, layers, slots: SLOTS });
      for (let layer = 0; layer < layers; layer++) {
        const moved = new Float32Array(SLOTS * WIDTH);
        source.forEach((from, slot) => {
          moved.set(rows[layer]!.subarray(from * WIDTH, (from + 1) * WIDTH), slot * WIDTH);
        });
        written.append([[0, 0, 0, SLOTS]], moved, [layer]);
        const values = readValues(attending, layer);
        assert.ok(sameBits(values, readValues(written, layer)), `values, ${JSON.stringify(moves)}`);
        const pairs = readPairs(attending, layer, probe);
        assert.ok(sameBits(pairs, readPairs(written, layer, probe)), `keys, ${JSON.stringify(moves)}`);
      }
      attending.device.close();
      written.device.close();
    }
  });

  kv(`moves ${kind} slots by every distance and length that could go wrong`, () => {
    const { attending, rows } = filled(kind, 1, 1);
    const values = readValues(attending, 0);
    for (const from of [64, 65]) {
      for (const to of [56, 57, 61, 62, 63, 64, 65, 66, 67, 72, 73, 128, 129]) {
        for (const count of [1, 2, 3, 8, 9]) {
          attending.append([[0, 0, 0, SLOTS]], rows[0]!);
          attending.move([[from, to, count]]);
          const moved = values.slice();
          moved.copyWithin(to * 2 * HEAD, from * 2 * HEAD, (from + count) * 2 * HEAD);
          assert.ok(sameBits(readValues(attending, 0), moved), `${count} slots from ${from} to ${to}`);
        }
      }
    }
    attending.device.close();
  });

  kv(`gives a moved span the attention it had, with ${kind}`, () => {
    const story = new Story({ heads: 6, kvHeads: 2, headDim: 64 }, 300, 5);
    const attending = new Attending({ ...story.shape, isa: 'auto', kv: kind, threads: 2, slots: 1024 });
    const last = story.rows(299, 300);
    const before = (attending.append([[0, 5, 0, 300]], story.qkv), attending.attend([[0, 5, 299, 1]], last));
    let [offset, masked] = [0, 5];
    for (const [nextOffset, nextMasked] of [[64, 5], [64, 4], [512, 17], [448, 60], [0, 0]] as const) {
      attending.move([[offset + masked, nextOffset + nextMasked, 300]]);
      [offset, masked] = [nextOffset, nextMasked];
      assert.ok(sameBits(attending.attend([[offset, masked, 299, 1]], last), before), `at ${offset} + ${masked}`);
    }
    attending.device.close();
  });
}

kv('refuses what it cannot hold', async () => {
  const wide = await failure(() => new Device({ config: { heads: 1, kvHeads: 1, headDim: 258 } }));
  assert.is(wide.code, 'MODEL_UNSUPPORTED', wide.message);
  assert.match(wide.message, 'at most 256, got 258');
  // Reserved memory costs nothing but addresses: of 64 TiB each, ten do not fit.
  const config = { layers: 16, heads: 1, kvHeads: 1, headDim: 256, context: 64 };
  const devices: Device[] = [];
  const huge = await failure(() => {
    for (let i = 0; i < 10; i++) devices.push(new Device({ config, slots: 2 ** 31 - 64, stepTokens: 64 }));
  });
  for (const device of devices) device.close();
  assert.is(huge.code, 'OUT_OF_MEMORY', huge.message);
  assert.match(huge.message, /KV cache: .* 67108862 MiB/);
});

kv.run();
