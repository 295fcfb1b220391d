import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { BUILD_TOOLS } from '../addon.ts';
import { env } from '../env.ts';
import { PACKAGE } from './package.ts';

/** What could not be compiled, and why. */
export class CompileError extends Error {
  override readonly name = 'CompileError';
}

/**
 * Compiles the package's addon with cmake-js: `folder`/baton.node. `folder` is named as the configuration, Release or
 * Debug, so that the addon lies right in it.
 */
export function compileAddon(folder: string, flags: readonly string[] = []): void {
  const missing = missingTools();
  if (missing.length > 0) {
    throw new CompileError(`${missing.join(', ')} not found. The addon is built with ${BUILD_TOOLS}`);
  }
  const cmakeJs = join(dirname(createRequire(import.meta.url).resolve('cmake-js/package.json')), 'bin', 'cmake-js');
  const run = (what: string, args: readonly string[]) => {
    const all = [cmakeJs, ...args, '--directory', PACKAGE, '--out', folder, '--log-level', 'warn', ...flags];
    const { status } = spawnSync(process.execPath, all, { cwd: PACKAGE, stdio: ['ignore', 'inherit', 'inherit'] });
    if (status !== 0) throw new CompileError(`${what} the addon failed`);
  };
  run('configuring', ['configure']);
  run('compiling', ['build', '--parallel', String(availableParallelism())]);
}

function missingTools(): string[] {
  const tools: readonly [string, readonly string[]][] = [
    ['CMake', ['cmake']],
    ['Ninja or make', ['ninja', 'make']],
    ['a C++ compiler', [env.cxx ?? '', 'c++', 'g++', 'clang++']],
  ];
  return tools.filter(([, commands]) => !commands.some(installed)).map(([name]) => name);
}

function installed(command: string): boolean {
  return command !== '' && spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}
