import { type Flags, type FlagValues, HELP_FLAG, helpOf, JSON_FLAG, readFlags, UsageError } from '../flags.ts';
import { nearestName } from '../options.ts';
import { record, writeRecord } from './record.ts';

/** An experiment that ships with the package: one command of `baton bench` and of `npm run bench`. */
export interface Bench {
  /** One line: what it measures. */
  readonly summary: string;
  /** Everything `--help` prints. */
  readonly help: string;
  /** Reads the arguments behind its name, measures, prints, writes; answers with the exit code. */
  run(args: readonly string[], onProgress?: OnProgress): Promise<number>;
}

/** How far it is, from 0 to 1, and what it is at. */
export type OnProgress = (share: number, note: string) => void;

/** What came of an experiment. */
export interface Findings {
  /** Of everything random; none where nothing is. */
  readonly seed?: number;
  readonly results: readonly object[];
  /** What a person reads on stdout. */
  readonly text: string;
  /** What could not be measured, or proved wrong: told on stderr, with exit code 1. The results are kept. */
  readonly failures?: readonly string[];
}

/** An experiment, before it is a command. */
export interface BenchDescription<F extends Flags> {
  /** As behind `baton bench`, and the experiment of the records it makes. */
  readonly name: string;
  readonly summary: string;
  /** What it does and how long that takes by default, in a paragraph or two. */
  readonly about: string;
  readonly flags: F;
  run(values: FlagValues<F>, onProgress: OnProgress): Promise<Findings>;
}

const OUTPUT_FLAGS = {
  out: { type: 'text', value: 'FILE.json', help: 'writes the figures there, and where they come from' },
  ...JSON_FLAG,
  ...HELP_FLAG,
} as const satisfies Flags;

/** Makes an experiment a command: `--json`, `--out` and `--help` are the same for all. */
export function bench<F extends Flags>(description: BenchDescription<F>): Bench {
  const { name, summary, about, flags } = description;
  const all = { ...flags, ...OUTPUT_FLAGS };
  return {
    summary,
    help: `Usage: baton bench ${name} [options]\n\n${about}\n\n${helpOf(all)}`,

    async run(args, onProgress = () => {}) {
      const values = readFlags(args, all);
      const { json, out } = values as FlagValues<typeof OUTPUT_FLAGS>;
      const { text, failures = [], ...found } = await description.run(values as FlagValues<F>, onProgress);
      const command = ['baton bench', name, ...args.map(quoted)].join(' ');
      const made = record({ experiment: name, command, ...found });
      if (out !== undefined) writeRecord(out, made);
      process.stdout.write(json === true ? `${JSON.stringify(made, null, 2)}\n` : `${text.trimEnd()}\n`);
      for (const failure of failures) process.stderr.write(`baton: ${failure}\n`);
      return failures.length > 0 ? 1 : 0;
    },
  };
}

/** An argument as a shell takes it back. */
function quoted(argument: string): string {
  return /^[\w.,:/=+@%-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** The names of a comma-separated flag, all of them known. Throws UsageError. */
export function readNames<Name extends string>(flag: string, text: string, known: readonly Name[]): Name[] {
  return text.split(',').map((name) => {
    const found = known.find((one) => one === name);
    if (found !== undefined) return found;
    const nearest = nearestName(name, known);
    const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`;
    throw new UsageError(`--${flag}: expected ${known.join(', ')}, got ${JSON.stringify(name)}${hint}`);
  });
}

/** The integers of a comma-separated flag. Throws UsageError. */
export function readIntegers(flag: string, text: string, least: number, most: number): number[] {
  return readNumbers(flag, text, least, most).map((one) => readInteger(flag, one, least, most));
}

/** The numbers of a comma-separated flag. Throws UsageError. */
export function readNumbers(flag: string, text: string, least: number, most: number): number[] {
  return text.split(',').map((one) => {
    const value = one.trim() === '' ? NaN : Number(one);
    if (value >= least && value <= most) return value;
    throw new UsageError(`--${flag}: expected numbers from ${least} to ${most}, got ${JSON.stringify(one)}`);
  });
}

/** Throws UsageError unless `value` is an integer from `least` to `most`. */
export function readInteger(flag: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`--${flag}: expected an integer from ${least} to ${most}, got ${value}`);
}

/** Lines of a table: columns as wide as they need to be, numbers to the right. */
export function tableOf(rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map(String));
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const rightwards = widths.map((_, column) => rows.slice(1).some((row) => typeof row[column] === 'number'));
  return cells
    .map((row) => {
      const padded = row.map((cell, i) => (rightwards[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
      return `${padded.join('  ').trimEnd()}\n`;
    })
    .join('');
}
