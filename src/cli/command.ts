import type { LoadOptions } from '../options.ts';
import { Engine, type EngineHooks } from '../engine.ts';
import { Progress } from './progress.ts';

/** A subcommand. `run` gets the arguments behind its name and answers with the exit code. */
export interface Command {
  readonly summary: string;
  /** Everything `--help` prints. */
  readonly help: string;
  /** Commands behind its name: `baton NAME COMMAND`. It runs itself where none is named. */
  readonly commands?: Readonly<Record<string, Command>>;
  run(args: readonly string[]): Promise<number>;
}

/** Loads a model with a progress bar on stderr. */
export async function loadEngine(folder: string, options: LoadOptions, hooks?: EngineHooks): Promise<Engine> {
  const progress = new Progress('loading');
  try {
    return await Engine.load(folder, { ...options, onProgress: (share) => progress.show(share) }, hooks);
  } finally {
    progress.end();
  }
}

/** Text of a model on stdout. On a terminal without its control characters, which could move the cursor or worse. */
export function printText(text: string): void {
  process.stdout.write(process.stdout.isTTY === true ? withoutControls(text) : text);
}

export function withoutControls(text: string): string {
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '\uFFFD');
}

/** The one JSON document of `--json`. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}
