import type { StepRecord } from '../loop/loop.ts';

/** The rows of an engine over time: a line per row, a column per stretch of time, a colour per request. */
export interface PictureStyle {
  readonly columns: number;
  readonly msPerColumn: number;
  readonly color: boolean;
}

// Of the 256 colours of terminals: bright enough on black, dark enough on white, neighbours unlike each other.
const COLORS = [33, 208, 35, 161, 98, 178, 37, 203, 71, 69, 172, 133, 30, 167, 64, 62];
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

const EMPTY = -1;

/** Row-time that nobody has reached yet. */
const BLANK = ' ';

/** One line per row. A finished row that is still computed is hatched, an empty one is a dot. */
export function drawPicture(records: readonly StepRecord[], rows: number, style: PictureStyle): string[] {
  const columns = sample(records, style);
  return Array.from({ length: rows }, (_, row) => {
    let line = '';
    let previous = '';
    for (const record of columns) {
      const [color, character] = cellOf(record?.rows[row], style.color);
      if (color !== previous) line += color === '' ? '\x1b[0m' : `\x1b[0m${color}`;
      previous = color;
      line += record === undefined ? BLANK : character;
    }
    return previous === '' ? line : `${line}\x1b[0m`;
  });
}

/** What the signs mean. */
export function legend(color: boolean): string {
  return `a ${color ? 'colour' : 'letter'} per request, ░ a finished row computed for nothing, · an empty row`;
}

/** The step in the middle of each column; undefined after the last. */
function sample(records: readonly StepRecord[], { columns, msPerColumn }: PictureStyle): (StepRecord | undefined)[] {
  const sampled: (StepRecord | undefined)[] = [];
  let step = 0;
  let end = records[0]?.ms ?? 0; // of that step, in the sum of steps
  for (let column = 0; column < columns; column++) {
    const at = (column + 0.5) * msPerColumn;
    while (step < records.length && end <= at) end += records[++step]?.ms ?? 0;
    sampled.push(records[step]);
  }
  return sampled;
}

/** Colour and sign of a row in one step: an id, EMPTY, or −2 − id for a finished request. */
function cellOf(state: number | undefined, color: boolean): readonly [string, string] {
  if (state === undefined || state === EMPTY) return [color && state !== undefined ? '\x1b[2m' : '', '·'];
  const dead = state < EMPTY;
  const id = dead ? -2 - state : state;
  if (!color) return ['', dead ? '░' : (LETTERS[id % LETTERS.length] ?? '?')];
  return [`\x1b[${dead ? '2;' : ''}38;5;${COLORS[id % COLORS.length] ?? 0}m`, dead ? '░' : '█'];
}

/** Draws the picture in place on a terminal while it grows, in ever longer columns. */
export class LivePicture {
  readonly records: StepRecord[] = [];
  msPerColumn: number;
  readonly #rows: number;
  readonly #columns: number;
  readonly #color: boolean;
  readonly #write: (text: string) => void;
  #elapsedMs = 0;
  #drawnAt = -Infinity;
  #lines = 0;

  constructor(options: PictureStyle & { readonly rows: number; readonly write: (text: string) => void }) {
    this.#rows = options.rows;
    this.#columns = options.columns;
    this.#color = options.color;
    this.msPerColumn = options.msPerColumn;
    this.#write = options.write;
  }

  add(record: StepRecord): void {
    this.records.push(record);
    this.#elapsedMs += record.ms;
    while (this.#elapsedMs > this.#columns * this.msPerColumn) this.msPerColumn *= 2;
    if (this.#elapsedMs - this.#drawnAt < FRAME_MS) return;
    this.#drawnAt = this.#elapsedMs;
    this.draw();
  }

  draw(): void {
    const { msPerColumn } = this;
    const lines = drawPicture(this.records, this.#rows, { columns: this.#columns, msPerColumn, color: this.#color });
    const back = this.#lines > 0 ? `\x1b[${this.#lines}A` : '';
    this.#lines = lines.length;
    this.#write(back + lines.map((line) => `\r${line}\x1b[K\n`).join(''));
  }
}

const FRAME_MS = 80;
