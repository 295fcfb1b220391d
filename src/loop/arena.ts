import { EngineError } from '../errors.ts';
import { HostSlots } from './host-slots.ts';
import { indexAfter, type KeptOwner, type KeptSpan, KeptSpans } from './kept-spans.ts';

/** Slots; spans start and grow in multiples of the attention tile. `kTile` of native/core/plan.h. */
export const TILE = 64;

export function tiled(slots: number): number {
  return Math.ceil(slots / TILE) * TILE;
}

/** Throws unless an arena can have so many slots. */
export function checkSlots(slots: number): void {
  if (Number.isInteger(slots) && slots > 0 && slots % TILE === 0) return;
  throw new EngineError('INVALID_ARGUMENT', `slots: expected a positive multiple of ${TILE}, got ${slots}`);
}

/** What the arena must know of whoever owns a span: how many slots of it hold keys and values. */
export interface SpanOwner {
  readonly computed: number;
}

/**
 * The contiguous slots of one owner: in the arena or, while it is parked, in host memory. Only the map that made it
 * writes it.
 */
export interface Span {
  readonly owner: SpanOwner;
  offset: number;
  capacity: number;
  /** Leading slots that are padding, and never read; the key of position p lies in slot offset + masked + p. */
  masked: number;
  /** Where its contents lie; differs from `offset + masked` while a move is pending. */
  home: number;
}

export interface ArenaStats {
  readonly slots: number;
  /** Slots that hold keys and values. */
  readonly used: number;
  /** Slots of spans that hold none yet; used + padding + free = slots. */
  readonly padding: number;
  readonly free: number;
  /** Of the free ones, those that hold what finished requests left, until others need them. */
  readonly cached: number;
  /** The most slots that were not free at any time. */
  readonly peak: number;
}

// With room for a span, that are looked at. 128 instead: 27 slots moved per tick of 1,024 rows, not 59, and 7 % more time.
const HOLES = 32;

interface Hole {
  start: number;
  end: number;
}

/** A place found for a span, and where the spans that lie there go. */
interface Place {
  readonly offset: number;
  readonly evicted: readonly Span[];
  readonly targets: readonly number[];
}

/**
 * The map of the KV cache: which slots belong to whom. It decides moves and remembers them until `takeMoves` hands
 * them to a plan, so a span may change its mind within a tick. All moves of a plan run in one launch: none may write
 * what another reads, so contents only ever go to slots that are free of spans and that no pending move leaves.
 */
export class KvArena {
  readonly #kept = new KeptSpans();
  readonly #spans: Span[] = []; // by offset
  readonly #moved: Span[] = []; // those whose home is not their offset, parked ones among them
  readonly #host: HostSlots<Span>; // of spans that are parked, or whose home is still there
  #free: number;
  #peak = 0;
  #begun = 0; // where the last span was put into a hole
  #refused = Infinity; // fewest slots that could not be allocated since the map last changed for the better

  /** @param hostSlots where spans can be parked, numbered on from the arena's own */
  constructor(
    readonly slots: number,
    readonly hostSlots = 0,
  ) {
    checkSlots(slots);
    this.#free = slots;
    this.#host = new HostSlots(slots, hostSlots);
  }

  get free(): number {
    return this.#free;
  }

  get hostFree(): number {
    return this.#host.free;
  }

  /** Whether moves wait for a plan to take them. */
  get moving(): boolean {
    return this.#moved.length > 0;
  }

