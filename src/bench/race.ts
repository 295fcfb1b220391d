import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Answer, Order } from './contender.ts';

/** A contender and what it shall do: its module, which exports `open`, and its setting. */
export interface Entry {
  readonly name: string;
  readonly module: URL;
  readonly setting: unknown;
}

export interface RaceOptions {
  /** Counted rounds. */
  readonly rounds: number;
  /** Rounds before them, which nobody counts; 1 unless given. */
  readonly warmups?: number;
  /** No round begins later than so long after the first counted one; one is always played. No limit unless given. */
  readonly budgetMs?: number;
  /** How long one order may take before its process is ended. */
  readonly timeoutMs?: number;
  readonly onRound?: (name: string, round: number) => void;
}

/** What came of one contender. One that failed has fewer rounds than were asked for. */
export interface Finish<Round> {
  readonly name: string;
  readonly rounds: readonly Round[];
  readonly error?: string;
}

const TIMEOUT_MS = 20 * 60_000;
const ERROR_LINES = 12; // of what a process said before it ended

/**
 * Lets contenders take turns, each in a process of its own: all meet the same machine, and none the garbage, heap or
 * caches of another. Who begins changes from round to round. One that fails leaves the others running.
 */
export async function race<Round>(entries: readonly Entry[], options: RaceOptions): Promise<Finish<Round>[]> {
  const { rounds, warmups = 1, budgetMs = Infinity, timeoutMs = TIMEOUT_MS, onRound } = options;
  const runners = entries.map((entry) => new Runner<Round>(entry, timeoutMs));
  try {
    for (const runner of runners) await runner.open();
    let begin = 0;
    for (let round = -warmups; round < rounds; round++) {
      if (round === 0) begin = performance.now();
      if (round > 0 && performance.now() - begin >= budgetMs) break;
      for (let turn = 0; turn < runners.length; turn++) {
        const runner = runners[(turn + warmups + round) % runners.length]!;
        if (!(await runner.play(round >= 0))) continue;
        onRound?.(runner.entry.name, round);
      }
    }
  } finally {
    await Promise.all(runners.map((runner) => runner.close()));
  }
  return runners.map(({ entry: { name }, rounds, error }) => ({ name, rounds, ...(error && { error }) }));
}

class Runner<Round> {
  readonly rounds: Round[] = [];
  error: string | undefined;
  readonly #process: ChildProcess;
  readonly #exited: Promise<void>;
  #said = '';
  #answer: ((answer: Answer) => void) | undefined;

  constructor(
    readonly entry: Entry,
    readonly timeoutMs: number,
  ) {
    const own = import.meta.url;
    const file = fileURLToPath(new URL(`./contender-process${own.slice(own.lastIndexOf('.'))}`, own));
    this.#process = fork(file, { serialization: 'advanced', stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    const hear = (text: Buffer) => (this.#said = (this.#said + text.toString()).slice(-8192));
    this.#process.stdout!.on('data', hear);
    this.#process.stderr!.on('data', hear);
    this.#process.on('message', (answer: Answer) => this.#answer?.(answer));
    this.#exited = new Promise((resolve) => {
      this.#process.on('close', (code, signal) => {
        const last = this.#said.trimEnd().split('\n').slice(-ERROR_LINES).join('\n');
        this.#answer?.({ error: `ended ${signal === null ? `with exit code ${code}` : `by ${signal}`}\n${last}` });
        resolve();
      });
    });
  }

  async open(): Promise<void> {
    await this.#ask({ kind: 'open', module: this.entry.module.href, setting: this.entry.setting });
  }

  /** Whether it played. */
  async play(counted: boolean): Promise<boolean> {
    if (this.error !== undefined) return false;
    const answer = await this.#ask({ kind: 'play' });
    if (answer === undefined) return false;
    if (counted) this.rounds.push(answer as Round);
    return true;
  }

  async close(): Promise<void> {
    if (this.error === undefined) await this.#ask({ kind: 'close' });
    if (this.error !== undefined) this.#process.kill('SIGKILL');
    await this.#exited;
  }

  async #ask(order: Order): Promise<unknown> {
    if (this.error !== undefined) return undefined;
    let timer: NodeJS.Timeout | undefined;
    const answer = await new Promise<Answer>((resolve) => {
      this.#answer = resolve;
      timer = setTimeout(() => resolve({ error: `no answer to ${order.kind} in ${this.timeoutMs} ms` }), this.timeoutMs);
      if (this.#process.exitCode === null && this.#process.signalCode === null) this.#process.send(order);
      else resolve({ error: `its process ended before ${order.kind}` });
    });
    clearTimeout(timer);
    this.#answer = undefined;
    if (!('error' in answer)) return answer.round;
    this.error = answer.error;
    return undefined;
  }
}
