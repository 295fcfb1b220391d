import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { basename, dirname } from 'node:path';
import { loadAddon } from '../addon.ts';

/** A file of results: what was measured, when, where, and how to do it again. */
export interface BenchRecord<Result = object> {
  /** What the results are of: `relay`, `kernels`, … A report knows by this how to show them. */
  readonly experiment: string;
  /** Of the source that the addon was built from. */
  readonly commit: string;
  /** ISO 8601, day. */
  readonly date: string;
  readonly machine: string;
  readonly command: string;
  /** Of everything random; undefined where nothing is. */
  readonly seed?: number;
  readonly results: readonly Result[];
}

export interface Experiment<Result> {
  readonly experiment: string;
  readonly command: string;
  readonly seed?: number;
  readonly results: readonly Result[];
}

export function record<Result>({ experiment, command, seed, results }: Experiment<Result>): BenchRecord<Result> {
  const { commit, cpu, cuda } = loadAddon();
  const { model, isas } = cpu();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const gpus = cuda().devices.map((device) => device.model);
  return {
    experiment,
    commit,
    date: new Date().toISOString().slice(0, 10),
    machine: [model, `${availableParallelism()} cores`, memory, isas[0], ...gpus].join(', '),
    command,
    ...(seed === undefined ? {} : { seed }),
    results,
  };
}

/** Writes a record as JSON, its folder too. Lists of numbers take one line: some are as long as a run has steps. */
export function writeRecord(file: string, made: BenchRecord): void {
  mkdirSync(dirname(file), { recursive: true });
  const text = JSON.stringify(made, null, 1).replace(/\[[\s\d.,e+-]*\]/g, (list) => list.replace(/\n\s*/g, ''));
  writeFileSync(file, `${text}\n`);
}

/** What a script of bench/ found, where it was told to keep it. The script is named by the process's own arguments. */
export function writeScriptRecord(file: string | undefined, results: readonly object[]): void {
  if (file !== undefined) writeRecord(file, record({ ...thisScript(), results }));
}

export function thisScript(): { readonly experiment: string; readonly command: string } {
  const [, path = '', ...args] = process.argv;
  const experiment = basename(path, '.ts');
  return { experiment, command: ['npm run bench --', experiment, ...args].join(' ') };
}