  /**
   * A span that may grow to `wish`, and will probably to `soon`, moving others if that is what it takes; undefined if
   * even that does not help.
   */
  allocate(owner: SpanOwner, slots: number, wish = slots, soon = wish): Span | undefined {
    if (slots > this.#free || slots >= this.#refused) return undefined;
    let offset = this.#hole(slots, wish, Math.min(soon, wish));
    if (offset === undefined) {
      const place = this.#search(undefined, slots);
      if (place === undefined) {
        this.#refused = slots;
        return undefined;
      }
      this.#clear(place);
      offset = place.offset;
    }
    const span: Span = { owner, offset, capacity: slots, masked: 0, home: offset };
    this.#spans.splice(this.#after(offset), 0, span);
    this.#kept.clear(offset, offset + slots);
    this.#occupy(slots);
    return span;
  }

  /** In place if the next slots are free; else whatever moves the fewest slots: the span, or those in its way. */
  grow(span: Span, slots: number): boolean {
    const more = slots - span.capacity;
    if (more <= 0) return true;
    if (more > this.#free) return false;
    const next = this.#spans[this.#after(span.offset)];
    if (span.offset + slots > (next === undefined ? this.slots : next.offset)) {
      const place = this.#roomToGrow(span, slots);
      if (place === undefined) return false;
      this.#clear(place);
      if (place.offset !== span.offset) this.#move(span, place.offset);
      this.#sort();
    }
    span.capacity = slots;
    this.#kept.clear(span.offset, span.offset + slots);
    this.#occupy(more);
    return true;
  }

  release(span: Span): void {
    if (span.offset < this.slots) this.#vacate(span);
    if (Math.max(span.offset, span.home) >= this.slots) this.#host.release(span);
    this.#settle(span);
  }

  /**
   * Out to host memory, if there is room for what it holds. Its slots in the arena are free at once: the move that
   * reads them is pending, and until it is taken no other writes there.
   */
  park(span: Span): boolean {
    if (span.owner.computed === 0) return false;
    const slots = tiled(span.owner.computed);
    const offset = span.home >= this.slots ? span.home : this.#host.allocate(span, slots);
    if (offset === undefined) return false;
    this.#vacate(span);
    this.#move(span, offset);
    span.capacity = slots;
    return true;
  }

  /** Back from host memory, into so many slots. If false, it may succeed after the next plan has taken the moves. */
  unpark(span: Span, slots: number): boolean {
    if (slots > this.#free) return false;
    const place = this.#search(span, slots);
    if (place === undefined) {
      // Whatever lies where its contents would is read in this plan. That goes now; they can follow in the next.
      const way = this.#search(undefined, slots);
      if (way !== undefined) this.#clear(way);
      return false;
    }
    this.#clear(place);
    if (span.home < this.slots) this.#host.release(span); // it never left
    this.#move(span, place.offset);
    span.capacity = slots;
    this.#spans.splice(this.#after(place.offset), 0, span);
    this.#kept.clear(place.offset, place.offset + slots);
    this.#occupy(slots);
    return true;
  }

  /** Releases a span, and keeps what `owner` has computed in it; undefined if that is nothing, or yet to be moved. */
  keep(span: Span, owner: KeptOwner): KeptSpan | undefined {
    this.release(span);
    if (owner.computed === 0 || span.home !== span.offset) return undefined;
    const kept = { owner, offset: span.offset };
    this.#kept.add(kept);
    return kept;
  }

  /** Keeps it no longer; its owner is not told. */
  drop(kept: KeptSpan): void {
    this.#kept.remove(kept);
  }

  /**
   * Fills the first slots of a span, in which nothing is computed, with those that lie at `from` on the device when the
   * next moves begin, be they anybody's or free again. Returns how many: other moves may be in the way. The owner must
   * count them as computed from then on.
   */
  copy(from: number, span: Span, slots: number): number {
    let count = slots;
    for (const { home, offset, owner } of this.#moved) {
      const used = owner.computed;
      count = Math.min(count, slotsBefore(from, offset, used), slotsBefore(span.offset, home, used));
    }
    if (count > 0 && from !== span.offset) {
      span.home = from;
      this.#moved.push(span);
    }
    return count;
  }

  /** Hands every pending move to `move`; returns the slots moved. */
  takeMoves(move: (from: number, to: number, slots: number) => void): number {
    let moved = 0;
    for (const span of this.#moved) {
      move(span.home, span.offset, span.owner.computed);
      moved += span.owner.computed;
      if (span.home >= this.slots) this.#host.release(span);
      span.home = span.offset;
    }
    if (moved > 0) this.#refused = Infinity;
    this.#moved.length = 0;
    return moved;
  }

  stats(): ArenaStats {
    let used = 0;
    for (const span of this.#spans) used += span.owner.computed;
    const { slots } = this;
    const cached = this.#kept.slots;
    return { slots, used, padding: slots - this.#free - used, free: this.#free, cached, peak: this.#peak };
  }

  /**
   * Throws unless spans are disjoint, tiled, inside the arena, large enough, owned, and add up, kept ones lie where no
   * other is, and no pending move writes what another reads.
   */
  check(owned: (span: Span) => boolean, keptOwned: (span: KeptSpan) => boolean = () => false): void {
    let end = 0;
    let taken = 0;
    for (const span of this.#spans) {
      const { offset, capacity, home, owner } = span;
      const name = `span at ${offset} of ${capacity} slots`;
      if (offset < end) throw new EngineError('INTERNAL', `${name}: overlaps what ends at ${end}`);
      if (offset % TILE !== 0 || capacity % TILE !== 0) throw new EngineError('INTERNAL', `${name}: not tiled`);
      if (owner.computed > capacity) throw new EngineError('INTERNAL', `${name}: holds ${owner.computed}`);
      if (home !== offset && !this.#moved.includes(span)) throw new EngineError('INTERNAL', `${name}: move forgotten`);
      if (!owned(span)) throw new EngineError('INTERNAL', `${name}: has no owner`);
      end = offset + capacity;
      taken += capacity;
    }
    if (end > this.slots) throw new EngineError('INTERNAL', `the last span ends at ${end} of ${this.slots} slots`);
    if (taken + this.#free !== this.slots) {
      throw new EngineError('INTERNAL', `${taken} taken + ${this.#free} free slots are not ${this.slots}`);
    }
    for (const { owner, offset } of this.#moved) {
      const reader = this.#moved.find((one) => one.offset !== offset && meets(one, offset, owner.computed));
      if (reader === undefined) continue;
      throw new EngineError('INTERNAL', `a move writes slots from ${offset}, which another reads from ${reader.home}`);
    }
    const free = (begin: number, end: number) => {
      const before = this.#spans[this.#after(begin) - 1];
      const next = this.#spans[this.#after(begin)];
      return (before === undefined || before.offset + before.capacity <= begin) && (next?.offset ?? this.slots) >= end;
    };
    this.#kept.check(free, keptOwned);
    this.#host.check((span, start) => owned(span) && (span.offset === start || span.home === start));
  }

  #vacate(span: Span): void {
    this.#spans.splice(this.#after(span.offset) - 1, 1);
    this.#free += span.capacity;
    this.#refused = Infinity;
  }

  #occupy(slots: number): void {
    this.#free -= slots;
    this.#peak = Math.max(this.#peak, this.slots - this.#free);
  }

  /** Index of the first span that begins after `offset`. */
  #after(offset: number): number {
    return indexAfter(this.#spans, offset);
  }

  #sort(): void {
    this.#spans.sort((a, b) => a.offset - b.offset);
  }

  #moveCost(span: Span): number {
    return span.home === span.offset ? span.owner.computed : 0;
  }

  #move(span: Span, offset: number): void {
    if (span.owner.computed === 0) span.home = offset;
    else if (span.home === span.offset) this.#moved.push(span);
    span.offset = offset;
    if (span.home === offset) this.#settle(span);
    this.#kept.clear(offset, offset + span.capacity);
    this.#refused = Infinity;
  }

  #settle(span: Span): void {
    const index = this.#moved.indexOf(span);
    if (index >= 0) this.#moved.splice(index, 1);
  }

