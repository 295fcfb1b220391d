import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { LOAD_FLAGS, UsageError } from '../flags.ts';
import { TALES } from '../model/tales.ts';
import { SHAPES, type ShapeName } from './shapes.ts';
import { synthesize } from './synthesize.ts';

export interface BenchModel {
  /** As results call it: synthetic weights are named as such. */
  readonly name: string;
  readonly folder: string;
}

const SHAPE_NAMES = Object.keys(SHAPES) as ShapeName[];

/** A model, and where it runs. */
export const BENCH_ENGINE_FLAGS = {
  model: { type: 'text', value: 'NAME', help: 'tales (default), a public shape (with synthetic weights), or a folder' },
  device: LOAD_FLAGS.device,
  weights: LOAD_FLAGS.weights,
  kv: LOAD_FLAGS.kv,
  isa: LOAD_FLAGS.isa,
  threads: LOAD_FLAGS.threads,
} as const;

/** The embedded tales, a model folder, or synthetic weights in a public shape, made once in the temporary folder. */
export async function findModel(name = 'tales'): Promise<BenchModel> {
  if (name === 'tales') return { name, folder: TALES };
  const shape = SHAPE_NAMES.find((one) => one === name);
  if (shape !== undefined) return { name: `${shape} (synthetic)`, folder: await synthetic(shape) };
  const folder = resolve(name);
  if (existsSync(join(folder, 'config.json'))) return { name: basename(folder), folder };
  throw new UsageError(`--model: expected tales, ${SHAPE_NAMES.join(', ')}, or a model folder, got ${name}`);
}

/** The folder appears when it is complete: whoever was interrupted, or works beside us, leaves none to be mistaken. */
async function synthetic(shape: ShapeName): Promise<string> {
  const home = join(tmpdir(), 'baton-bench');
  const folder = join(home, shape);
  if (existsSync(folder)) return folder;
  await mkdir(home, { recursive: true });
  const staging = await mkdtemp(join(home, `${shape}-`));
  try {
    await synthesize(staging, shape, { seed: 1, type: 'bf16' });
    await rename(staging, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return folder;
}
