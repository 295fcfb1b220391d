import { EngineError } from '../errors.ts';

/** Slots in host memory that were given to somebody. */
interface Range<Owner> {
  readonly owner: Owner;
  readonly start: number;
  readonly end: number;
}

/**
 * The map of the slots in host memory: which belong to whom. Nothing ever moves here, so a range ends where it began;
 * who finds no hole that is large enough is computed again instead.
 */
export class HostSlots<Owner> {
  readonly #ranges: Range<Owner>[] = []; // by start
  #free: number;

  /** @param first number of the first one: they are numbered on from the arena's */
  constructor(
    readonly first: number,
    readonly slots: number,
  ) {
    this.#free = slots;
  }

  get free(): number {
    return this.#free;
  }

  /** The first slot of the closest fit. */
  allocate(owner: Owner, slots: number): number | undefined {
    if (slots > this.#free) return undefined;
    let best = -1;
    let bestSize = Infinity;
    for (let i = 0; i <= this.#ranges.length; i++) {
      const size = (this.#ranges[i]?.start ?? this.first + this.slots) - this.#endBefore(i);
      if (size < slots || size >= bestSize) continue;
      best = i;
      bestSize = size;
    }
    if (best < 0) return undefined;
    const start = this.#endBefore(best);
    this.#ranges.splice(best, 0, { owner, start, end: start + slots });
    this.#free -= slots;
    return start;
  }

  release(owner: Owner): void {
    const index = this.#ranges.findIndex((range) => range.owner === owner);
    const [range] = this.#ranges.splice(index, 1) as [Range<Owner>];
    this.#free += range.end - range.start;
  }

  /** Throws unless ranges are disjoint, inside, owned, and add up. */
  check(owned: (owner: Owner, start: number) => boolean): void {
    let end = this.first;
    let taken = 0;
    for (const range of this.#ranges) {
      const name = `host slots ${range.start} to ${range.end}`;
      if (range.start < end) throw new EngineError('INTERNAL', `${name}: overlap what ends at ${end}`);
      if (!owned(range.owner, range.start)) throw new EngineError('INTERNAL', `${name}: have no owner`);
      end = range.end;
      taken += range.end - range.start;
    }
    if (end > this.first + this.slots || taken + this.#free !== this.slots) {
      throw new EngineError('INTERNAL', `${taken} taken + ${this.#free} free host slots are not ${this.slots}`);
    }
  }

  #endBefore(index: number): number {
    return index === 0 ? this.first : this.#ranges[index - 1]!.end;
  }
}
