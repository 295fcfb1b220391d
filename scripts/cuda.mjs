// npm run test:cuda: compiles the CUDA backend for all targets, as a machine without a GPU can, and looks at what came
// out: registers and spills of every kernel, the size of the addon, and how it loads where there is no driver.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** Kernels that may spill registers to memory: a part of the name, and why. */
const SPILLS = new Map([]);
const MOST_COMPRESSED_BYTES = 12 * 2 ** 20;
const LOADS = 11;

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'build', 'Cuda');
const addon = join(folder, 'build', 'Release', 'baton.node');
const counts = { passed: 0, failed: 0, skipped: 0 };

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28, ...options });
}

function note(name, passed, detail = '') {
  counts[passed ? 'passed' : 'failed']++;
  console.log(`${passed ? 'ok  ' : 'FAIL'} ${name}${detail && `: ${detail}`}`);
  return passed;
}

/** The log of a build from nothing, so that it names every kernel; undefined if it failed. */
function build() {
  rmSync(folder, { recursive: true, force: true });
  const begin = performance.now();
  const configured = run('cmake', [
    ...['-S', '.', '-B', folder, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release', '-DBATON_CUDA=ON'],
    ...['-DCMAKE_CUDA_FLAGS=-Xptxas=-v', `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(folder, 'build', 'Release')}`],
  ]);
  const built = configured.status === 0 ? run('cmake', ['--build', folder, '-j2']) : configured;
  const seconds = ((performance.now() - begin) / 1000).toFixed(0);
  if (note('CUDA build for all targets', built.status === 0, `${seconds} s`)) return built.stdout + built.stderr;
  console.log(built.stdout, built.stderr);
  return undefined;
}

/** What ptxas says of each kernel and target. */
function readKernels(log) {
  const kernels = [];
  for (const line of log.split('\n')) {
    const [, mangled, target] = /Compiling entry function '(\w+)' for '(\w+)'/.exec(line) ?? [];
    if (mangled !== undefined) kernels.push({ mangled, target, spilled: 0, registers: 0 });
    const kernel = kernels.at(-1);
    if (kernel === undefined) continue;
    const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (spills !== null) kernel.spilled += Number(spills[1]) + Number(spills[2]);
    const used = /Used (\d+) registers/.exec(line);
    if (used !== null) kernel.registers = Number(used[1]);
  }
  const names = run('c++filt', [], { input: kernels.map(({ mangled }) => mangled).join('\n') }).stdout?.split('\n');
  return kernels.map((kernel, i) => ({ ...kernel, name: shorten(names?.[i] ?? kernel.mangled) }));
}

function shorten(name) {
  const plain = name.replaceAll('(anonymous namespace)::', '').replaceAll('baton::cuda::', '').replace(/^void /, '');
  return plain.replace(/\(.*$/, '');
}

function checkKernels(log) {
  const kernels = readKernels(log);
  note('ptxas names the kernels', kernels.length > 0, `${kernels.length} of all targets`);
  for (const target of new Set(kernels.map((kernel) => kernel.target))) {
    const own = kernels.filter((kernel) => kernel.target === target);
    const [most] = own.toSorted((a, b) => b.registers - a.registers);
    console.log(`     ${target}: ${own.length} kernels, at most ${most.registers} registers (${most.name})`);
  }
  // ptxas says so where it waits for each product before the next.
  note('no kernel has its wgmma serialised', !/wgmma\S* instructions are serialized/.test(log));
  const spilling = kernels.filter(({ spilled }) => spilled > 0);
  for (const { name, target, spilled } of spilling) {
    const [, reason] = [...SPILLS].find(([part]) => name.includes(part)) ?? [];
    note(`${name} on ${target} spills ${spilled} bytes`, reason !== undefined, reason ?? 'and is not listed');
  }
  for (const part of SPILLS.keys()) {
    note(`${part} still spills`, spilling.some(({ name }) => name.includes(part)), 'else it need not be listed');
  }
}

function checkAddon() {
  const bytes = gzipSync(readFileSync(addon)).length;
  const megabytes = (count) => `${(count / 2 ** 20).toFixed(1)} MiB`;
  note('the addon is small enough', bytes <= MOST_COMPRESSED_BYTES, `${megabytes(bytes)} compressed`);

  // Seconds decide nothing; that it loads and answers does.
  const script = `const begin = performance.now(); const { cuda } = require(process.argv[1]);
    const milliseconds = performance.now() - begin; console.log(JSON.stringify({ milliseconds, ...cuda() }))`;
  const loads = Array.from({ length: LOADS }, () => run(process.execPath, ['-e', script, addon]));
  const answers = loads.map(({ status, stdout }) => (status === 0 ? JSON.parse(stdout) : undefined));
  const answered = answers.every((answer) => answer?.devices.length > 0 || answer?.reason.length > 0);
  const times = answers.map((answer) => answer?.milliseconds ?? NaN).sort((a, b) => a - b);
  const detail = `median ${times[LOADS >> 1].toFixed(1)} ms; ${answers[0]?.devices[0]?.model ?? answers[0]?.reason}`;
  note('the addon loads, with or without a driver', answered, detail);
}

if (run('nvcc', ['--version']).error !== undefined) {
  counts.skipped++;
  console.log('SKIP CUDA build: nvcc is not installed');
} else {
  const log = build();
  if (log !== undefined) checkKernels(log);
  if (existsSync(addon)) checkAddon();
}

console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
