// npm run prebuilds: prebuilds/<platform>-<arch>/baton.node, the addons that are published, each checked for what it
// asks of the machine it will run on. For this machine that is the addon of `npm run build`: what was tested is what
// ships. For arm64 it is built on x64 with Debian's cross compiler, without CUDA. The symbols lie in build/symbols.
//
//   --target=linux-arm64   only this one, not all that can be built here
//   --cuda=ON              for this machine, AUTO (where a working nvcc is found), ON or OFF
//   --check=FILE           builds nothing, only looks at this file

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readElf } from './elf.mjs';

/** Of Debian 12, Ubuntu 22.04 and RHEL 9, and what came later. src/addon.ts says so where it is older. */
const NEWEST_GLIBC = [2, 34];
const LIBRARIES = /^(libc|libm|libdl|libpthread|librt|ld-linux-(x86-64|aarch64))\.so\.\d+$/;
const EXPORTED = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];
const CROSS_COMPILER = 'aarch64-linux-gnu-g++';
const CROSS_TARGET = 'linux-arm64';

const root = fileURLToPath(new URL('..', import.meta.url));
const host = `${process.platform}-${process.arch}`;

/** Why this file may not be published for `target`. */
function faultsOf(path, target) {
  let elf;
  try {
    elf = readElf(readFileSync(path));
  } catch (error) {
    return [error.message];
  }
  const isNewer = (version) => {
    const [major, minor = 0] = version.replace('GLIBC_', '').split('.').map(Number);
    return major > NEWEST_GLIBC[0] || (major === NEWEST_GLIBC[0] && minor > NEWEST_GLIBC[1]);
  };
  const machine = target.split('-')[1];
  const isForeign = (version) => !/^GLIBC_[\d.]+$/.test(version);
  const list = (names) => names.join(', ');
  const faults = [
    [elf.machine !== machine, `is for ${elf.machine}, not for ${machine}`],
    [!elf.shared, 'is no shared library'],
    [elf.needed.some((name) => !LIBRARIES.test(name)), `needs libraries besides glibc: ${list(elf.needed)}`],
    [elf.versions.some(isForeign), `needs symbols that are not glibc's: ${list(elf.versions.filter(isForeign))}`],
    [
      elf.versions.some((version) => !isForeign(version) && isNewer(version)),
      `needs a glibc newer than ${NEWEST_GLIBC.join('.')}: ${list(elf.versions.filter(isNewer))}`,
    ],
    [
      list(elf.exported.toSorted()) !== list(EXPORTED),
      `expected to export ${list(EXPORTED)} alone, got ${list(elf.exported)}`,
    ],
    [elf.runPaths.length > 0, `looks for libraries in folders of its own: ${list(elf.runPaths)}`],
    [elf.executableStack, 'asks for an executable stack'],
    [elf.writesCode, 'has relocations in its code'],
    [!elf.relro, 'leaves its relocated tables writable (no RELRO)'],
    [!elf.bindNow, 'leaves its table of functions writable (no BIND_NOW)'],
  ];
  return faults.filter(([found]) => found).map(([, fault]) => fault);
}

function run(command, args) {
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
}

/** The folder in which the addon lies once it is built; undefined if that failed. */
function buildHere() {
  const how = options.cuda === undefined ? '--if-stale' : `--cuda=${options.cuda}`;
  return run(process.execPath, ['scripts/build.mjs', how]) ? join(root, 'build', 'Release') : undefined;
}

function buildAcross() {
  const folder = join(root, 'build', 'arm64');
  const configured = run('cmake', [
    ...['-S', '.', '-B', folder, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release', '-DBATON_CUDA=OFF'],
    ...['-DCMAKE_SYSTEM_NAME=Linux', '-DCMAKE_SYSTEM_PROCESSOR=aarch64', `-DCMAKE_CXX_COMPILER=${CROSS_COMPILER}`],
  ]);
  return configured && run('cmake', ['--build', folder, '-j2']) ? folder : undefined;
}

/** Builds, checks and places one addon; whether it may be published. */
function make(target) {
  const folder = target === host ? buildHere() : buildAcross();
  if (folder === undefined) return false;
  const built = join(folder, 'baton.node');
  if (!report(built, target)) return false;

  const place = join(root, 'prebuilds', target);
  const symbols = join(root, 'build', 'symbols', target);
  for (const made of [place, symbols]) mkdirSync(made, { recursive: true });
  copyFileSync(built, join(place, 'baton.node'));
  chmodSync(join(place, 'baton.node'), 0o644);
  if (existsSync(`${built}.debug`)) copyFileSync(`${built}.debug`, join(symbols, 'baton.node.debug'));
  return true;
}

function report(path, target) {
  const faults = faultsOf(path, target);
  for (const fault of faults) console.log(`FAIL ${target} ${fault}`);
  if (faults.length === 0) console.log(`ok   ${target} ${(statSync(path).size / 1e6).toFixed(1)} MB`);
  return faults.length === 0;
}

/** What can be built here. */
function findTargets() {
  const crossing = host === 'linux-x64' && spawnSync(CROSS_COMPILER, ['--version'], { stdio: 'ignore' }).status === 0;
  if (!crossing) console.log(`SKIP ${CROSS_TARGET}: ${CROSS_COMPILER} is not installed`);
  return crossing ? [host, CROSS_TARGET] : [host];
}

const { values: options } = parseArgs({
  options: { target: { type: 'string' }, cuda: { type: 'string' }, check: { type: 'string' } },
});
const target = options.target ?? host;
if (!['linux-x64', 'linux-arm64'].includes(target) || (target !== host && target !== CROSS_TARGET)) {
  console.error(`prebuild: expected linux-x64 or linux-arm64, and from arm64 no other, got ${target}`);
  process.exitCode = 1;
} else if (options.check !== undefined) {
  process.exitCode = report(options.check, target) ? 0 : 1;
} else {
  const made = (options.target === undefined ? findTargets() : [target]).map(make);
  process.exitCode = made.every(Boolean) ? 0 : 1;
}
