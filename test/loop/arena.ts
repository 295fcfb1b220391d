import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { KvArena, type Span, TILE, tiled } from '../../src/loop/arena.ts';
import type { KeptOwner, KeptSpan } from '../../src/loop/kept-spans.ts';

const arena = suite('KvArena');

interface Owner {
  readonly id: number;
  computed: number;
  span?: Span;
  /** What its slots hold, where that is another's. */
  readonly copied: string[];
}

/** What an owner left behind. */
interface Left extends KeptOwner {
  readonly contents: readonly string[];
  computed: number;
  kept?: KeptSpan;
}

/** An arena with a device under it: every slot holds who wrote it and for which position. */
class Simulation {
  readonly arena: KvArena;
  readonly owners: Owner[] = [];
  readonly left: Left[] = [];
  readonly cells: string[];
  moved = 0;
  moves = 0;
  #next = 0;

  constructor(slots: number) {
    this.arena = new KvArena(slots);
    this.cells = new Array<string>(slots).fill('');
  }

  allocate(slots: number, wish = slots): Owner | undefined {
    const owner: Owner = { id: this.#next++, computed: 0, copied: [] };
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

  contents(owner: Owner): string[] {
    return Array.from({ length: owner.computed }, (_, i) => owner.copied[i] ?? `${owner.id}:${i}`);
  }

  /** Releases a span, and keeps what it holds; undefined if there is nothing to keep. */
  keep(owner: Owner, turn = this.#next++): Left | undefined {
    const left: Left = {
      turn,
      contents: this.contents(owner),
      computed: owner.computed,
      cut: (slots) => {
        assert.ok(slots < left.computed && slots >= 0, `${slots} of ${left.computed}`);
        left.computed = slots;
        if (slots === 0) this.left.splice(this.left.indexOf(left), 1);
      },
    };
    this.left.push(left);
    this.owners.splice(this.owners.indexOf(owner), 1);
    const kept = this.arena.keep(owner.span!, left);
    if (kept !== undefined) left.kept = kept;
    else this.left.splice(this.left.indexOf(left), 1);
    return kept === undefined ? undefined : left;
  }

  drop(left: Left): void {
    this.arena.drop(left.kept!);
    this.left.splice(this.left.indexOf(left), 1);
  }

  /** A new span that begins with what lies at `from`; how much of it was copied. */
  allocateLike(slots: number, wish: number, from: number, contents: readonly string[]): [Owner?, number?] {
    const owner = this.allocate(slots, wish);
    if (owner === undefined) return [];
    owner.computed = this.arena.copy(from, owner.span!, Math.min(slots, contents.length));
    owner.copied.push(...contents.slice(0, owner.computed));
    return [owner, owner.computed];
  }

  /** A step: all moves at once, as a launch in any order may do them; then `tokens` more are computed for everyone. */
  step(tokens: number): void {
    const moves: [number, number, number][] = [];
    this.moved += this.arena.takeMoves((...move) => void moves.push(move));
    this.moves += moves.length;
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
    // What nobody owns is lost.
    const wanted = new Set<number>();
    const want = (offset: number, slots: number) => {
      for (let i = 0; i < slots; i++) wanted.add(offset + i);
    };
    for (const { span, computed } of this.owners) want(span!.offset, computed);
    for (const { kept, computed } of this.left) want(kept!.offset, computed);
    for (let slot = 0; slot < this.cells.length; slot++) if (!wanted.has(slot)) this.cells[slot] = '';
    for (const owner of this.owners) {
      const { offset, capacity } = owner.span!;
      for (let i = 0; i < tokens && owner.computed < capacity; i++, owner.computed++) {
        this.cells[offset + owner.computed] = `${owner.id}:${owner.computed}`;
      }
    }
    this.check();
  }

  check(): void {
    const { left } = this;
    this.arena.check((span) => this.owners.includes(span.owner as Owner), (kept) => left.includes(kept.owner as Left));
    const { slots, used, padding, free, cached } = this.arena.stats();
    assert.is(used + padding + free, slots);
    assert.is(used, this.owners.reduce((sum, owner) => sum + owner.computed, 0));
    assert.is(cached, left.reduce((sum, { computed }) => sum + computed, 0));
    for (const owner of this.owners) {
      const { home } = owner.span!;
      assert.equal(this.cells.slice(home, home + owner.computed), this.contents(owner));
    }
    for (const { kept, computed, contents } of left) {
      const { offset } = kept!;
      assert.equal(this.cells.slice(offset, offset + computed), contents.slice(0, computed));
    }
  }
}

interface Segment {
  readonly tiles: number;
  /** Computed slots of a span; none: a hole. */
  readonly used?: number | undefined;
}

/** An arena that holds exactly these, in this order. */
function layout(segments: readonly Segment[]): Simulation {
  const slots = segments.reduce((sum, { tiles }) => sum + tiles * TILE, 0);
  const simulation = new Simulation(slots);
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
  assert.equal(it.arena.stats(), { slots: 256, used: 0, padding: 256, free: 0, cached: 0, peak: 256 });
  it.release(a!);
  it.release(b!);
  assert.equal(it.arena.stats(), { slots: 256, used: 0, padding: 0, free: 256, cached: 0, peak: 256 });
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

arena('keeps every span whole through any life: disjoint, in range, contents where they belong', () => {
  const act = fc.oneof(
    fc.record({
      kind: fc.constant('allocate' as const),
      tiles: fc.integer({ min: 1, max: 5 }),
      wish: fc.nat({ max: 5 }),
    }),
    fc.record({ kind: fc.constant('grow' as const), which: fc.nat(), tiles: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('release' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('keep' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('drop' as const), which: fc.nat() }),
    fc.record({
      kind: fc.constantFrom('copy' as const, 'recall' as const),
      which: fc.nat(),
      tiles: fc.integer({ min: 1, max: 5 }),
      wish: fc.nat({ max: 3 }),
    }),
    fc.record({ kind: fc.constant('step' as const), tokens: fc.integer({ min: 0, max: 200 }) }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 24 }), fc.array(act, { maxLength: 120 }), (tiles, acts) => {
      const it = new Simulation(tiles * TILE);
      for (const one of acts) {
        const owner = 'which' in one ? it.owners[one.which % it.owners.length] : undefined;
        if (one.kind === 'allocate') it.allocate(one.tiles * TILE, (one.tiles + one.wish) * TILE);
        else if (one.kind === 'step') it.step(one.tokens);
        else if (one.kind === 'drop' || one.kind === 'recall') {
          const left = it.left[one.which % it.left.length];
          if (left === undefined) continue;
          const { offset } = left.kept!;
          const contents = left.contents.slice(0, left.computed);
          if (one.kind === 'drop') it.drop(left);
          else it.allocateLike(one.tiles * TILE, (one.tiles + one.wish) * TILE, offset, contents);
        } else if (owner === undefined) continue;
        else if (one.kind === 'release') it.release(owner);
        else if (one.kind === 'keep') it.keep(owner);
        else if (one.kind === 'copy') {
          const { home } = owner.span!;
          it.allocateLike(one.tiles * TILE, (one.tiles + one.wish) * TILE, home, it.contents(owner));
        }
        else it.arena.grow(owner.span!, owner.span!.capacity + one.tiles * TILE);
        it.check();
      }
      it.step(1);
      for (const owner of [...it.owners]) it.release(owner);
      assert.equal([it.arena.free, it.allocate(it.arena.slots)?.span?.offset], [it.arena.slots, 0]);
    }),
    { numRuns: 400 },
  );
});

arena('keeps what is left where nobody is, and cuts it to what others leave of it', () => {
  const full = (tiles: number) => ({ tiles, used: tiles * TILE });
  const it = layout([full(2), full(3), full(1)]);
  const [, second] = [0, 2].map((tile) => it.owners.find(({ span }) => span!.offset === tile * TILE)!);
  const left = it.keep(second!)!;
  assert.equal([it.arena.free, it.arena.stats().cached], [3 * TILE, 3 * TILE]);
  assert.is(it.allocate(TILE)!.span!.offset, 4 * TILE);
  assert.equal([left.computed, it.arena.stats().cached], [2 * TILE, 2 * TILE]);
  it.step(0);
  const last = it.allocate(2 * TILE)!;
  assert.equal([last.span!.offset, it.left.length], [2 * TILE, 0]);
  it.step(0);
});

arena('takes the slots of what was left first, where it has the choice', () => {
  const place = (turns: readonly number[], tiles = 2, wish = tiles) => {
    const it = layout(turns.map(() => ({ tiles: 2, used: 100 })));
    const owners = it.owners.toSorted((a, b) => a.span!.offset - b.span!.offset);
    turns.forEach((turn, i) => it.keep(owners[i]!, turn));
    const { offset } = it.allocate(tiles * TILE, wish * TILE)!.span!;
    return [offset / TILE, ...it.left.map(({ turn }) => turn)];
  };
  assert.equal(place([3, 1, 2]), [2, 3, 2]);
  assert.equal(place([1, 2, 3, 4]), [0, 2, 3, 4]);
  assert.equal(place([5, 2, 1, 4], 4), [2, 5, 4]);
  assert.equal(place([1, 2, 5, 4], 2, 4), [0, 2, 5, 4]);
});

arena('what is left is in nobody’s way: spans grow over it, and others are moved onto it', () => {
  const full = (tiles: number) => ({ tiles, used: tiles * TILE });
  const grows = layout([full(1), full(1), full(1)]);
  const [first, next] = grows.owners.toSorted((a, b) => a.span!.offset - b.span!.offset);
  grows.keep(next!);
  assert.ok(grows.arena.grow(first!.span!, 2 * TILE));
  grows.step(0);
  assert.equal([grows.moved, grows.left.length], [0, 0]);
  const moves = layout([full(1), full(1), { tiles: 1, used: 5 }, { tiles: 1 }]);
  const [left, , small] = moves.owners.toSorted((a, b) => a.span!.offset - b.span!.offset);
  moves.keep(left!);
  assert.ok(moves.allocate(2 * TILE));
  moves.step(0);
  assert.equal([moves.moved, small!.span!.offset, moves.left.length], [5, 0, 0]);
});

arena('copies from a span, from what is left, and from what has just been given away', () => {
  const it = layout([{ tiles: 2, used: 100 }, { tiles: 6 }]);
  const [donor] = it.owners;
  const contents = it.contents(donor!);
  assert.equal(it.allocateLike(128, 128, donor!.span!.home, contents)[1], 100);
  assert.equal(it.allocateLike(64, 64, donor!.span!.home, contents)[1], 64); // several may share a source
  it.step(0);
  assert.equal([it.moves, it.moved], [2, 164]);
  const left = it.keep(donor!)!;
  const whole = it.allocateLike(5 * TILE, 5 * TILE, left.kept!.offset, contents); // has its place over the source
  assert.equal([whole[1], whole[0]!.span!.offset, it.left.length], [100, 0, 0]);
  it.step(0);
  assert.equal([it.moves, it.moved], [2, 164]); // it lies where it should
});

arena('copies only what no other move of the step is in the way of', () => {
  const it = layout([{ tiles: 1, used: 64 }, { tiles: 2, used: 128 }, { tiles: 2 }]);
  const [second, first] = it.owners;
  const contents = it.contents(second!);
  assert.ok(it.arena.grow(first!.span!, 2 * TILE)); // moves behind the second
  const taken = it.allocateLike(TILE, TILE, second!.span!.home, contents);
  assert.equal([taken[0]!.span!.offset, taken[1]], [0, 0]); // the move still reads there
  it.step(0);
});

arena('copies nothing from where the move of another goes', () => {
  const it = layout([{ tiles: 1, used: 64 }, { tiles: 1, used: 64 }, { tiles: 1, used: 5 }, { tiles: 1 }]);
  const [, , donor] = it.owners;
  const left = it.keep(donor!)!;
  assert.is(it.allocateLike(2 * TILE, 2 * TILE, left.kept!.offset, left.contents)[1], 0); // the small one comes there
  it.step(0);
  assert.is(it.moved, 5);
});

arena('keeps nothing of a span that has yet to be moved', () => {
  const it = layout([{ tiles: 1, used: 9 }, { tiles: 1, used: 64 }, { tiles: 2 }]);
  const [, first] = it.owners;
  assert.ok(it.arena.grow(first!.span!, 128));
  assert.is(it.keep(first!), undefined);
  it.step(0);
});

arena('lets nobody slide, to either side, over slots that a copy reads', () => {
  const full = (tiles: number) => ({ tiles, used: tiles * TILE });
  const it = layout([{ tiles: 6 }, full(8), { tiles: 4 }, full(7), { tiles: 5 }]);
  const donor = it.owners.find(({ span }) => span!.offset === 6 * TILE)!;
  assert.is(it.allocateLike(5 * TILE, 5 * TILE, donor.span!.home, it.contents(donor))[1], 5 * TILE);
  assert.is(it.allocate(10 * TILE), undefined);
  it.step(0);
  assert.ok(it.allocate(10 * TILE));
  it.step(0);
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
