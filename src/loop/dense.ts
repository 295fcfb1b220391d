import { EngineError } from '../errors.ts';
import { type ArenaStats, checkSlots, type Span, TILE, tiled } from './arena.ts';
import type { KvMap, KvOwner } from './kv-map.ts';

interface DenseSpan extends Span {
  readonly owner: KvOwner;
}

/** Slots from `start` to before `end`. */
export interface Range {
  start: number;
  end: number;
}

export interface DenseOptions {
  /** Most rows of the layout. */
  readonly rows: number;
  /** Rows have room for the whole length of their owners. */
  readonly reserve: boolean;
  /** A span is allocated apart from the layout, and waits for `embed`; otherwise it is a row of it at once. */
  readonly apart: boolean;
}

/**
 * The map of a dense tensor [rows, columns], laid out in the arena: row i takes the slots from base + i × capacity,
 * with capacity = tiled(columns), and leading slots are masked so that all rows end at the same column.
 *
 * What a tensor's concatenation and padding would do, a new layout does: another number of rows, or of tiles in a row,
 * copies every row to other slots, while the old layout still lies there. Only where the arena has no room for both do
 * rows stay near their place, as far as no copy would meet another; a row that is alone can always do that. If even
 * that is impossible, nothing new is laid out: whoever wants room waits or makes somebody go, and what a row leaves
 * when it retires stays a hole until the next layout. Masked slots are not copied.
 *
 * A row that is not computed in a step, being held, falls behind the others' column until the next layout.
 */
export class DenseMap implements KvMap {
  readonly hostSlots = 0; // it does not park
  readonly hostFree = 0;
  readonly moving = false;
  #rows: DenseSpan[] = [];
  #apart: DenseSpan[] = [];
  #capacity = 0; // slots of each row
  readonly #region: Range = { start: 0, end: 0 }; // of the layout
  readonly #settled: Range = { start: 0, end: 0 }; // of the layout that the device has
  #peak = 0;

  constructor(
    readonly slots: number,
    readonly options: DenseOptions,
  ) {
    checkSlots(slots);
  }

  get free(): number {
    return this.#apart.reduce((free, { capacity }) => free - capacity, this.slots - size(this.#region));
  }

