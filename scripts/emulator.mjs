// npm run test:emulator [part ...]: the CUDA backend on the processor, in parts:
//
//   plain     the faults that the emulator must notice, every operation's cases in every order of threads and copies,
//             the addon as device cuda-emu, and the law of numerics on it; a library that stands in for cuBLASLt
//   address   faults and cases under AddressSanitizer and UndefinedBehaviorSanitizer
//   thread    faults and cases under ThreadSanitizer, as a check for races
//   mutants   every barrier and wait deleted in turn: each must be noticed

import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const counts = { passed: 0, failed: 0, skipped: 0 };
const parts = { plain, address: () => sanitized('address'), thread: () => sanitized('thread'), mutants };

/** Everything, and what is another kernel on 9.0: matrix products and attention. Products of bf16 once more, by a library. */
const CASES = [
  ['cuda-emu:8.0', '*'],
  ['cuda-emu', 'matmul*'],
  ['cuda-emu', 'attention*'],
  ['cuda-emu', 'matmul*', '*bf16*'],
];
/** A schedule that hides as little as any: the sanitizers do not depend on it. ThreadSanitizer is too slow for all. */
const SANITIZED = {
  address: ['--schedule', 'random', '--async', 'deferred'],
  thread: ['--schedule', 'random', '--async', 'deferred', '--every', '6'],
};

/** What a command answered; its output is kept, lest that of several be mixed up. */
function run(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ status: null, output: error.message }));
    child.on('close', (status) => resolve({ status, output }));
  });
}

/** Runs what ends with a line of counts, and adds those up; without such a line it counts as one more. */
async function counted(name, command, args, env) {
  const begin = performance.now();
  const { status, output } = await run(command, args, env);
  const line = [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1);
  const [, passed, failed, skipped] = line?.map(Number) ?? [0, status === 0 ? 1 : 0, 0, 0];
  counts.passed += passed;
  counts.failed += failed + (status !== 0 && failed === 0 ? 1 : 0);
  counts.skipped += skipped;
  if (status !== 0) console.log(output);
  const seconds = ((performance.now() - begin) / 1000).toFixed(0);
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${name}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`);
}

/** As many at a time as there are cores. */
async function together(jobs) {
  const next = jobs.values();
  await Promise.all(Array.from({ length: availableParallelism() }, async () => {
    for (const job of next) await job();
  }));
}

/** Builds targets in a folder of their own; the folder, or undefined if that failed. */
async function build(name, sanitize, targets) {
  const folder = join(root, 'build', name);
  const begin = performance.now();
  let result = await run('cmake', [
    ...['-S', '.', '-B', folder, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release', '-DBATON_EMULATOR=ON'],
    ...[`-DBATON_SANITIZE=${sanitize}`, `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(folder, 'build', 'Release')}`],
  ]);
  if (result.status === 0) result = await run('cmake', ['--build', folder, '-j2', '--target', ...targets]);
  const built = result.status === 0;
  counts[built ? 'passed' : 'failed']++;
  const seconds = ((performance.now() - begin) / 1000).toFixed(0);
  console.log(`${built ? 'ok  ' : 'FAIL'} build of ${targets.join(', ')} in ${name}: ${seconds} s`);
  if (built) return folder;
  console.log(result.output);
  return undefined;
}

/** In every order of threads and copies, unless `options` name one: a case has the same bits in all of them. */
function casesOf(folder, options = [], env = {}) {
  return CASES.map(([device, op, byLibrary]) => () => {
    const args = ['test', '--quick', '--device', device, '--op', op, ...options];
    if (byLibrary) args.push('--case', byLibrary, '--cublaslt', join(folder, 'build', 'Release', 'cublaslt.so'));
    return counted(`cases of ${op} on ${device}${byLibrary ? ' by a library' : ''}`, join(folder, 'ops'), args, env);
  });
}

async function plain() {
  const folder = await build('Emulator', 'off', ['baton', 'ops', 'bugs', 'libraries']);
  if (folder === undefined) return;
  const node = (name, ...args) => () => {
    return counted(name, process.execPath, ['--import', 'tsx', ...args], { BATON_LLM_PREBUILD: folder });
  };
  const law = ['test/law.ts', '--device', 'cuda-emu', '--schedules', '20', '--requests', '6', '--longest', '80', '--weights', 'bf16'];
  await together([
    () => counted('faults', join(folder, 'bugs'), ['--all']),
    ...casesOf(folder),
    node('the addon as cuda-emu', 'test/run.ts', '^native/cuda-emu', '--alone', '--timeout-s=900'),
    node('the law of numerics on cuda-emu', ...law),
  ]);
}

async function sanitized(kind) {
  const folder = await build(`Emulator-${kind}`, kind, ['ops', 'bugs', 'cublaslt']);
  if (folder === undefined) return;
  // The emulator counts what is not given back, and a driver's memory belongs to the process.
  const env = { ASAN_OPTIONS: 'detect_leaks=0:halt_on_error=1', UBSAN_OPTIONS: 'halt_on_error=1', TSAN_OPTIONS: 'halt_on_error=1:atexit_sleep_ms=0' };
  const faults = () => counted(`faults under ${kind}`, join(folder, 'bugs'), ['--all'], env);
  await together([faults, ...casesOf(folder, SANITIZED[kind], env)]);
}

function mutants() {
  return counted('mutants', process.execPath, ['scripts/mutate.mjs']);
}

const asked = process.argv.slice(2);
const unknown = asked.find((part) => !Object.hasOwn(parts, part));
if (unknown !== undefined) throw new Error(`expected ${Object.keys(parts).join(', ')}, got ${unknown}`);
for (const [name, part] of Object.entries(parts)) if (asked.length === 0 || asked.includes(name)) await part();

console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
