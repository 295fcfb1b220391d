// npm run build: the addon (cmake-js) and dist/ (tsc; esbuild for the report's page).
//
//   --if-stale            only what is older than its sources
//   --debug               the addon with asserts, in build/Debug; found in place of the release one until the next build
//   --sanitize=address    only an addon that checks itself, in build/Sanitize (also: undefined, thread)
//   --cuda=ON             with the CUDA backend; OFF: without; AUTO (default): where a working nvcc is found

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({
  options: {
    'if-stale': { type: 'boolean', default: false },
    debug: { type: 'boolean', default: false },
    sanitize: { type: 'string' },
    cuda: { type: 'string', default: 'AUTO' },
  },
});

/** A build that did not succeed, and why, for whoever started it. */
class BuildError extends Error {}

function run(what, args) {
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) throw new BuildError(`${what} failed`);
}

function requirePackages() {
  if (!existsSync(join(root, 'node_modules'))) throw new BuildError('expected the packages to be installed: npm ci');
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
async function buildStale(name, sources, made, make) {
  const stamp = join(root, 'build', `${name}.stamp`);
  const fresh = existsSync(stamp) && existsSync(join(root, made)) && statSync(stamp).mtimeMs >= changedAt(sources);
  if (values['if-stale'] && fresh) return;
  const begin = new Date(); // not the end: what is changed meanwhile is stale again
  await make();
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(stamp, '');
  utimesSync(stamp, begin, begin);
  console.log(`built ${made} in ${((Date.now() - begin.getTime()) / 1000).toFixed(1)} s`);
}

async function buildAddon(folder, ...flags) {
  requirePackages();
  const { tsImport } = await import('tsx/esm/api');
  const { compileAddon, CompileError } = await tsImport('../src/cli/compile.ts', import.meta.url);
  try {
    compileAddon(join(root, folder), flags);
  } catch (error) {
    throw error instanceof CompileError ? new BuildError(error.message) : error;
  }
}

async function buildDist() {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run('compiling TypeScript', [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json']);
  const { buildPage } = await import('./page.mjs');
  await buildPage(join(root, 'dist/report/page'));
}

const cuda = `--CDBATON_CUDA=${values.cuda}`;
const NATIVE = ['native', 'CMakeLists.txt', 'package.json', 'package-lock.json'];

try {
  if (values.sanitize !== undefined) {
    await buildAddon('build/Sanitize', `--CDBATON_SANITIZE=${values.sanitize}`, '--CDBATON_CUDA=OFF');
  } else if (values.debug) {
    await buildAddon('build/Debug', '--debug', cuda);
    rmSync(join(root, 'build/Release/baton.node'), { force: true });
  } else {
    await buildStale('addon', NATIVE, 'build/Release/baton.node', () => buildAddon('build/Release', cuda));
  }
  if (values.sanitize === undefined) {
    await buildStale(
      'dist',
      ['src', 'scripts/page.mjs', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'],
      'dist/index.js',
      buildDist,
    );
  }
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`build: ${error.message}`);
  process.exitCode = 1;
}