  #clear(place: Place): void {
    place.evicted.forEach((span, i) => this.#move(span, place.targets[i]!));
    if (place.evicted.length > 0) this.#sort();
  }

  /**
   * Where to begin an empty span without moving anything. One that will not grow goes where it fits closest. One that
   * will goes where there is room after it for what it needs soon, then where what is kept there can best be spared,
   * then where there is most room for its wish, then into the largest hole. If a span lies before the hole, half of
   * what is left is for that one to grow into. Of many holes with room for it some are looked at, from the place on that
   * was found last: the best of those is nearly as good.
   */
  #hole(slots: number, wish: number, soon: number): number | undefined {
    let best: number | undefined;
    let bestRoom = 0; // of the room that is needed soon
    let bestTurn = Infinity;
    let bestReach = 0;
    let bestSize = 0;
    const spans = this.#spans;
    let i = this.#after(this.#begun); // of the span behind the hole
    let end = i === 0 ? 0 : spanEnd(spans[i - 1]!); // of the span before it
    const range = { begin: 0, end: 0, first: 0, next: this.#kept.from(end) };
    for (let seen = 0, fitting = 0; seen <= spans.length && fitting < HOLES; seen++, i++) {
      if (i > spans.length) i = end = range.next = 0;
      const span = i < spans.length ? spans[i]! : undefined;
      const start = end;
      const until = span === undefined ? this.slots : span.offset;
      end = span === undefined ? until : spanEnd(span);
      const size = until - start;
      if (size < slots) continue;
      fitting++;
      const begin = i === 0 ? start : start + halfOf(size - slots);
      const reach = Math.min(wish, until - begin);
      const room = Math.min(soon, reach);
      if (room < bestRoom) continue;
      range.begin = begin;
      range.end = until;
      range.first = this.#kept.next(range.next, start);
      range.next = this.#kept.next(range.first, until);
      const preferred = until - reach;
      const enough = room > bestRoom ? Infinity : bestTurn + 1;
      const place = range.first < range.next ? this.#kept.place(range, room, preferred, enough) : undefined;
      const turn = place === undefined ? 0 : place.turn;
      if (room === bestRoom) {
        if (turn > bestTurn || (turn === bestTurn && reach < bestReach)) continue;
        if (turn === bestTurn && reach === bestReach && (wish > slots ? size <= bestSize : size >= bestSize)) continue;
      }
      best = place === undefined ? preferred : place.offset;
      bestRoom = room;
      bestTurn = turn;
      bestReach = reach;
      bestSize = size;
    }
    this.#begun = best ?? 0;
    return best;
  }

