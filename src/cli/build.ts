import { accessSync, constants } from 'node:fs';
import { join, resolve } from 'node:path';
import { openAddon } from '../addon.ts';
import type { Command } from './command.ts';
import { compileAddon } from './compile.ts';
import { HELP_FLAG, helpOf, readFlags, UsageError } from '../flags.ts';
import { PACKAGE } from './package.ts';

const CUDA_MODES = ['auto', 'on', 'off'];

const FLAGS = {
  cuda: { type: 'text', value: 'MODE', help: 'auto (default: where a working nvcc is found), on or off' },
  out: { type: 'text', value: 'DIR', help: 'where to, instead of the package: then set BATON_LLM_PREBUILD=DIR' },
  ...HELP_FLAG,
} as const;

export const build: Command = {
  summary: 'compiles the native addon here, where no published one fits',
  help: `Usage: baton build [--cuda MODE] [--out DIR]

The addon it makes goes before the published one.

${helpOf(FLAGS)}`,

  async run(args) {
    const { cuda = 'auto', out } = readFlags(args, FLAGS);
    if (!CUDA_MODES.includes(cuda)) {
      throw new UsageError(`--cuda: expected auto, on or off, got ${JSON.stringify(cuda)}`);
    }
    const place = out === undefined ? PACKAGE : resolve(out);
    if (out === undefined) requireWritable(place);
    const folder = join(place, 'build', 'Release');
    // A user's compiler may be newer than any that was tried, and warn of more.
    compileAddon(folder, [`--CDBATON_CUDA=${cuda.toUpperCase()}`, '--CDBATON_WERROR=OFF']);
    const { path } = openAddon(join(place, '/'));
    console.log(`built ${path}${out === undefined ? '' : `; to use it, set BATON_LLM_PREBUILD=${place}`}`);
    return 0;
  },
};

function requireWritable(folder: string): void {
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    throw new Error(`expected to write to ${folder}, which this user may not; --out DIR builds elsewhere`);
  }
}