  /**
   * A row, or a span apart. Unless rows have their whole length, who comes to others must leave room for one more
   * layout of them all, a tile wider: otherwise they could not grow together, and would preempt each other in turns.
   */
  allocate(owner: KvOwner, slots: number): DenseSpan | undefined {
    const { rows, apart, reserve } = this.options;
    const others = this.#rows.length + this.#apart.length;
    const widest = Math.max(slots, this.#capacity, ...this.#apart.map(({ capacity }) => capacity));
    const wider = Math.min(rows, others + 1) * (widest + TILE);
    if (!reserve && others > 0 && this.free < slots + wider) return undefined;
    const span: DenseSpan = { owner, offset: 0, capacity: slots, masked: 0, home: 0 };
    if (!apart) return this.#lay([...this.#rows, span]) ? span : undefined;
    const hole = gaps([...this.#spans(), ...homes(this.#rows)], this.slots).findLast((one) => size(one) >= slots);
    if (hole === undefined) return undefined;
    span.offset = span.home = hole.end - slots; // layouts begin at the other end
    this.#apart.push(span);
    return span;
  }

  park(): boolean {
    return false;
  }

  unpark(): boolean {
    return false;
  }

  /** Makes rows of spans that lay apart, with what they hold; false, and nothing changes, if there is no place. */
  embed(owners: readonly KvOwner[]): boolean {
    const spans = this.#apart.filter(({ owner }) => owners.includes(owner));
    const left = this.#apart.filter(({ owner }) => !owners.includes(owner));
    return this.#lay([...this.#rows, ...spans], left);
  }

  /** Room for all that a row's owner will hold next; a new layout has it for every row. */
  grow(span: DenseSpan): boolean {
    return span.masked + span.owner.length <= span.capacity || this.#lay(this.#rows);
  }

  /** The last row takes the place of one that goes, and columns that have become padding in all others are dropped. */
  release(span: DenseSpan): void {
    const at = this.#rows.indexOf(span);
    if (at < 0) {
      this.#apart.splice(this.#apart.indexOf(span), 1);
      return;
    }
    const rows = this.#rows.slice(0, -1);
    if (at < rows.length) rows[at] = this.#rows.at(-1)!;
    if (!this.#lay(rows)) this.#rows = rows;
  }

  takeMoves(move: (from: number, to: number, slots: number) => void): number {
    let moved = 0;
    const read = [this.#settled];
    for (const span of this.#rows) {
      const { offset, masked, home, owner } = span;
      span.home = offset + masked;
      if (home === span.home || owner.computed === 0) continue;
      move(home, span.home, owner.computed);
      moved += owner.computed;
      read.push({ start: home, end: home + owner.computed });
    }
    const left = moved > 0 ? gaps([...this.#spans(), ...read], this.slots) : [{ start: 0, end: this.free }];
    this.#peak = Math.max(this.#peak, left.reduce((taken, gap) => taken - size(gap), this.slots));
    Object.assign(this.#settled, this.#region);
    return moved;
  }

  /** The largest range of slots that no span has. What moves leave is among it: they come before runs. */
  hole(): Range {
    const all = gaps(this.#spans(), this.slots);
    return all.reduce((most, one) => (size(one) > size(most) ? one : most), { start: 0, end: 0 });
  }

  stats(): ArenaStats {
    const { slots, free } = this;
    const used = [...this.#rows, ...this.#apart].reduce((sum, { owner }) => sum + owner.computed, 0);
    return { slots, used, padding: slots - free - used, free, peak: this.#peak };
  }

  check(owned: (span: Span) => boolean): void {
    const fail = (what: string) => {
      throw new EngineError('INTERNAL', what);
    };
    const { start, end: last } = this.#region;
    for (const { offset, capacity } of this.#rows) {
      if (capacity !== this.#capacity) fail(`row at ${offset}: ${capacity} slots, others have ${this.#capacity}`);
      if (offset < start || offset + capacity > last) fail(`row at ${offset}: not in the layout`);
    }
    let end = 0;
    for (const span of [...this.#rows, ...this.#apart].sort((a, b) => a.offset - b.offset)) {
      const { offset, capacity, masked, owner } = span;
      const name = `span at ${offset} of ${capacity} slots`;
      if (offset < end) fail(`${name}: overlaps what ends at ${end}`);
      if (offset % TILE !== 0 || capacity % TILE !== 0) fail(`${name}: not tiled`);
      if (masked < 0 || masked + owner.computed > capacity) fail(`${name}: ${masked} masked, holds ${owner.computed}`);
      if (!owned(span)) fail(`${name}: has no owner`);
      end = offset + capacity;
    }
    if (end > this.slots) fail(`the last span ends at ${end} of ${this.slots} slots`);
  }

  #spans(): Range[] {
    return [this.#region, ...this.#apart.map(({ offset, capacity }) => ({ start: offset, end: offset + capacity }))];
  }

  /** Lays these rows out anew, beside spans that stay apart; false, and nothing changes, if there is no place. */
  #lay(rows: DenseSpan[], apart = this.#apart): boolean {
    const columns = Math.max(0, ...rows.map(({ owner }) => owner.length));
    const most = ({ length, limit }: KvOwner) => (this.options.reserve ? limit : length);
    const capacity = tiled(Math.max(0, ...rows.map(({ owner }) => columns - owner.length + most(owner))));
    const base = this.#place(rows, columns, capacity, apart);
    if (base === undefined) return false;
    rows.forEach((span, i) => {
      span.offset = base + i * capacity;
      span.capacity = capacity;
      span.masked = columns - span.owner.length;
    });
    this.#rows = rows;
    this.#apart = apart;
    this.#capacity = capacity;
    Object.assign(this.#region, { start: base, end: base + rows.length * capacity });
    return true;
  }

  /** Where such a layout may begin: in other slots than all that it holds; else where no copy would meet another. */
  #place(rows: readonly DenseSpan[], columns: number, capacity: number, apart: DenseSpan[]): number | undefined {
    const slots = rows.length * capacity;
    if (slots === 0) return 0;
    const taken = apart.map(({ offset, capacity: own }) => ({ start: offset, end: offset + own }));
    const read = homes(rows);
    const other = gaps([...taken, ...read], this.slots).find((gap) => size(gap) >= slots);
    if (other !== undefined) return other.start;
    const meets = (base: number) =>
      rows.some((span, i) => meetsOther(span, base + i * capacity + columns - span.owner.length, read));
    for (const { start, end } of gaps(taken, this.slots)) {
      // Not every tile: a search that fails must not take longer than a step.
      for (const base of [this.#region.start, start, end - slots]) {
        if (base >= start && base + slots <= end && !meets(base)) return base;
      }
    }
    return undefined;
  }
}

interface Home extends Range {
  readonly span: DenseSpan;
}

/** Where what these rows hold lies on the device, in order. */
function homes(rows: readonly DenseSpan[]): Home[] {
  return rows
    .filter(({ owner }) => owner.computed > 0)
    .map((span) => ({ span, start: span.home, end: span.home + span.owner.computed }))
    .sort((a, b) => a.start - b.start);
}

/** Whether a copy of what the span holds to slots from `to` would write what another holds. */
function meetsOther(span: DenseSpan, to: number, read: readonly Home[]): boolean {
  const end = to + span.owner.computed;
  let low = 0;
  for (let high = read.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (read[middle]!.end <= to) low = middle + 1;
    else high = middle;
  }
  for (; low < read.length && read[low]!.start < end; low++) if (read[low]!.span !== span) return true;
  return false;
}

/** What ranges leave of so many slots, from tile to tile, in order. */
function gaps(ranges: readonly Range[], slots: number): Range[] {
  const left: Range[] = [];
  let start = 0;
  for (const one of [...ranges].sort((a, b) => a.start - b.start)) {
    const end = one.start - (one.start % TILE);
    if (end > start) left.push({ start, end });
    start = Math.max(start, tiled(one.end));
  }
  if (slots > start) left.push({ start, end: slots });
  return left;
}

function size({ start, end }: Range): number {
  return end - start;
}