  /**
   * What `#search` would find, and mostly without it: nothing costs less than the cheaper of moving those in its way and
   * moving the span itself into a hole.
   */
  #roomToGrow(span: Span, slots: number): Place | undefined {
    const own = this.#moveCost(span);
    const end = span.offset + slots;
    let cost = 0;
    const evicted: Span[] = [];
    for (let i = this.#after(span.offset); i < this.#spans.length && this.#spans[i]!.offset < end; i++) {
      evicted.push(this.#spans[i]!);
      cost += this.#moveCost(this.#spans[i]!);
    }
    if (cost <= own && end <= this.slots && this.#receives(span, span.offset, evicted)) {
      const targets = this.#pack(evicted, this.#targets(), span.offset, end);
      if (targets !== undefined) return { offset: span.offset, evicted, targets };
    } else if (own < cost || end > this.slots) {
      const hole = this.#hole(slots, this.slots, this.slots);
      if (hole !== undefined && this.#receives(span, hole)) return { offset: hole, evicted: [], targets: [] };
    }
    return this.#search(span, slots);
  }

  /**
   * The place of `slots` slots that costs the fewest moved slots: of every window of that size, the spans in it go to
   * holes outside it, `span` itself comes into it. Contents of `span` need slots that nothing leaves in this plan;
   * the rest of the window, still empty, need not. Among equals, the one with most room around it.
   */
  #search(span: Span | undefined, slots: number): Place | undefined {
    const spans = this.#spans;
    const holes = this.#targets();
    let best: Place | undefined;
    let bestCost = Infinity;
    let bestRoom = -1;
    let first = 0; // spans[first..last) lie in the window
    let last = 0;
    let cost = 0;
    for (let start = 0; start + slots <= this.slots; start += TILE) {
      const end = start + slots;
      for (; last < spans.length && spans[last]!.offset < end; last++) {
        if (spans[last] !== span) cost += this.#moveCost(spans[last]!);
      }
      for (; first < last && spans[first]!.offset + spans[first]!.capacity <= start; first++) {
        if (spans[first] !== span) cost -= this.#moveCost(spans[first]!);
      }
      const total = cost + (span !== undefined && start !== span.offset ? this.#moveCost(span) : 0);
      if (total > bestCost) continue;
      const before = first > 0 ? start - spans[first - 1]!.offset - spans[first - 1]!.capacity : Infinity;
      const room = Math.min(before, (last < spans.length ? spans[last]!.offset : this.slots) - end);
      if (total === bestCost && room <= bestRoom) continue;
      const evicted = spans.slice(first, last).filter((one) => one !== span);
      if (span !== undefined && !this.#receives(span, start, evicted)) continue;
      const targets = this.#pack(evicted, holes, start, end);
      if (targets === undefined) continue;
      best = { offset: start, evicted, targets };
      bestCost = total;
      bestRoom = room;
    }
    return best;
  }

  /** Whether the contents of `span` can be written at `start` while `evicted` and pending moves are read. */
  #receives(span: Span, start: number, evicted: readonly Span[] = []): boolean {
    const used = span.owner.computed;
    if (used === 0 || start === span.home) return true;
    const read = (one: Span) => one !== span && meets(one, start, used);
    return !evicted.some(read) && !this.#moved.some(read);
  }

  /** Slots that contents may be moved to: outside all spans, and not left by a pending move. */
  #targets(): Hole[] {
    const taken = this.#spans.map((span) => ({ start: span.offset, end: span.offset + span.capacity }));
    for (const { home, owner } of this.#moved) {
      if (home < this.slots) taken.push({ start: home, end: tiled(home + owner.computed) });
    }
    taken.sort((a, b) => a.start - b.start);
    const holes: Hole[] = [];
    let start = 0;
    for (const one of [...taken, { start: this.slots, end: this.slots }]) {
      if (one.start > start) holes.push({ start, end: one.start });
      start = Math.max(start, one.end);
    }
    return holes;
  }

