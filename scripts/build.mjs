// npm run build: the addon (cmake-js) and dist/ (tsc).
//
//   --if-stale            only what is older than its sources
//   --debug               the addon with asserts, in build/Debug; found in place of the release one until the next build
//   --sanitize=address    only an addon that checks itself, in build/Sanitize (also: undefined, thread)

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({
  options: {
    'if-stale': { type: 'boolean', default: false },
    debug: { type: 'boolean', default: false },
    sanitize: { type: 'string' },
  },
});

/** A build that did not succeed, and why, for whoever started it. */
class BuildError extends Error {}

function run(what, args) {
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) throw new BuildError(`${what} failed`);
}

function installed(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

function requireTools() {
  if (!existsSync(join(root, 'node_modules'))) throw new BuildError('expected the packages to be installed: npm ci');
  const missing = [];
  if (!installed('cmake')) missing.push('CMake');
  const compilers = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean);
  if (!compilers.some(installed)) missing.push('a C++ compiler');
  if (missing.length === 0) return;
  throw new BuildError(
    `${missing.join(' and ')} not found. To install what the addon is built with:\n` +
      '  Debian, Ubuntu   apt-get install g++ cmake ninja-build\n' +
      '  Fedora           dnf install gcc-c++ cmake ninja-build\n' +
      '  macOS            xcode-select --install && brew install cmake ninja',
  );
}

/** When anything in these files and folders last changed; a folder changes when a file in it comes or goes. */
function changedAt(paths) {
  return Math.max(
    ...paths.map((name) => {
      const path = join(root, name);
      const status = statSync(path);
      const inside = status.isDirectory() ? readdirSync(path).map((entry) => join(name, entry)) : [];
      return Math.max(status.mtimeMs, inside.length > 0 ? changedAt(inside) : 0);
    }),
  );
}

/** Runs `make` unless its last success, noted in build/NAME.stamp, is newer than the sources and `made` is there. */
function buildStale(name, sources, made, make) {
  const stamp = join(root, 'build', `${name}.stamp`);
  const fresh = existsSync(stamp) && existsSync(join(root, made)) && statSync(stamp).mtimeMs >= changedAt(sources);
  if (values['if-stale'] && fresh) return;
  const begin = new Date(); // not the end: what is changed meanwhile is stale again
  make();
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(stamp, '');
  utimesSync(stamp, begin, begin);
  console.log(`built ${made} in ${((Date.now() - begin.getTime()) / 1000).toFixed(1)} s`);
}

/** `folder` ends with the configuration's name, so cmake-js puts the addon right into it. */
function buildAddon(folder, ...flags) {
  requireTools();
  const cmakeJs = join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js');
  const where = ['--out', join(root, folder), '--log-level', 'warn', ...flags];
  run('configuring the addon', [cmakeJs, 'configure', ...where]);
  run('compiling the addon', [cmakeJs, 'build', '--parallel', String(availableParallelism()), ...where]);
}

function buildDist() {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run('compiling TypeScript', [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json']);
}

const NATIVE = ['native', 'CMakeLists.txt', 'package.json', 'package-lock.json'];

try {
  if (values.sanitize !== undefined) {
    buildAddon('build/Sanitize', `--CDBATON_SANITIZE=${values.sanitize}`, '--CDBATON_CUDA=OFF');
  } else if (values.debug) {
    buildAddon('build/Debug', '--debug');
    rmSync(join(root, 'build/Release/baton.node'), { force: true });
  } else {
    buildStale('addon', NATIVE, 'build/Release/baton.node', () => buildAddon('build/Release'));
  }
  if (values.sanitize === undefined) {
    buildStale(
      'dist',
      ['src', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'],
      'dist/index.js',
      buildDist,
    );
  }
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`build: ${error.message}`);
  process.exitCode = 1;
}
