// The headers of safetensors files, read and checked here so that no JSON parser is needed in native code. A header is
// JSON behind a 64-bit length; the tensors' bytes follow it, without holes and without overlap.

import { EngineError } from '../errors.ts';
import type { TensorEntry } from '../native.ts';
import { Fields, shown } from './fields.ts';
import { decodeText, findFile, parseJson, readBytes, readJson, withFile } from './files.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const LENGTH_BYTES = 8;
const MOST_HEADER_BYTES = 100_000_000; // of the format's description
const MOST_INDEX_BYTES = 100_000_000;
const MOST_SHARDS = 1000;

const TYPE_BYTES: ReadonlyMap<string, number> = new Map(
  Object.entries({
    ...{ F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1 },
    ...{ I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1 },
  }),
);

/** The tensors of a model folder by name, and the files they lie in. */
export interface TensorFiles {
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Reads the headers of the model's one file, or of all shards named by its index. `folder` is a real path. */
export async function readTensorFiles(folder: string): Promise<TensorFiles> {
  const single = await findFile(folder, SINGLE);
  if (single !== undefined) return { files: [single], tensors: byName(await readHeader(single, SINGLE, 0)) };

  const index = await readJson(folder, INDEX, MOST_INDEX_BYTES);
  if (index === undefined) {
    throw new EngineError('MODEL_NOT_FOUND', `model: expected ${SINGLE} or ${INDEX} in ${folder}, got neither`);
  }
  return readShards(folder, index);
}

async function readShards(folder: string, index: unknown): Promise<TensorFiles> {
  const places = readPlaces(index);
  const shards = [...new Set(places.values())];
  if (shards.length === 0 || shards.length > MOST_SHARDS) {
    throw new EngineError('MODEL_FORMAT', `${INDEX}: expected from 1 to ${MOST_SHARDS} files, got ${shards.length}`);
  }

  const files: string[] = [];
  const entries: TensorEntry[] = [];
  for (const [number, shard] of shards.entries()) {
    const path = await findFile(folder, shard);
    if (path === undefined) throw new EngineError('MODEL_NOT_FOUND', `${INDEX}: expected the file ${shard}, got none`);
    files.push(path);
    entries.push(...(await readHeader(path, shard, number)));
  }

  const tensors = byName(entries);
  for (const [name, shard] of places) {
    if (shards[tensors.get(name)?.file ?? -1] !== shard) {
      throw new EngineError('MODEL_FORMAT', `${INDEX}: expected the tensor ${shown(name)} in ${shard}, got none there`);
    }
  }
  return { files, tensors };
}

/** Tensor name to file name, as the index has it. */
function readPlaces(index: unknown): Map<string, string> {
  const fields = new Fields(INDEX, index);
  const map = fields.fields('weight_map');
  if (map === undefined) throw fields.error('weight_map', 'expected an object');
  const places = new Map<string, string>();
  for (const [name, shard] of map.entries()) {
    if (typeof shard !== 'string' || !shard.endsWith('.safetensors')) {
      throw map.error(name, 'expected the name of a .safetensors file');
    }
    places.set(name, shard);
  }
  return places;
}

function byName(entries: readonly TensorEntry[]): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (const entry of entries) {
    if (tensors.has(entry.name)) {
      throw new EngineError('MODEL_FORMAT', `expected each tensor in one file, got ${shown(entry.name)} in two`);
    }
    tensors.set(entry.name, entry);
  }
  return tensors;
}

function readHeader(path: string, name: string, file: number): Promise<TensorEntry[]> {
  return withFile(path, name, async (handle) => {
    const { size } = await handle.stat();
    const length = (await readBytes(handle, name, 0, LENGTH_BYTES)).readBigUInt64LE();
    const most = Math.min(MOST_HEADER_BYTES, size - LENGTH_BYTES);
    if (length > BigInt(most)) {
      throw new EngineError('MODEL_FORMAT', `${name}: expected a header of at most ${most} bytes, got ${length}`);
    }
    const begin = LENGTH_BYTES + Number(length);
    const text = decodeText(name, await readBytes(handle, name, LENGTH_BYTES, Number(length)));
    return readEntries(name, text, file, begin, size);
  });
}

/** The tensors of one header, whose bytes fill the file from `begin` to `end` without holes. */
function readEntries(name: string, text: string, file: number, begin: number, end: number): TensorEntry[] {
  const entries: TensorEntry[] = [];
  const header = new Fields(name, parseJson(name, text));
  for (const [tensor] of header.entries()) {
    if (tensor === '__metadata__') continue;
    const fields = header.fields(tensor);
    if (fields === undefined) throw header.error(tensor, 'expected an object');
    entries.push(readEntry(fields, tensor, file, begin, end));
  }

  // JSON.parse keeps the last of two equal names without a word. Each tensor writes this key once.
  const written = text.match(/"data_offsets"\s*:/g)?.length ?? 0;
  if (written !== entries.length) {
    throw new EngineError(
      'MODEL_FORMAT',
      `${name}: expected ${written} tensors of different names, got ${entries.length}`,
    );
  }
  checkCoverage(name, entries, begin, end);
  return entries;
}

function readEntry(fields: Fields, name: string, file: number, begin: number, end: number): TensorEntry {
  const type = fields.string('dtype');
  if (type === undefined) throw fields.error('dtype', 'expected a string');
  const typeBytes = TYPE_BYTES.get(type);
  if (typeBytes === undefined)
    throw fields.unsupported('dtype', `expected one of ${[...TYPE_BYTES.keys()].join(', ')}`);

  const shape = readIntegers(fields, 'shape');
  const offsets = readIntegers(fields, 'data_offsets');
  const [from, to] = offsets;
  if (offsets.length !== 2 || from === undefined || to === undefined || from > to || to > end - begin) {
    throw fields.error('data_offsets', `expected two offsets in order, up to ${end - begin}`);
  }
  // A product past 2^53 loses digits, but never becomes as small as a file again.
  if (shape.reduce((product, size) => product * size, typeBytes) !== to - from) {
    throw fields.error('shape', `expected dimensions of ${to - from} bytes of ${type}`);
  }
  return { name, file, type, shape, begin: begin + from, end: begin + to };
}

function readIntegers(fields: Fields, key: string): number[] {
  const values = fields.get(key);
  if (!Array.isArray(values) || !values.every((one): one is number => Number.isSafeInteger(one) && one >= 0)) {
    throw fields.error(key, 'expected an array of integers from 0');
  }
  return values;
}

function checkCoverage(name: string, entries: readonly TensorEntry[], begin: number, end: number): void {
  let covered = begin;
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin !== covered) {
      const fault = entry.begin < covered ? 'an overlap' : 'a hole';
      throw new EngineError(
        'MODEL_FORMAT',
        `${name}: expected ${shown(entry.name)} at byte ${covered}, got ${entry.begin}: ${fault}`,
      );
    }
    covered = entry.end;
  }
  if (covered !== end)
    throw new EngineError('MODEL_FORMAT', `${name}: expected a file of ${covered} bytes, got ${end}`);
}
