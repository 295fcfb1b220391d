import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { env } from './env.ts';
import { EngineError } from './errors.ts';
import type { Addon } from './native.ts';

/** Where an addon came from: compiled here, shipped with the package, or from elsewhere. */
export type AddonSource = 'build' | 'prebuild' | 'BATON_LLM_PREBUILD' | 'beside node';

export interface LoadedAddon {
  readonly addon: Addon;
  readonly path: string;
  readonly source: AddonSource;
}

/** Why a file does not load, and what to do about it. */
interface Fault {
  readonly reason: string;
  readonly remedy: string;
}

/** What `baton build` needs, and what it is called. */
export const BUILD_TOOLS = `CMake 3.22, Ninja or make, and a C++20 compiler (GCC 12 or newer):
  Debian, Ubuntu   apt-get install g++ cmake ninja-build
  Fedora           dnf install gcc-c++ cmake ninja-build
  macOS            xcode-select --install && brew install cmake ninja`;

const BUILD = `compile it here with \`npx baton build\`, which needs ${BUILD_TOOLS}`;

/** How to come by another file. */
const REPLACE: Readonly<Record<AddonSource, string>> = {
  build: 'run `npx baton build` again, or remove the folder `build`',
  prebuild: 'remove the package from node_modules and install it again',
  BATON_LLM_PREBUILD: 'name another folder in BATON_LLM_PREBUILD, or none',
  'beside node': 'remove it',
};

const ELF_MAGIC = 0x7f454c46;
const ELF_HEADER_BYTES = 64;
/** The processor in an ELF header, by Node's name for it. */
const ELF_MACHINES: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

const require = createRequire(import.meta.url);
const home = fileURLToPath(new URL('..', import.meta.url));
const platform = `${process.platform}-${process.arch}`;

let loaded: LoadedAddon | undefined;

/** The native addon, loaded once: from `build/Release/*.node`, else from `prebuilds/<platform>-<arch>/*.node`. */
export function loadAddon(): Addon {
  return findAddon().addon;
}

/** The file that {@link loadAddon} loads. */
export function addonPath(): string {
  return findAddon().path;
}

/** The addon, its file, and why it is that one. */
export function findAddon(): LoadedAddon {
  loaded ??= openAddon(home);
  return loaded;
}

/** @internal `folder`: of the package, with a slash at its end. */
export function openAddon(folder: string): LoadedAddon {
  const path = resolveAddon(folder);
  const source = sourceOf(path, folder);
  const fault = examine(path, source);
  if (fault !== undefined) throw unloadable(path, source, fault);
  try {
    return { addon: require(path) as Addon, path, source };
  } catch (cause) {
    throw unloadable(path, source, explain(cause as Error), cause);
  }
}

function resolveAddon(folder: string): string {
  const nodeGypBuild = require('node-gyp-build') as { resolve(folder: string): string };
  try {
    return resolve(nodeGypBuild.resolve(folder));
  } catch (cause) {
    const place = env.prebuild === undefined ? folder : `${resolve(env.prebuild)}${sep}`;
    const shipped = listFolder(`${place}prebuilds`).join(', ') || 'nothing';
    throw new EngineError(
      'ADDON_MISSING',
      `expected a native addon for ${platform}, found no ${place}build/Release/*.node and no ` +
        `${place}prebuilds/${platform}/*.node (in ${place}prebuilds: ${shipped}). To get it, ${BUILD}`,
      { cause },
    );
  }
}

function listFolder(path: string): readonly string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

function sourceOf(path: string, folder: string): AddonSource {
  if (env.prebuild !== undefined && path.startsWith(resolve(env.prebuild))) return 'BATON_LLM_PREBUILD';
  if (path.startsWith(resolve(folder, 'build'))) return 'build';
  return path.startsWith(resolve(folder, 'prebuilds')) ? 'prebuild' : 'beside node';
}

function unloadable(path: string, source: AddonSource, { reason, remedy }: Fault, cause?: unknown): EngineError {
  const message = `expected a native addon for ${platform}, got ${path} (${source}), which does not load: ${reason}`;
  return new EngineError('ADDON_MISSING', `${message}. To mend it, ${remedy}`, { cause });
}

/** What can be seen before it is loaded: half a file would not fail to load, but end the process. */
function examine(path: string, source: AddonSource): Fault | undefined {
  const remedy = REPLACE[source];
  const header = Buffer.alloc(ELF_HEADER_BYTES);
  let headerBytes: number;
  let bytes: number;
  try {
    const file = openSync(path, 'r');
    try {
      bytes = fstatSync(file).size;
      headerBytes = readSync(file, header);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const denied = code === 'EACCES' || code === 'EPERM';
    if (!denied) return { reason: message, remedy };
    return { reason: message, remedy: 'let this user read it (chmod a+r) and enter the folders above it' };
  }
  const machine = ELF_MACHINES[process.arch];
  if (process.platform !== 'linux' || machine === undefined) return undefined;
  if (headerBytes < ELF_HEADER_BYTES || header.readUInt32BE(0) !== ELF_MAGIC) {
    return { reason: `it is damaged: expected an ELF file, got ${bytes} bytes of something else`, remedy };
  }
  if (header.readUInt16LE(18) !== machine) {
    const name = Object.keys(ELF_MACHINES).find((one) => ELF_MACHINES[one] === header.readUInt16LE(18));
    return { reason: `it is for ${name ?? 'another processor'}, and this Node for ${process.arch}`, remedy };
  }
  // The table of sections is the last thing in the file.
  const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
  if (bytes < end) return { reason: `it is damaged: expected ${end} bytes, got ${bytes}`, remedy };
  return undefined;
}

/** What the system's loader says. It has no codes, only words. */
function explain({ message }: Error): Fault {
  const reason = message.trim().replace(/\s*\n\s*/g, '; ');
  const [, glibc] = /version `GLIBC_([\d.]+)' not found/.exec(message) ?? [];
  if (glibc !== undefined) {
    const present = glibcVersion() ?? 'none';
    return { reason: `it needs glibc ${glibc}, and this system has ${present} (${reason})`, remedy: BUILD };
  }
  if (message.includes('failed to map segment')) {
    const remedy = 'install on a file system that is not mounted noexec, and look whether a security module forbids it';
    return { reason, remedy };
  }
  if (process.platform === 'linux' && glibcVersion() === undefined) {
    return { reason: `it needs glibc, and this system has none (${reason})`, remedy: BUILD };
  }
  return { reason, remedy: BUILD };
}

function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime;
}
