import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { KvArena, type Span, TILE, tiled } from '../../src/loop/arena.ts';

const arena = suite('KvArena');

interface Owner {
  readonly id: number;
  computed: number;
  span?: Span;
}

/** An arena with a device under it: every slot holds who wrote it and for which position. */
class Simulation {
  readonly arena: KvArena;
  readonly owners: Owner[] = [];
  readonly cells: string[];
  moved = 0;
  moves = 0;
  #next = 0;

  constructor(slots: number, hostSlots = 0) {
    this.arena = new KvArena(slots, hostSlots);
    this.cells = new Array<string>(slots + hostSlots).fill('');
  }

  allocate(slots: number, wish = slots): Owner | undefined {
    const owner: Owner = { id: this.#next++, computed: 0 };
    const span = this.arena.allocate(owner, slots, wish);
    if (span === undefined) return undefined;
    owner.span = span;
    this.owners.push(owner);
    return owner;
  }

  release(owner: Owner): void {
    this.arena.release(owner.span!);
    this.owners.splice(this.owners.indexOf(owner), 1);
  }

  isParked(owner: Owner): boolean {
    return owner.span!.offset >= this.arena.slots;
  }

  /** A step: all moves at once, as a launch in any order may do them; then `tokens` more are computed for everyone. */
  step(tokens: number): void {
    const moves: [number, number, number][] = [];
    this.moved += this.arena.takeMoves((...move) => void moves.push(move));
    this.moves += moves.length;
    for (const [from, to, slots] of moves) {
      const inHost = [from, to].filter((slot) => slot >= this.arena.slots);
      assert.ok(inHost.length < 2, 'a move within host memory');
      for (const slot of inHost) assert.ok(slot + slots <= this.cells.length, 'a move past host memory');
    }
    const touched = new Map<number, number>(); // slot → the move that writes it
    moves.forEach(([, to, slots], i) => {
      for (let slot = to; slot < to + slots; slot++) {
        assert.ok(!touched.has(slot), `slot ${slot} is written by two moves`);
        touched.set(slot, i);
      }
    });
    moves.forEach(([from, , slots], i) => {
      for (let slot = from; slot < from + slots; slot++) {
        assert.ok((touched.get(slot) ?? i) === i, `slot ${slot} is read by one move and written by another`);
      }
    });
    const before = this.cells.slice();
    for (const [from, to, slots] of moves) {
      for (let i = 0; i < slots; i++) this.cells[to + i] = before[from + i]!;
    }
    for (const owner of this.owners) {
      const { offset, capacity } = owner.span!;
      if (this.isParked(owner)) continue;
      for (let i = 0; i < tokens && owner.computed < capacity; i++, owner.computed++) {
        this.cells[offset + owner.computed] = `${owner.id}:${owner.computed}`;
      }
    }
    this.check();
  }

  check(): void {
    this.arena.check((span) => this.owners.includes(span.owner as Owner));
    const { slots, used, padding, free } = this.arena.stats();
    assert.is(used + padding + free, slots);
    assert.is(used, this.owners.reduce((sum, owner) => sum + (this.isParked(owner) ? 0 : owner.computed), 0));
    for (const owner of this.owners) {
      const { home } = owner.span!;
      for (let i = 0; i < owner.computed; i++) assert.is(this.cells[home + i], `${owner.id}:${i}`);
    }
  }
}

interface Segment {
  readonly tiles: number;
  /** Computed slots of a span; none: a hole. */
  readonly used?: number | undefined;
}

/** An arena that holds exactly these, in this order. */
function layout(segments: readonly Segment[], hostSlots = 0): Simulation {
  const slots = segments.reduce((sum, { tiles }) => sum + tiles * TILE, 0);
  const simulation = new Simulation(slots, hostSlots);
  const fromLast = segments.toReversed(); // each comes to the end of what is left
  const all = fromLast.map(({ tiles }) => simulation.allocate(tiles * TILE)!);
  const kept = fromLast.map(({ used }) => used);
  all.forEach((owner, i) => {
    const used = kept[i];
    if (used === undefined) simulation.release(owner);
    for (; used !== undefined && owner.computed < used; owner.computed++) {
      simulation.cells[owner.span!.offset + owner.computed] = `${owner.id}:${owner.computed}`;
    }
  });
  return simulation;
}

/**
 * The fewest slots that must move to make a place of `tiles` tiles, by trying everything: every new place of every
 * span that is legal for one launch, none of them onto a place that another leaves. `grown`: that span must have the
 * place, as its own, and may grow onto what others leave.
 */
function fewest(simulation: Simulation, tiles: number, grown?: Owner): number {
  const total = simulation.arena.slots / TILE;
  const owners = [...simulation.owners];
  const old = owners.map(({ span, computed }) => ({
    start: span!.offset / TILE,
    end: (span!.offset + span!.capacity) / TILE,
    tiles: span!.capacity / TILE,
    used: computed,
  }));
  const places = new Array<number>(owners.length).fill(0);
  let best = Infinity;
  const legal = (i: number, start: number) => {
    if (start === old[i]!.start) return true;
    return old.every((one, j) => j === i || start + old[i]!.tiles <= one.start || start >= one.end);
  };
  const visit = (i: number, cost: number): void => {
    if (cost >= best) return;
    if (i < owners.length) {
      for (let start = 0; start + old[i]!.tiles <= total; start++) {
        places[i] = start;
        visit(i + 1, cost + (start === old[i]!.start ? 0 : old[i]!.used));
      }
      return;
    }
    const taken = new Array<boolean>(total).fill(false);
    for (const [j, one] of old.entries()) {
      if (!legal(j, places[j]!)) return;
      for (let tile = places[j]!; tile < places[j]! + (owners[j] === grown ? tiles : one.tiles); tile++) {
        if (tile >= total || taken[tile]) return;
        taken[tile] = true;
      }
    }
    if (grown !== undefined) best = cost;
    for (let tile = 0, run = 0; tile < total; tile++) {
      run = taken[tile] ? 0 : run + 1;
      if (run === tiles) best = cost;
    }
  };
  visit(0, 0);
  return best;
}

const segments = fc.array(
  fc.record({ tiles: fc.integer({ min: 1, max: 3 }), share: fc.option(fc.double({ min: 0, max: 1, noNaN: true })) }),
  { minLength: 1, maxLength: 6 },
);

function laid(from: readonly { tiles: number; share: number | null }[]): Simulation {
  let tiles = 0;
  const used: Segment[] = [];
  for (const { tiles: wanted, share } of from) {
    if (tiles + wanted > 9) continue;
    tiles += wanted;
    // Grown as needed, so the last tile is in use: no plan can make anything of the empty part of a span.
    used.push({ tiles: wanted, used: share === null ? undefined : wanted * TILE - Math.floor(share * (TILE - 1)) });
  }
  return layout(used);
}

arena('begins and ends free', () => {
  const it = new Simulation(256);
  const [a, b] = [it.allocate(128), it.allocate(128)];
  assert.is(it.allocate(64), undefined);
  assert.equal(it.arena.stats(), { slots: 256, used: 0, padding: 256, free: 0, peak: 256 });
  it.release(a!);
  it.release(b!);
  assert.equal(it.arena.stats(), { slots: 256, used: 0, padding: 0, free: 256, peak: 256 });
});

arena('refuses a size that is no multiple of a tile', () => {
  for (const slots of [0, -64, 100, 64.5, NaN]) {
    let code = '';
    try {
      new KvArena(slots);
    } catch (error) {
      code = (error as EngineError).code;
    }
    assert.is(code, 'INVALID_ARGUMENT');
  }
});

arena('leaves room to grow where there is room', () => {
  const it = new Simulation(1024);
  for (let i = 0; i < 4; i++) it.allocate(64, 256);
  for (let slots = 128; slots <= 256; slots += 64) {
    it.step(64);
    for (const { span } of it.owners) assert.ok(it.arena.grow(span!, slots));
  }
  it.step(64);
  assert.is(it.moved, 0);
});

arena('puts what will not grow where it fits closest', () => {
  const it = layout([{ tiles: 3 }, { tiles: 1, used: 1 }, { tiles: 2 }, { tiles: 1, used: 1 }, { tiles: 5 }]);
  assert.is(it.allocate(128)!.span!.offset, 4 * TILE);
});

arena('grows in place, else moves itself or what is in its way, whatever moves less', () => {
  const grow = (mine: number, other: number) => {
    const it = layout([{ tiles: 1, used: mine }, { tiles: 1, used: other }, { tiles: 2 }]);
    const owner = it.owners.find(({ span }) => span!.offset === 0)!;
    assert.ok(it.arena.grow(owner.span!, 128));
    it.step(1);
    return [it.moved, owner.span!.offset];
  };
  assert.equal(grow(64, 10), [10, 0]);
  assert.equal(grow(10, 64), [10, 128]);
  const it = layout([{ tiles: 1, used: 64 }, { tiles: 1 }]);
  assert.ok(it.arena.grow(it.owners[0]!.span!, 128));
  it.step(1);
  assert.is(it.moved, 0);
});

arena('grows over its own slots when it is alone', () => {
  const it = layout([{ tiles: 1 }, { tiles: 2, used: 128 }, { tiles: 1 }]);
  assert.ok(it.arena.grow(it.owners[0]!.span!, 256));
  it.step(64);
  assert.equal([it.moved, it.owners[0]!.span!.offset, it.owners[0]!.computed], [128, 0, 192]);
});

arena('lets survivors fill holes instead of gathering everything', () => {
  const small = { tiles: 1, used: 5 };
  const large = { tiles: 4, used: 256 };
  const it = layout([large, { tiles: 1 }, small, { tiles: 1 }, large, { tiles: 1 }, large]);
  assert.ok(it.allocate(192));
  it.step(1);
  assert.equal([it.moves, it.moved], [1, 5]);
});

arena('a move that is not yet taken can be changed and forgotten', () => {
  const it = layout([{ tiles: 1, used: 9 }, { tiles: 1, used: 64 }, { tiles: 2 }]);
  const [second, first] = it.owners;
  assert.ok(it.arena.grow(first!.span!, 128)); // moves itself to the end
  assert.is(first!.span!.offset, 128);
  it.release(second!);
  assert.ok(it.arena.grow(first!.span!, 256)); // comes back
  it.step(1);
  assert.equal([it.moved, first!.span!.offset], [0, 0]);
});

arena('does not put contents, its own or others, where a pending move reads', () => {
  // Itself: only [0, 2) is free when the last but one wants two tiles, and its contents would come to tile 0.
  const full = (tiles: number) => ({ tiles, used: tiles * TILE });
  const own = layout([full(1), { tiles: 1 }, full(2), { tiles: 3 }, full(1), full(2)]);
  const at = (it: Simulation, tile: number) => it.owners.find(({ span }) => span!.offset === tile * TILE)!.span!;
  const [first, wants] = [at(own, 0), at(own, 7)];
  assert.ok(own.arena.grow(first, 3 * TILE)); // into the hole of three
  assert.is(own.arena.grow(wants, 2 * TILE), false);
  own.step(0);
  assert.ok(own.arena.grow(wants, 2 * TILE));
  own.step(0);
  // Others: what lies in its way could only go to tile 0.
  const others = layout([full(1), full(2), { tiles: 2 }, full(1), full(1)]);
  const grows = at(others, 5);
  assert.ok(others.arena.grow(at(others, 0), 2 * TILE));
  assert.is(others.arena.grow(grows, 2 * TILE), false);
  others.step(0);
  assert.ok(others.arena.grow(grows, 2 * TILE));
  others.step(0);
});

arena('forgets the move of a span that is released', () => {
  const it = layout([{ tiles: 1, used: 9 }, { tiles: 1, used: 64 }, { tiles: 2 }]);
  const owner = it.owners.find(({ span }) => span!.offset === 0)!;
  assert.ok(it.arena.grow(owner.span!, 128));
  it.release(owner);
  it.step(0);
  assert.is(it.moves, 0);
});

arena('packs large spans first', () => {
  const [small, large, far] = [{ tiles: 2, used: 128 }, { tiles: 3, used: 192 }, { tiles: 10, used: 640 }];
  const it = layout([{ tiles: 4 }, far, small, small, large, far, { tiles: 3 }]);
  assert.ok(it.allocate(7 * TILE));
  it.step(0);
  assert.is(it.moved, 7 * TILE);
});

arena('lets a span at the edge slide, unless its hole is needed by another', () => {
  const full = (tiles: number) => ({ tiles, used: tiles * TILE });
  const grow = (...after: Segment[]) => {
    const it = layout([full(6), ...after]);
    const grown = it.arena.grow(it.owners.find(({ span }) => span!.offset === 0)!.span!, 10 * TILE);
    it.step(0);
    return grown ? it.moved : undefined;
  };
  assert.is(grow(full(3), full(2), { tiles: 3 }, full(8), { tiles: 2 }), 5 * TILE);
  assert.is(grow(full(8), { tiles: 4 }), 8 * TILE);
});

arena('moves as few slots as any plan could to make room for a new span', () => {
  fc.assert(
    fc.property(segments, fc.integer({ min: 1, max: 5 }), (from, tiles) => {
      const it = laid(from);
      const best = tiles * TILE > it.arena.slots ? Infinity : fewest(it, tiles);
      const owner = it.allocate(tiles * TILE);
      it.step(0);
      assert.is(owner === undefined ? Infinity : it.moved, best);
    }),
    { numRuns: 300 },
  );
});

arena('moves as few slots as any plan could to let a span grow', () => {
  fc.assert(
    fc.property(segments, fc.nat(), fc.integer({ min: 1, max: 3 }), (from, which, more) => {
      const it = laid(from);
      if (it.owners.length === 0) return;
      const owner = it.owners[which % it.owners.length]!;
      const slots = owner.span!.capacity + more * TILE;
      const best = slots > it.arena.slots ? Infinity : fewest(it, slots / TILE, owner);
      const grown = it.arena.grow(owner.span!, slots);
      it.step(0);
      assert.is(grown ? it.moved : Infinity, best);
    }),
    { numRuns: 300 },
  );
});

arena('parks a span and brings it back: its slots are free at once, its contents are the same', () => {
  const it = new Simulation(256, 128);
  const [a, b] = [it.allocate(128)!, it.allocate(128)!];
  it.step(70);
  assert.ok(it.arena.park(a.span!));
  assert.equal([it.arena.free, it.arena.hostFree, it.isParked(a)], [128, 0, true]);
  const c = it.allocate(128)!; // where a still lies
  it.step(128);
  assert.is(it.arena.unpark(a.span!, 128), false);
  it.release(b);
  assert.ok(it.arena.unpark(a.span!, 128));
  it.step(1);
  assert.equal([it.arena.free, it.arena.hostFree, a.computed, c.computed], [0, 128, 71, 128]);
});

arena('parks nothing that is empty, and nothing that host memory has no place for', () => {
  const it = new Simulation(512, 192);
  const all = [64, 64, 64].map((slots) => it.allocate(slots)!);
  assert.is(it.arena.park(all[0]!.span!), false);
  it.step(64);
  for (const { span } of all) assert.ok(it.arena.park(span!));
  it.step(0);
  it.release(all[1]!);
  const larger = it.allocate(128)!;
  it.step(65);
  assert.is(it.arena.park(larger.span!), false);
  it.release(all[0]!);
  assert.ok(it.arena.park(larger.span!));
  it.step(0);
});

arena('writes nothing to slots that the same plan parks', () => {
  const full = { tiles: 1, used: TILE };
  const it = layout([full, full], 2 * TILE);
  const [a, b] = it.owners as [Owner, Owner];
  assert.ok(it.arena.park(a.span!));
  it.step(0);
  const c = it.allocate(TILE)!;
  it.step(TILE);
  assert.ok(it.arena.park(b.span!));
  assert.is(it.arena.unpark(a.span!, TILE), false); // free are only the slots that b leaves
  it.step(0);
  assert.ok(it.arena.unpark(a.span!, TILE));
  it.step(0);
  assert.is(c.computed, TILE);
});

arena('parks nothing on slots that the same plan brings back', () => {
  const it = new Simulation(256, 64);
  const [a, b] = [it.allocate(64)!, it.allocate(64)!];
  it.step(64);
  assert.ok(it.arena.park(a.span!));
  it.step(0);
  assert.ok(it.arena.unpark(a.span!, 64));
  assert.is(it.arena.park(b.span!), false);
  it.step(0);
  assert.ok(it.arena.park(b.span!));
  it.step(0);
});

arena('parking and its reverse undo each other until a plan has taken the moves', () => {
  const it = new Simulation(256, 64);
  const a = it.allocate(64)!;
  it.step(64);
  assert.ok(it.arena.park(a.span!));
  assert.ok(it.arena.unpark(a.span!, 64));
  assert.is(it.arena.hostFree, 64);
  it.step(0);
  assert.ok(it.arena.park(a.span!));
  it.step(0);
  const { offset } = a.span!;
  assert.ok(it.arena.unpark(a.span!, 128));
  assert.ok(it.arena.park(a.span!));
  assert.equal([a.span!.offset, it.arena.moving, it.arena.free, it.arena.hostFree], [offset, false, 256, 0]);
  it.step(0);
});

arena('makes way in one plan for what comes back in the next', () => {
  const small = { tiles: 1, used: 9 };
  const it = layout([small, small, small, small, { tiles: 2, used: 100 }], 128);
  const at = (tile: number) => it.owners.find(({ span }) => span!.offset === tile * TILE)!;
  const parked = at(4);
  assert.ok(it.arena.park(parked.span!));
  it.step(0);
  it.allocate(2 * TILE);
  it.step(2 * TILE);
  it.release(at(1));
  it.release(at(3));
  assert.equal([it.arena.free, it.arena.unpark(parked.span!, 128), it.arena.moving], [128, false, true]);
  it.step(0);
  assert.equal([it.moved - 100, it.arena.unpark(parked.span!, 128)], [64, true]); // one of the tiles went
  it.step(0);
});

arena('a span that slides writes nothing that a pending move reads, though it lies in its own slots', () => {
  const it = new Simulation(10 * TILE, TILE);
  const [a, b] = [it.allocate(2 * TILE)!, it.allocate(TILE, 4 * TILE)!];
  it.step(65);
  assert.ok(it.arena.park(b.span!));
  assert.ok(it.arena.grow(a.span!, 5 * TILE)); // its empty end comes over what b leaves
  const c = it.allocate(2 * TILE)!;
  assert.ok(it.arena.grow(c.span!, 3 * TILE));
  it.step(0);
  assert.ok(b.span!.home >= it.arena.slots);
});

arena('gives host memory back when a span is released, wherever its contents are', () => {
  for (const moment of ['before it left', 'parked', 'before it came back']) {
    const it = new Simulation(128, 64);
    const a = it.allocate(64)!;
    it.step(64);
    assert.ok(it.arena.park(a.span!));
    if (moment !== 'before it left') it.step(0);
    if (moment === 'before it came back') assert.ok(it.arena.unpark(a.span!, 64));
    it.release(a);
    assert.equal([it.arena.free, it.arena.hostFree, it.arena.moving], [128, 64, false], moment);
    it.step(0);
  }
});

arena('keeps every span whole through any life: disjoint, in range, contents where they belong', () => {
  const act = fc.oneof(
    fc.record({
      kind: fc.constant('allocate' as const),
      tiles: fc.integer({ min: 1, max: 5 }),
      wish: fc.nat({ max: 5 }),
    }),
    fc.record({ kind: fc.constant('grow' as const), which: fc.nat(), tiles: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('release' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('park' as const), which: fc.nat(), tiles: fc.nat({ max: 2 }) }),
    fc.record({ kind: fc.constant('step' as const), tokens: fc.integer({ min: 0, max: 200 }) }),
  );
  const sizes = [fc.integer({ min: 1, max: 24 }), fc.nat({ max: 12 })] as const;
  let [parked, back] = [0, 0];
  fc.assert(
    fc.property(...sizes, fc.array(act, { maxLength: 120, size: 'max' }), (tiles, hostTiles, acts) => {
      const it = new Simulation(tiles * TILE, hostTiles * TILE);
      for (const one of acts) {
        const owner = 'which' in one ? it.owners[one.which % it.owners.length] : undefined;
        if (one.kind === 'allocate') it.allocate(one.tiles * TILE, (one.tiles + one.wish) * TILE);
        else if (one.kind === 'step') it.step(one.tokens);
        else if (owner === undefined) continue;
        else if (one.kind === 'release') it.release(owner);
        else if (one.kind === 'park' && it.isParked(owner)) {
          back += Number(it.arena.unpark(owner.span!, tiled(owner.computed) + one.tiles * TILE));
        } else if (one.kind === 'park') parked += Number(it.arena.park(owner.span!));
        else if (!it.isParked(owner)) it.arena.grow(owner.span!, owner.span!.capacity + one.tiles * TILE);
        it.check();
      }
      it.step(1);
      for (const owner of [...it.owners]) it.release(owner);
      const { arena: empty } = it;
      assert.equal([empty.free, empty.hostFree, empty.moving], [empty.slots, empty.hostSlots, false]);
      assert.is(it.allocate(empty.slots)?.span?.offset, 0);
    }),
    { numRuns: 600 },
  );
  assert.ok(parked > 100 && back > 50, `${parked} parked, ${back} brought back`);
});

arena('the check finds what is wrong', () => {
  const broken: ((it: Simulation) => void)[] = [
    (it) => (it.owners[0]!.span!.offset += TILE),
    (it) => (it.owners[0]!.span!.capacity += TILE),
    (it) => (it.owners[0]!.span!.offset += 1),
    (it) => (it.owners[0]!.computed = 65),
    (it) => it.owners.pop(),
  ];
  for (const spoil of broken) {
    const it = layout([{ tiles: 1, used: 9 }, { tiles: 1, used: 9 }]);
    it.check();
    spoil(it);
    const owned = (span: Span) => it.owners.includes(span.owner as Owner);
    assert.throws(() => it.arena.check(owned), (error: EngineError) => error.code === 'INTERNAL');
  }
});

arena.run();
