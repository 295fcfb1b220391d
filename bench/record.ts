// What every result file says of itself, and the arithmetic of small samples.
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { loadAddon } from '../src/addon.ts';

export interface BenchRecord {
  readonly commit: string;
  readonly date: string;
  readonly machine: string;
  readonly command: string;
  readonly results: readonly object[];
}

export function record(results: readonly object[]): BenchRecord {
  const addon = loadAddon();
  const { model, isas } = addon.cpu();
  return {
    commit: addon.commit,
    date: new Date().toISOString().slice(0, 10),
    machine: `${model}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${isas[0]}`,
    command: `npm run bench -- ${process.argv.slice(1).join(' ').replace(/^.*\/([\w-]+)\.ts/, '$1')}`,
    results,
  };
}

export function write(file: string | undefined, results: readonly object[]): void {
  if (file === undefined) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(record(results), null, 1)}\n`);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
