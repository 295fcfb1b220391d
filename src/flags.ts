import { parseArgs } from 'node:util';
import { nearestName, POLICIES } from './options.ts';

/** The command line was wrong: exit code 2, and a word about `--help`. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** One flag, as `--help` shows it and as it is read. */
export interface Flag {
  readonly type: 'text' | 'number' | 'switch' | 'texts';
  /** What stands for the value in the help, in capitals. */
  readonly value?: string;
  readonly help: string;
}

export type Flags = Readonly<Record<string, Flag>>;

export type FlagValues<F extends Flags> = {
  readonly [Name in keyof F]?: {
    text: string;
    number: number;
    switch: boolean;
    texts: string[];
  }[F[Name]['type']];
};

export const MODEL_FLAG = {
  model: { type: 'text', value: 'DIR', help: 'model folder; default: the embedded tales' },
} as const;
export const JSON_FLAG = { json: { type: 'switch', help: 'one JSON document on stdout, nothing else there' } } as const;
export const HELP_FLAG = { help: { type: 'switch', help: 'this text' } } as const;

/** Load options that every command with a model takes; the names are those of the library in kebab-case. */
export const LOAD_FLAGS = {
  device: { type: 'text', value: 'NAME', help: 'auto, cpu, cuda or cuda:N' },
  weights: { type: 'text', value: 'FORMAT', help: 'auto, f32, bf16 or int8' },
  kv: { type: 'text', value: 'FORMAT', help: 'auto, f32 or bf16' },
  'kv-bytes': { type: 'number', value: 'BYTES', help: 'memory for keys and values' },
  'park-bytes': { type: 'number', value: 'BYTES', help: 'host memory for those of preempted requests' },
  'max-context': { type: 'number', value: 'N', help: 'most tokens of one request' },
  rows: { type: 'number', value: 'N', help: 'requests that decode together' },
  threads: { type: 'number', value: 'N', help: 'threads; 0: as many as there are free cores' },
  policy: { type: 'text', value: 'NAME', help: POLICIES.join(', ') },
  admission: { type: 'text', value: 'NAME', help: 'optimistic or reserve' },
  isa: { type: 'text', value: 'NAME', help: 'auto, amx, avx512, avx2, neon or scalar' },
} as const satisfies Flags;

/** Request options, likewise. */
export const REQUEST_FLAGS = {
  'max-tokens': { type: 'number', value: 'N', help: 'most tokens to generate; default: the rest of the context' },
  'min-tokens': { type: 'number', value: 'N', help: 'no end token before so many' },
  temperature: { type: 'number', value: 'T', help: '0 to 2; 0: greedy; default: what the model advises' },
  'top-p': { type: 'number', value: 'P', help: 'above 0, to 1; 1: off' },
  'top-k': { type: 'number', value: 'K', help: '0: off' },
  'min-p': { type: 'number', value: 'P', help: '0 to 1; 0: off' },
  'repetition-penalty': { type: 'number', value: 'X', help: 'above 0; 1: off' },
  'presence-penalty': { type: 'number', value: 'X', help: '-2 to 2; 0: off' },
  'frequency-penalty': { type: 'number', value: 'X', help: '-2 to 2; 0: off' },
  seed: { type: 'number', value: 'N', help: 'for the same text again; default: random' },
  stop: { type: 'texts', value: 'TEXT', help: 'ends the text in front of it; may be given up to 16 times' },
  'ignore-eos': { type: 'switch', help: "go on after the model's end token" },
} as const satisfies Flags;

/** Reads the arguments of a command. Throws UsageError. */
export function readFlags<F extends Flags>(args: readonly string[], flags: F): FlagValues<F> {
  return readParts(args, flags, false).values;
}

/** Of a command that takes files, or whatever else has no flag, too. */
export function readArguments<F extends Flags>(
  args: readonly string[],
  flags: F,
): { readonly values: FlagValues<F>; readonly positionals: readonly string[] } {
  return readParts(args, flags, true);
}

function readParts<F extends Flags>(args: readonly string[], flags: F, allowPositionals: boolean) {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { type }]) => [
      name,
      { type: type === 'switch' ? ('boolean' as const) : ('string' as const), multiple: type === 'texts' },
    ]),
  );
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options, strict: true, allowPositionals });
  } catch (error) {
    throw new UsageError(explain(error as Error, Object.keys(flags)));
  }
  const { values, positionals } = parsed;
  for (const [name, value] of Object.entries(values)) {
    if (flags[name]?.type === 'number') values[name] = readNumber(name, value as string);
  }
  return { values: values as FlagValues<F>, positionals };
}

function readNumber(name: string, text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (Number.isNaN(value)) throw new UsageError(`--${name}: expected a number, got ${JSON.stringify(text)}`);
  return value;
}

/** Node's message, with the nearest flag where one was misspelt. */
function explain({ message }: Error, names: readonly string[]): string {
  const unknown = /^Unknown option '--?([^']*)'/.exec(message)?.[1];
  if (unknown === undefined) return message;
  const nearest = nearestName(unknown, names);
  return `unknown option --${unknown}${nearest === undefined ? '' : `; did you mean --${nearest}?`}`;
}

/** Given flags as the library's options: `max-tokens` is `maxTokens`. */
export function toOptions(values: Readonly<Record<string, unknown>>, flags: Flags): Record<string, unknown> {
  const given = Object.keys(flags).filter((name) => values[name] !== undefined);
  const camel = (name: string) => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(given.map((name) => [camel(name), values[name]]));
}

export function helpOf(flags: Flags): string {
  const left = Object.entries(flags).map(([name, { value = '' }]) => `--${name} ${value}`.trimEnd());
  const width = Math.max(...left.map((text) => text.length));
  return Object.values(flags)
    .map(({ help }, i) => `  ${(left[i] ?? '').padEnd(width)}  ${help}`)
    .join('\n');
}
