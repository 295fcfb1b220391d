import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError } from '../errors.ts';

/** The folder of the package; this file lies two folders below it, as source and as built. */
const PACKAGE = fileURLToPath(new URL('../..', import.meta.url));
const LAST_LINES = 8; // of what a program said before it failed

/** One case of an op on one device, as `ops bench --json` writes it. */
export interface OpsResult {
  readonly op: string;
  readonly case: string;
  readonly device: string;
  readonly type: string;
  readonly microseconds: number;
  readonly gigabytesPerSecond: number;
  readonly gigaflopsPerSecond: number;
  readonly bandwidthShare: number | null;
  readonly computeShare: number | null;
  readonly ratioToLibrary: number | null;
  readonly line?: string;
  readonly against?: string;
  readonly x?: number;
}

/** What `ops bench --json` writes. */
export interface OpsRecord {
  readonly device: { readonly name: string; readonly hardware: string };
  readonly ceilings: {
    readonly gigabytesPerSecond: number; // read
    readonly copiedGigabytesPerSecond: number; // read and written
    readonly gigaflopsPerSecond: { readonly f32: number; readonly bf16: number; readonly int8: number };
  };
  readonly results: readonly OpsResult[];
}

/** What one run of `ops bench` gave, and what it said of the cases without a figure. */
export interface OpsRun {
  readonly record: OpsRecord;
  readonly failures: readonly string[];
  readonly leftOut: number;
}

/**
 * The program that times ops alone: `given`, or the repository's own, brought up to date with its sources. It is no part
 * of the published package.
 */
export async function findOps(given: string | undefined): Promise<string> {
  if (given !== undefined) {
    if (!existsSync(given)) throw new EngineError('INVALID_OPTION', `--program: expected an executable, got ${given}`);
    return given;
  }
  const sources = join(PACKAGE, 'native', 'ops');
  if (!existsSync(sources)) {
    throw new EngineError(
      'ADDON_MISSING',
      `expected the sources of the program ops in ${sources}; the package does not have them: ` +
        'in a clone of its repository, npm ci && npm run bench -- kernels does it all',
    );
  }
  const folder = join(PACKAGE, 'build', 'Release');
  if (!existsSync(join(folder, 'CMakeCache.txt'))) {
    throw new EngineError('ADDON_MISSING', `expected ${folder} to be configured: npm run build`);
  }
  await run('cmake', ['--build', folder, '--target', 'ops', '--parallel']);
  return join(folder, 'ops');
}

/** How many cases the arguments ask for. */
export async function countCases(program: string, args: readonly string[], use: string): Promise<number> {
  const listed = await run(program, ['list', ...args]);
  return listed.split('\n').filter((line) => line.split(/\s+/)[1] === use).length;
}

/** `ops bench` with these arguments; `onCase` hears the line of each case when it has been timed. */
export async function runOps(
  program: string,
  args: readonly string[],
  onCase: (line: string) => void,
): Promise<OpsRun> {
  const folder = mkdtempSync(join(tmpdir(), 'baton-ops-'));
  const file = join(folder, 'ops.json');
  try {
    const output = await run(program, ['bench', ...args, '--json', file], (line) => /^(?!op )\w+ {2,}\S/.test(line) && onCase(line));
    return {
      record: JSON.parse(readFileSync(file, 'utf8')) as OpsRecord,
      failures: output.split('\n').filter((line) => /^\w+ {2,}.* [A-Z_]{4,}: /.test(line)),
      leftOut: Number(/^(\d+) left out:/m.exec(output)?.[1] ?? 0),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What a program prints on stdout; an EngineError with its last lines if it fails. */
function run(program: string, args: readonly string[], onLine: (line: string) => void = () => {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const failed = (why: string) => reject(new EngineError('INTERNAL', `${program} ${args[0]}: ${why}`));
    let stdout = '';
    let stderr = '';
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      lines.forEach(onLine);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', ({ message }) => failed(message));
    child.on('close', (code, signal) => {
      if (code === 0) resolve(stdout);
      else failed(/^ops: (.*)/.exec(stderr)?.[1] ?? `ended with ${signal ?? code}\n${lastLines(stdout + stderr)}`);
    });
  });
}

function lastLines(text: string): string {
  return text.trimEnd().split('\n').slice(-LAST_LINES).join('\n');
}
