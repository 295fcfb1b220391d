// A time limit, and a file of what was checked that is whole after every check.

import { writeFileSync } from 'node:fs';

/** What was claimed, and what was found. `ok` is null where there was no time for it. */
export interface Check {
  readonly name: string;
  readonly ok: boolean | null;
  readonly detail: string;
  readonly seconds: number;
}

/** Thrown by a check that the end of the time kept from saying either. */
export class OutOfTime extends Error {}

/** They are on disk as soon as they are known: the program may be ended any time. */
export class Trial {
  readonly checks: Check[] = [];
  readonly #file: string | undefined;
  readonly #end: number;
  readonly #facts: object;

  constructor(file: string | undefined, seconds: number, facts: object = {}) {
    this.#file = file;
    this.#end = performance.now() + 1000 * seconds;
    this.#facts = facts;
    this.#write();
  }

  get secondsLeft(): number {
    return (this.#end - performance.now()) / 1000;
  }

  get failed(): boolean {
    return this.checks.some(({ ok }) => ok === false);
  }

  /** Runs one check, which throws or answers with what it found. A check that fails ends no other. */
  async check(name: string, run: () => Promise<string>): Promise<void> {
    const start = performance.now();
    let ok: boolean | null = null;
    let detail = 'the time is over';
    if (this.secondsLeft > 0) {
      try {
        detail = await run();
        ok = true;
      } catch (error) {
        detail = (error as Error).message;
        ok = error instanceof OutOfTime ? null : false;
      }
    }
    const seconds = (performance.now() - start) / 1000;
    this.checks.push({ name, ok, detail, seconds });
    console.log(`${ok === null ? 'SKIP' : ok ? 'ok  ' : 'FAIL'} ${name}: ${detail} (${seconds.toFixed(1)} s)`);
    this.#write();
  }

  #write(): void {
    if (this.#file === undefined) return;
    writeFileSync(this.#file, JSON.stringify({ ...this.#facts, checks: this.checks }));
  }
}
