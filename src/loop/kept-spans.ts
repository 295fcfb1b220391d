import { EngineError } from '../errors.ts';

/** Who keeps the first `computed` slots of a span that has been released, for as long as nobody needs them. */
export interface KeptOwner {
  readonly computed: number;
  /** Of all that are in somebody's way, the lowest go first. */
  readonly turn: number;
  /** Told that others have taken its slots, but for so many of the first. */
  cut(slots: number): void;
}

export interface KeptSpan {
  readonly owner: KeptOwner;
  readonly offset: number;
}

/** Slots of a hole between other spans, and the indices of the kept spans in the hole: `first` to below `next`. */
export interface KeptRange {
  readonly begin: number;
  readonly end: number;
  readonly first: number;
  readonly next: number;
}

/** A place for a span, and the highest turn of what would have to go. */
export interface KeptPlace {
  readonly offset: number;
  readonly turn: number;
}

/**
 * What lies in the arena's free slots and may be read until they are taken. Spans are placed as if none of it were
 * there; where there is a choice, what can best be spared goes.
 */
export class KeptSpans {
  readonly #spans: KeptSpan[] = []; // by offset
  readonly #place = { offset: 0, turn: 0 };

  /** Slots that hold keys and values. */
  get slots(): number {
    let slots = 0;
    for (const { owner } of this.#spans) slots += owner.computed;
    return slots;
  }

  add(span: KeptSpan): void {
    this.#spans.splice(this.#after(span.offset), 0, span);
  }

  remove(span: KeptSpan): void {
    this.#spans.splice(this.#spans.indexOf(span), 1);
  }

  /** Slots from `begin` to `end` are taken. A prefix is of use without its end, but not without its beginning. */
  clear(begin: number, end: number): void {
    const spans = this.#spans;
    const first = this.#after(begin - 1);
    const before = spans[first - 1];
    if (before !== undefined && before.offset + before.owner.computed > begin) before.owner.cut(begin - before.offset);
    const gone = this.#after(end - 1) - first;
    if (gone > 0) for (const { owner } of spans.splice(first, gone)) owner.cut(0);
  }

  /** Index of the first that begins at `offset` or later. */
  from(offset: number): number {
    return this.#after(offset - 1);
  }

  /** The same for `end`, if it is not before `from`, looking at one after another. */
  next(from: number, end: number): number {
    let next = from;
    while (next < this.#spans.length && this.#spans[next]!.offset < end) next++;
    return next;
  }

  /**
   * Where in a range `slots` slots are best taken: where the highest turn of what goes is lowest, and at `preferred` if
   * that is as good as any other. Turns of `enough` or more are of no use to the caller, and need not be the true ones.
   * The record is filled anew by every call.
   */
  place({ begin, end, first, next }: KeptRange, slots: number, preferred: number, enough: number): KeptPlace {
    let offset = preferred;
    let turn = this.#highest(first, next, preferred, preferred + slots, enough);
    // Slid towards the end until it meets what it does not touch, no place gets worse: these are the others.
    for (let i = next, until = end; turn > 0 && until - slots >= begin; until = this.#spans[i]!.offset) {
      const highest = this.#highest(first, i, until - slots, until, Math.min(turn, enough));
      if (highest < turn) {
        offset = until - slots;
        turn = highest;
      }
      if (i-- === first) break;
    }
    this.#place.offset = offset;
    this.#place.turn = turn;
    return this.#place;
  }

  /** Throws unless all are disjoint, hold something, have an owner, and lie where `free` says that no other span is. */
  check(free: (begin: number, end: number) => boolean, owned: (span: KeptSpan) => boolean): void {
    let end = 0;
    for (const span of this.#spans) {
      const { offset, owner } = span;
      const name = `kept span at ${offset} of ${owner.computed} slots`;
      if (offset < end || owner.computed <= 0) {
        throw new EngineError('INTERNAL', `${name}: is empty, or overlaps what ends at ${end}`);
      }
      end = offset + owner.computed;
      if (!free(offset, end)) throw new EngineError('INTERNAL', `${name}: lies where a span is`);
      if (!owned(span)) throw new EngineError('INTERNAL', `${name}: has no owner`);
    }
  }

  /** Highest turn in [begin, end), of those from index `first` to below `next`; or one of `enough` or more. */
  #highest(first: number, next: number, begin: number, end: number, enough: number): number {
    let turn = 0;
    for (let i = next - 1; i >= first && turn < enough; i--) {
      const { offset, owner } = this.#spans[i]!;
      if (offset + owner.computed <= begin) break;
      if (offset < end) turn = Math.max(turn, owner.turn);
    }
    return turn;
  }

  /** Index of the first that begins after `offset`. */
  #after(offset: number): number {
    return indexAfter(this.#spans, offset);
  }
}

/** Index of the first of `spans`, which are by offset, that begins after `offset`. */
export function indexAfter(spans: readonly { readonly offset: number }[], offset: number): number {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle]!.offset <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