  /** Targets for `evicted` in `holes` outside [start, end); first letting those at its edges slide outwards. */
  #pack(evicted: readonly Span[], holes: readonly Hole[], start: number, end: number): number[] | undefined {
    if (evicted.length === 0) return [];
    return this.#packOnce(evicted, holes, start, end, true) ?? this.#packOnce(evicted, holes, start, end, false);
  }

  #packOnce(
    evicted: readonly Span[],
    holes: readonly Hole[],
    start: number,
    end: number,
    slide: boolean,
  ): number[] | undefined {
    const left: Hole[] = [];
    for (const hole of holes) {
      if (hole.start < start) left.push({ start: hole.start, end: Math.min(hole.end, start) });
      if (hole.end > end) left.push({ start: Math.max(hole.start, end), end: hole.end });
    }
    const targets = new Map<Span, number>();
    if (slide) {
      for (const span of evicted) {
        const spanEnd = span.offset + span.capacity;
        const before = left.find((hole) => hole.end === span.offset);
        const after = left.find((hole) => hole.start === spanEnd);
        const earlier = start - span.capacity;
        const later = end + span.capacity;
        if (before !== undefined && span.offset < start && earlier >= before.start && this.#receives(span, earlier)) {
          targets.set(span, (before.end = earlier));
        } else if (after !== undefined && spanEnd > end && later <= after.end && this.#receives(span, end)) {
          targets.set(span, end);
          after.start = later;
        }
      }
    }
    const bySize = evicted.filter((span) => !targets.has(span)).sort((a, b) => b.capacity - a.capacity);
    for (const span of bySize) {
      let closest: Hole | undefined;
      for (const hole of left) {
        const size = hole.end - hole.start;
        if (size >= span.capacity && (closest === undefined || size < closest.end - closest.start)) closest = hole;
      }
      if (closest === undefined) return undefined;
      targets.set(span, closest.start);
      closest.start += span.capacity;
    }
    return evicted.map((span) => targets.get(span)!);
  }
}

function spanEnd(span: Span): number {
  return span.offset + span.capacity;
}

/** Half of a number of tiles, rounded up to tiles: in integers, for this is done for every hole. */
function halfOf(slots: number): number {
  return ((slots >> 1) + TILE - 1) & -TILE;
}

/** Whether the contents of `span`, where they lie on the device, reach into slots from `begin` on. */
function meets(span: Span, begin: number, slots: number): boolean {
  return begin < span.home + span.owner.computed && span.home < begin + slots;
}

/** How many slots from `begin` on lie before the first of `slots` from `other` on, if those are met. */
function slotsBefore(begin: number, other: number, slots: number): number {
  return other + slots <= begin ? Infinity : Math.max(0, other - begin);
}
