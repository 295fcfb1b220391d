// The native engine does not take TypeScript's word: entries and configs that openModel would never pass on.

import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import type { ModelFolder } from '../../src/model/load.ts';
import { openModel } from '../../src/model/load.ts';
import type { Addon, ModelConfig, NativeLoad, TensorEntry } from '../../src/native.ts';
import { makeParts, safetensors, sharded, singleFile, writeFolder } from '../fake/model-folder.ts';
import { findAddon, nativeLoad, smallestLoad } from '../fake/native-load.ts';

const hostile = suite('hostile native loads');
const { addon, reason } = await findAddon();

/** A test that needs the addon, or is skipped with the reason. */
function native(name: string, test: (addon: Addon) => Promise<void>): void {
  if (addon !== undefined) return void hostile(name, () => test(addon));
  console.log(`SKIP ${name}: ${reason}`);
  hostile.skip(name);
}

const CODES = ['MODEL_FORMAT', 'MODEL_NOT_FOUND', 'MODEL_UNSUPPORTED', 'INVALID_ARGUMENT', 'OUT_OF_MEMORY'];

async function refuses(engine: Addon, model: ModelFolder, changes: Partial<NativeLoad>, label: string): Promise<void> {
  let error: unknown;
  try {
    await (await nativeLoad(engine, model, changes)).close();
  } catch (cause) {
    error = cause;
  }
  assert.instance(error, EngineError, `${label} was accepted, or failed otherwise: ${String(error)}`);
  const { code, message } = error as EngineError;
  assert.ok(CODES.includes(code), `${label}: ${code}: ${message}`);
  assert.ok(message.length > 10, label);
}

const open = (): Promise<ModelFolder> => openModel(writeFolder(singleFile(makeParts())));

native('a valid folder is accepted, in one file and in shards', async (engine) => {
  for (const files of [singleFile(makeParts()), sharded(makeParts())]) {
    await (await nativeLoad(engine, await openModel(writeFolder(files)))).close();
  }
});

native('tensors that begin at an odd byte are read, not trapped', async (engine) => {
  const { header, data } = makeParts();
  for (const padding of [0, 1, 2, 3]) {
    const text = JSON.stringify(header) + ' '.repeat(padding);
    const files = singleFile(makeParts()).set('model.safetensors', safetensors(text, data));
    await (await nativeLoad(engine, await openModel(writeFolder(files)))).close();
  }
});

native('lying entries', async (engine) => {
  const model = await open();
  const changes: Partial<Record<keyof TensorEntry, readonly unknown[]>> = {
    begin: [-1, 0.5, 2 ** 53, -(2 ** 53), NaN, Infinity, 1e300, '8', null],
    end: [-1, 0, 2 ** 31, 2 ** 53, NaN, Infinity, '8', null],
    file: [-1, 1, 2 ** 31, 0.5, NaN, null],
    type: ['F64', 'I8', '', 'f32', null, 3],
    shape: [
      [],
      [0],
      [-1, -1],
      [2 ** 32, 2 ** 32],
      [2 ** 31, 2],
      [300.5, 16],
      [16, 300],
      [300, 16, 1],
      null,
      'x',
      [null],
    ],
    name: ['other', '', null],
  };
  for (const number of [0, 5, model.tensors.length - 1]) {
    for (const [key, values] of Object.entries(changes)) {
      for (const value of values) {
        const tensors = model.tensors.map((entry, i) => (i === number ? { ...entry, [key]: value } : entry));
        const label = `tensor ${number}, ${key} ${String(value)}`;
        await refuses(engine, model, { tensors: tensors as readonly TensorEntry[] }, label);
      }
    }
  }
});

native('lying configs', async (engine) => {
  const model = await open();
  const integers = [0, -1, 0.5, 2 ** 31, 2 ** 32 + 1, 2 ** 53, NaN, Infinity, null, '4', 3];
  const changes: Partial<Record<keyof ModelConfig, readonly unknown[]>> = {
    layers: integers,
    hidden: integers,
    intermediate: integers,
    kvHeads: integers,
    headDim: integers,
    vocabulary: integers,
    rmsEps: [-1, NaN, Infinity, null],
    ropeTheta: [0, -1, NaN, Infinity, null],
  };
  for (const [key, values] of Object.entries(changes)) {
    for (const value of values) {
      const config = { ...model.config, [key]: value } as ModelConfig;
      await refuses(engine, model, { config }, `${key} ${String(value)}`);
    }
  }
  await refuses(engine, model, { config: { ...model.config, tiedEmbedding: false } }, 'no output matrix');
  await refuses(engine, model, { config: { ...model.config, qkvBias: true } }, 'no biases');
  await refuses(engine, model, { config: { ...model.config, qkNorm: true } }, 'no norms');
});

native('lying sizes', async (engine) => {
  const model = await open();
  for (const key of ['slots', 'rows', 'stepTokens', 'context'] as const) {
    for (const value of [0, -64, 0.5, NaN, 2 ** 31, 2 ** 53]) {
      await refuses(engine, model, { [key]: value }, `${key} ${value}`);
    }
  }
  await refuses(engine, model, { slots: 65 }, 'slots that are no multiple of 64');
});

native('files that are not there, or no files', async (engine) => {
  const model = await open();
  for (const file of ['/no/such/file', '', '/', '/dev/null', join(model.folder, 'config.json')]) {
    await refuses(engine, model, { files: [file] }, file);
  }
  await refuses(engine, model, { files: [] }, 'no files');
});

native('a file that shrank after it was checked', async (engine) => {
  const model = await open();
  truncateSync(model.files[0] ?? '', 5000);
  await refuses(engine, model, {}, 'a shrunken file');
});

native('loads that are no loads', async (engine) => {
  const model = await open();
  const whole = smallestLoad(model);
  for (const key of Object.keys(whole) as (keyof NativeLoad)[]) {
    await refuses(engine, model, { [key]: undefined }, `no ${key}`);
    await refuses(engine, model, { [key]: { nothing: 1 } }, `${key} an object`);
  }
});

native('a hundred refused loads leave no memory behind', async (engine) => {
  const model = await open();
  const broken = model.tensors.slice(0, -1);
  const measure = async (loads: number): Promise<number> => {
    for (let i = 0; i < loads; i++)
      await refuses(engine, model, { tensors: broken, slots: 64 * 1024 }, 'a missing tensor');
    return process.memoryUsage().rss;
  };
  const before = await measure(20);
  // Each load maps 4 MB of keys and values before it finds the tensor missing; all of them would be 400 MB.
  assert.ok((await measure(100)) - before < 100e6);
});

hostile.run();
