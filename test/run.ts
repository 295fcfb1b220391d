// Runs every test file in a process of its own: node --import tsx test/run.ts [pattern] [--alone] [--timeout-s=120]
//
// uvu alone has no timeout, passes a file that forgot run(), and dies whole when native code aborts. A file that needs
// longer says so in a comment of its own, "// Timeout: 300 s". A test that cannot run here calls suite.skip and prints
// "SKIP name: reason". Files in fake/ hold what tests are built from, and are not run.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';

/** Files that use all cores by themselves; they run after the others, one at a time. */
const WHOLE_MACHINE = /^(golden|native)\/|^law\.ts$/;
const NO_TESTS = /(^|\/)fake\/|^run\.ts$/;

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  readonly output: string;
  /** Why the file failed, if it did. */
  readonly problem: string | undefined;
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    alone: { type: 'boolean', default: false }, // every file one at a time
    'timeout-s': { type: 'string', default: '120' },
    root: { type: 'string', default: fileURLToPath(new URL('.', import.meta.url)) },
  },
});
const { root } = values;
const timeoutSeconds = Number(values['timeout-s']);
const pattern = new RegExp(positionals[0] ?? '');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts') && !NO_TESTS.test(file) && pattern.test(file))
  .sort();

function run(file: string): Promise<Outcome> {
  const own = /^\/\/ Timeout: (\d+) s$/m.exec(readFileSync(join(root, file), 'utf8'))?.[1];
  const limit = Math.max(timeoutSeconds, Number(own ?? 0));
  const begin = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--import', 'tsx', '--expose-gc', join(root, file)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: limit * 1000,
      killSignal: 'SIGKILL',
    });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('close', (code, signal) => {
      const output = stripVTControlCharacters(Buffer.concat(chunks).toString());
      const count = (word: string) => Number(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'm').exec(output)?.[1] ?? 0);
      const [total, passed, skipped] = [count('Total'), count('Passed'), count('Skipped')];
      const seconds = (performance.now() - begin) / 1000;
      let problem: string | undefined;
      if (signal !== null) problem = seconds >= limit ? `not ended after ${limit} s` : `ended by ${signal}`;
      else if (code !== 0) problem = `exit code ${code}`;
      else if (total + skipped === 0) problem = 'no tests ran: is run() missing?';
      const failed = problem === undefined ? 0 : Math.max(1, total - passed);
      resolve({ passed, failed, skipped, seconds, output, problem });
    });
  });
}

function report(file: string, outcome: Outcome): void {
  const { passed, failed, skipped, seconds, output, problem } = outcome;
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds.toFixed(1)} s`;
  console.log(`${problem === undefined ? 'ok  ' : 'FAIL'} ${file}  ${counts}`);
  if (problem !== undefined) console.log(`     ${problem}\n${output}`);
  const reasons = output.match(/^SKIP .*$/gm) ?? [];
  for (const reason of reasons) console.log(`     ${reason}`);
  if (skipped > 0 && reasons.length === 0) console.log('     SKIP without a reason');
}

const outcomes: Outcome[] = [];

async function runAll(waiting: string[], atOnce: number): Promise<void> {
  const lane = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const outcome = await run(file);
      report(file, outcome);
      outcomes.push(outcome);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}

await runAll(
  files.filter((file) => !WHOLE_MACHINE.test(file)),
  values.alone ? 1 : availableParallelism(),
);
await runAll(
  files.filter((file) => WHOLE_MACHINE.test(file)),
  1,
);

const sum = (key: 'passed' | 'failed' | 'skipped') => outcomes.reduce((total, outcome) => total + outcome[key], 0);
if (files.length === 0) console.log(`no test file matches ${pattern}`);
process.exitCode = files.length === 0 || sum('failed') > 0 ? 1 : 0;
console.log(
  `${sum('passed')} passed, ${sum('failed') + (files.length === 0 ? 1 : 0)} failed, ${sum('skipped')} skipped`,
);
