import { freemem, totalmem } from 'node:os';
import { addonPath, loadAddon } from '../addon.ts';
import { EngineError } from '../errors.ts';
import type { CpuDevice } from '../native.ts';
import { type Command, printJson } from './command.ts';
import { HELP_FLAG, helpOf, JSON_FLAG, readFlags } from './flags.ts';
import { packageVersion } from './package.ts';

const FLAGS = { ...JSON_FLAG, ...HELP_FLAG } as const;

interface Info {
  readonly version: string;
  readonly commit: string | null;
  readonly node: string;
  readonly platform: string;
  readonly addon: { readonly path: string | null; readonly reason: string | null };
  readonly devices: readonly ({ readonly name: string } & CpuDevice)[];
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
    missing: [{ name: 'cuda', reason: 'this build has no CUDA backend' }],
    memory: { totalBytes: totalmem(), freeBytes: freemem() },
  };
  try {
    const addon = loadAddon();
    const devices = [{ name: 'cpu', ...addon.cpu() }];
    return { ...machine, commit: addon.commit, addon: { path: addonPath(), reason: null }, devices };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { ...machine, commit: null, addon: { path: null, reason: error.message }, devices: [] };
  }
}

function describe({ version, commit, node, platform, addon, devices, missing, memory }: Info): string {
  const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return [
    `baton    ${version}${commit === null ? '' : `, commit ${commit}`}`,
    `node     ${node}, ${platform}`,
    `addon    ${addon.path ?? addon.reason}`,
    ...devices.map(({ name, model, cores, isas }) => `${name.padEnd(8)} ${model}, ${cores} cores, ${isas.join(' ')}`),
    ...missing.map(({ name, reason }) => `${name.padEnd(8)} none: ${reason}`),
    `memory   ${gigabytes(memory.totalBytes)}, ${gigabytes(memory.freeBytes)} free`,
  ].join('\n');
}
