import type { ArenaStats, Span, SpanOwner } from './arena.ts';

/** What a map of the arena may ask of a request. */
export interface KvOwner extends SpanOwner {
  /** Tokens that it will hold when it has caught up. */
  readonly length: number;
  /** Most tokens it can come to hold. */
  readonly limit: number;
}

/** Which slots of the arena belong to whom: `KvArena`, whose spans differ in capacity, or the rows of a `DenseMap`. */
export interface KvMap {
  readonly slots: number;
  readonly free: number;
  /** In host memory, where spans can be parked, and how many of them are free. */
  readonly hostSlots: number;
  readonly hostFree: number;
  /** Whether moves wait for a plan to take them that somebody waits for. */
  readonly moving: boolean;
  /** A span of so many slots, that may grow to `wish`; undefined if there is no place for it. */
  allocate(owner: KvOwner, slots: number, wish?: number): Span | undefined;
  /** Makes room for `slots` tokens of the owner; false if somebody must go first. May move any span. */
  grow(span: Span, slots: number): boolean;
  release(span: Span): void;
  /** Out to host memory; its slots are free at once. False if there is no room, or the map does not park. */
  park(span: Span): boolean;
  /** Back from there. If false, it may succeed after the next plan has taken the moves. */
  unpark(span: Span, slots: number): boolean;
  /** Hands every pending move to `move`; returns the slots moved. Spans keep their places until the next change. */
  takeMoves(move: (from: number, to: number, slots: number) => void): number;
  stats(): ArenaStats;
  /** Throws unless spans are disjoint, inside the arena, large enough, owned, and add up. */
  check(owned: (span: Span) => boolean): void;
}
