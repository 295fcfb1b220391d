// 10,000 seeded mutations of a valid folder: each is loaded, or refused with a code. Nothing else may happen.
// A sample of those that TypeScript accepts goes on to the native engine, which checks for itself.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import type { ModelFolder } from '../../src/model/load.ts';
import { openModel } from '../../src/model/load.ts';
import { findAddon, nativeLoad } from '../fake/native-load.ts';
import { makeParts, sharded, singleFile, writeFolder } from '../fake/model-folder.ts';

const MUTATIONS = 10_000;
const NATIVE_LOADS = 300;
const MODEL_CODES = ['MODEL_NOT_FOUND', 'MODEL_FORMAT', 'MODEL_UNSUPPORTED'];

/** Values that readers of numbers stumble over. */
const NUMBERS = [
  '0',
  '-1',
  '1',
  '2',
  '1.5',
  '1e308',
  '-0',
  '255',
  '4294967296',
  '9007199254740993',
  '18446744073709551615',
];
const VALUES = [...NUMBERS, 'null', 'true', '""', '[]', '{}', '"x"', '[0]', '[[]]'];

class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** An integer from 0 to limit − 1. Mulberry32. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), 61 | bits);
    return Math.floor((((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}

/** One mutation of a file of text, or of the part of a safetensors file before its data. */
function mutateText(random: Random, bytes: Buffer): Buffer {
  const at = random.below(bytes.length);
  const length = 1 + random.below(16);
  const rest = bytes.subarray(Math.min(bytes.length, at + length));
  switch (random.below(7)) {
    case 0: {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
      return flipped;
    }
    case 1:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([random.below(256)]), bytes.subarray(at + 1)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), rest]);
    case 3:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    case 4:
      return bytes.subarray(0, at);
    case 5:
      return replaceOne(random, bytes, /-?\d+(\.\d+)?(e[+-]?\d+)?/g, NUMBERS);
    default:
      return replaceOne(random, bytes, /"[^"]*"(?=[,}\]])|\[[^[\]]*\]|\btrue\b|\bfalse\b|\bnull\b|\d+/g, VALUES);
  }
}

function replaceOne(random: Random, bytes: Buffer, pattern: RegExp, values: readonly string[]): Buffer {
  const text = bytes.toString('latin1');
  const places = [...text.matchAll(pattern)];
  if (places.length === 0) return bytes;
  const place = random.pick(places);
  const end = place.index + place[0].length;
  return Buffer.from(text.slice(0, place.index) + random.pick(values) + text.slice(end), 'latin1');
}

/** Mutates the header; half the time its length is made to fit again, so that the fault lies deeper. */
function mutateWeights(random: Random, bytes: Buffer): Buffer {
  const dataBegin = 8 + Number(bytes.readBigUInt64LE());
  const data = bytes.subarray(dataBegin);
  switch (random.below(4)) {
    case 0:
      return mutateText(random, bytes);
    case 1: {
      const lied = Buffer.from(bytes);
      lied[random.below(8)] = random.below(256);
      return lied;
    }
    default: {
      const header = mutateText(random, bytes.subarray(8, dataBegin));
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(header.length));
      return Buffer.concat([length, header, data]);
    }
  }
}

interface Outcome {
  readonly codes: Map<string, number>;
  readonly accepted: number;
  readonly surprises: string[];
}

/** Mutates one file at a time, opens the folder, calls `use` on what opens, and restores the file. */
async function mutate(
  files: ReadonlyMap<string, Buffer>,
  seed: number,
  count: number,
  use: (model: ModelFolder, what: string) => Promise<void> = async () => {},
): Promise<Outcome> {
  const random = new Random(seed);
  const folder = writeFolder(files);
  const names = [...files.keys()];
  const codes = new Map<string, number>();
  const surprises: string[] = [];
  let accepted = 0;
  for (let number = 0; number < count; number++) {
    const name = random.pick(names);
    const original = files.get(name) ?? Buffer.alloc(0);
    const changed = name.endsWith('.safetensors') ? mutateWeights(random, original) : mutateText(random, original);
    writeFileSync(join(folder, name), changed);
    const what = `mutation ${number} of seed ${seed}, in ${name}`;
    try {
      const model = await openModel(folder);
      accepted++;
      await use(model, what);
    } catch (error) {
      const code = error instanceof EngineError ? error.code : 'none';
      codes.set(code, (codes.get(code) ?? 0) + 1);
      if (!MODEL_CODES.includes(code)) surprises.push(`${what}: ${String((error as Error)?.stack ?? error)}`);
    }
    writeFileSync(join(folder, name), original);
  }
  return { codes, accepted, surprises };
}

const mutations = suite('mutated model folders');

mutations(`${MUTATIONS} mutations load or give a code`, async () => {
  for (const [seed, files] of [singleFile(makeParts()), sharded(makeParts())].entries()) {
    const { codes, accepted, surprises } = await mutate(files, seed, MUTATIONS / 2);
    assert.equal(surprises, []);
    // Neither of these means anything if every mutation were refused at the door, or none.
    assert.ok(accepted > MUTATIONS / 100, `${accepted} accepted`);
    for (const code of ['MODEL_FORMAT', 'MODEL_UNSUPPORTED']) assert.ok((codes.get(code) ?? 0) > 0, code);
  }
});

const { addon, reason } = await findAddon();
const nativeTest = 'what TypeScript accepts, the native engine loads or refuses with a code';
if (addon !== undefined) {
  mutations(nativeTest, async () => {
    let loads = 0;
    const native = async (model: ModelFolder) => {
      if (loads >= NATIVE_LOADS) return;
      loads++;
      const engine = await nativeLoad(addon, model);
      await engine.close();
    };
    const { surprises } = await mutate(singleFile(makeParts()), 2, MUTATIONS / 5, native);
    assert.equal(surprises, []);
    assert.ok(loads > 0);
  });
} else {
  console.log(`SKIP ${nativeTest}: ${reason}`);
  mutations.skip(nativeTest);
}

mutations.run();
