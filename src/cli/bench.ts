import type { Bench } from '../bench/bench.ts';
import { BENCHES } from '../bench/benches.ts';
import { UsageError } from '../flags.ts';
import type { Command } from './command.ts';
import { Progress } from './progress.ts';

const NAMES = Object.keys(BENCHES);
const lines = Object.entries(BENCHES).map(([name, { summary }]) => `  ${name.padEnd(9)} ${summary}`);

export const bench: Command = {
  summary: 'measure: this machine, the policies, other engines, and what grows with what',
  help: `Usage: baton bench ${NAMES.join('|')} [options]

${lines.join('\n')}

Contenders take turns, each in a process of its own. Every experiment prints a table, or with --json one document, and
keeps its figures with --out FILE.json, for baton report. baton bench NAME --help says more.`,
  commands: Object.fromEntries(Object.entries(BENCHES).map(([name, one]) => [name, withProgress(name, one)])),

  async run([name]) {
    throw new UsageError(`expected ${NAMES.join(', ')}, got ${name === undefined ? 'nothing' : JSON.stringify(name)}`);
  },
};

function withProgress(name: string, { summary, help, run }: Bench): Command {
  return {
    summary,
    help,
    async run(args) {
      const progress = new Progress(name);
      try {
        return await run(args, (share, note) => progress.show(share, note));
      } finally {
        progress.end();
      }
    },
  };
}
