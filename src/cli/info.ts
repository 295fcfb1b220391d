import { freemem, totalmem } from 'node:os';
import { type AddonSource, findAddon } from '../addon.ts';
import { EngineError } from '../errors.ts';
import type { CpuDevice, CudaDevice } from '../native.ts';
import { type Command, printJson } from './command.ts';
import { HELP_FLAG, helpOf, JSON_FLAG, readFlags } from '../flags.ts';
import { packageVersion } from './package.ts';

const FLAGS = { ...JSON_FLAG, ...HELP_FLAG } as const;

type Device = ({ readonly name: string } & CpuDevice) | CudaDevice;

interface Found {
  readonly path: string;
  readonly source: AddonSource;
  readonly version: string;
  readonly reason: null;
}

interface Missing {
  readonly path: null;
  readonly reason: string;
}

interface Info {
  readonly version: string;
  readonly commit: string | null;
  readonly node: string;
  readonly platform: string;
  readonly addon: Found | Missing;
  readonly devices: readonly Device[];
  /** Why a device that others have is not there. */
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
  readonly memory: { readonly totalBytes: number; readonly freeBytes: number };
}

export const info: Command = {
  summary: 'version, devices, instruction sets, memory, and which addon was loaded',
  help: `Usage: baton info [--json]

${helpOf(FLAGS)}`,

  async run(args) {
    const { json } = readFlags(args, FLAGS);
    const found = collect();
    if (json) printJson(found);
    else console.log(describe(found));
    return found.addon.path === null ? 1 : 0;
  },
};

function collect(): Info {
  const machine = {
    version: packageVersion(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    memory: { totalBytes: totalmem(), freeBytes: freemem() },
  };
  try {
    const { addon, path, source } = findAddon();
    const cuda = addon.cuda();
    const missing = cuda.devices.length > 0 ? [] : [{ name: 'cuda', reason: cuda.reason }];
    const devices = [{ name: 'cpu', ...addon.cpu() }, ...cuda.devices];
    const { commit, version } = addon;
    return { ...machine, commit, addon: { path, source, version, reason: null }, devices, missing };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { ...machine, commit: null, addon: { path: null, reason: error.message }, devices: [], missing: [] };
  }
}

/** Why this file and no other. */
const SOURCES: Readonly<Record<AddonSource, string>> = {
  build: 'compiled here, which goes before the published one',
  prebuild: 'published with the package',
  BATON_LLM_PREBUILD: 'named by BATON_LLM_PREBUILD',
  'beside node': 'found beside node',
};

function detailsOf(device: Device): string {
  if ('isas' in device) return `${device.cores} cores, ${device.isas.join(' ')}`;
  const { capability, multiprocessors, bytes } = device;
  return `capability ${capability}, ${multiprocessors} multiprocessors, ${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function describe({ version, commit, node, platform, addon, devices, missing, memory }: Info): string {
  const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return [
    `baton    ${version}${commit === null ? '' : `, commit ${commit}`}`,
    `node     ${node}, ${platform}`,
    `addon    ${addon.path === null ? `none: ${addon.reason}` : `${SOURCES[addon.source]}: ${addon.path}`}`,
    ...devices.map((device) => `${device.name.padEnd(8)} ${device.model}, ${detailsOf(device)}`),
    ...missing.map(({ name, reason }) => `${name.padEnd(8)} none: ${reason}`),
    `memory   ${gigabytes(memory.totalBytes)}, ${gigabytes(memory.freeBytes)} free`,
  ].join('\n');
}
