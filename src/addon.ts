import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { EngineError } from './errors.ts';
import type { Addon } from './native.ts';

const require = createRequire(import.meta.url);
const home = fileURLToPath(new URL('..', import.meta.url));

let loaded: { readonly addon: Addon; readonly path: string } | undefined;

/** The native addon, loaded once: from `build/Release/*.node`, else from `prebuilds/<platform>-<arch>/*.node`. */
export function loadAddon(): Addon {
  loaded ??= openAddon(home);
  return loaded.addon;
}

/** The file that {@link loadAddon} loads. */
export function addonPath(): string {
  loaded ??= openAddon(home);
  return loaded.path;
}

/** @internal `folder`: of the package, with a slash at its end. */
export function openAddon(folder: string): { readonly addon: Addon; readonly path: string } {
  let path = `${folder}build/Release/*.node and ${folder}prebuilds/${process.platform}-${process.arch}/*.node`;
  try {
    const nodeGypBuild = require('node-gyp-build') as { resolve(folder: string): string };
    path = nodeGypBuild.resolve(folder);
    return { addon: require(path) as Addon, path };
  } catch (cause) {
    const reason = (cause as Error).message.trim().replace(/\s*\n\s*/g, '; ');
    throw new EngineError(
      'ADDON_MISSING',
      `expected a native addon that loads, looked for ${path}: ${reason}. ` +
        `To build it, run \`npx cmake-js build\` in ${folder} (it needs CMake and a C++20 compiler)`,
      { cause },
    );
  }
}
