const WIDTH = 30; // characters of the bar
const FRAME_MS = 60;
const LINE_MS = 5000; // between plain lines, where stderr is no terminal

/** A bar on stderr that is redrawn in place; now and then a plain line where there is no terminal. */
export class Progress {
  readonly #label: string;
  #shownAt = performance.now();
  #drawn = false;

  constructor(label: string) {
    this.#label = label;
  }

  /** `share` from 0 to 1. */
  show(share: number, note = ''): void {
    const terminal = process.stderr.isTTY === true;
    const now = performance.now();
    if (now - this.#shownAt < (terminal ? FRAME_MS : LINE_MS)) return;
    this.#shownAt = now;
    const percent = `${Math.floor(share * 100)} %`.padStart(5);
    if (!terminal) {
      process.stderr.write(`${this.#label}${percent} ${note}\n`);
      return;
    }
    const full = Math.round(share * WIDTH);
    const bar = '█'.repeat(full) + '░'.repeat(WIDTH - full);
    process.stderr.write(`\r\x1b[K${this.#label} ${bar}${percent} ${note}`);
    this.#drawn = true;
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#drawn) process.stderr.write('\r\x1b[K');
    this.#drawn = false;
  }
}
