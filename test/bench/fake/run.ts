import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Bench } from '../../../src/bench/bench.ts';
import type { BenchRecord } from '../../../src/bench/record.ts';

export interface BenchOutcome<Result> {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly record: BenchRecord<Result>;
}

/** Runs an experiment in this process, and keeps what it prints. */
export async function runBench<Result = object>(bench: Bench, args: readonly string[]): Promise<BenchOutcome<Result>> {
  const folder = mkdtempSync(join(tmpdir(), 'baton-bench-test-'));
  const out = join(folder, 'deep', 'record.json');
  const { stdout, stderr } = process;
  const written = { stdout: '', stderr: '' };
  const writers = [stdout.write, stderr.write] as const;
  stdout.write = (text: string | Uint8Array) => ((written.stdout += String(text)), true);
  stderr.write = (text: string | Uint8Array) => ((written.stderr += String(text)), true);
  try {
    const code = await bench.run([...args, '--out', out]);
    return { code, ...written, record: JSON.parse(readFileSync(out, 'utf8')) as BenchRecord<Result> };
  } finally {
    [stdout.write, stderr.write] = writers;
    rmSync(folder, { recursive: true });
  }
}
