import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { EngineError } from '../errors.ts';
import { HELP_FLAG, helpOf, readArguments, UsageError } from '../flags.ts';
import { type Assets, documentOf } from '../report/document.ts';
import { EXPERIMENTS, readEvidence } from '../report/evidence.ts';
import type { Command } from './command.ts';
import { PACKAGE } from './package.ts';

const FLAGS = {
  out: { type: 'text', value: 'FILE.html', help: 'where the page goes; default report.html' },
  ...HELP_FLAG,
} as const;

export const report: Command = {
  summary: 'one page of HTML from files of results',
  help: `Usage: baton report FILE.json... [--out report.html]

Files that baton bench ${EXPERIMENTS.join('|')} wrote with --out, in any number. The page needs no network and no
other file. What no file has figures for is left out, with the command that makes them.

${helpOf(FLAGS)}`,

  async run(args) {
    const { values, positionals: files } = readArguments(args, FLAGS);
    if (files.length === 0) throw new UsageError('expected files of results, got none');
    const { out = 'report.html' } = values;
    const page = documentOf(readEvidence(files), readAssets());
    mkdirSync(dirname(out), { recursive: true });
    writeFileSync(out, page);
    console.log(`${out}: ${Math.ceil(page.length / 1024)} KiB`);
    return 0;
  },
};

/** The script and styles of the page are built, not compiled: they are in dist, wherever this file is. */
function readAssets(): Assets {
  const read = (name: string) => {
    const file = `${PACKAGE}dist/report/page/${name}`;
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      throw new EngineError('INTERNAL', `expected a built package with ${file}: npm run build`, { cause });
    }
  };
  return { script: read('main.js'), style: read('page.css') };
}
