import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import { DenseMap } from '../../src/loop/dense.ts';

const dense = suite('DenseMap');

type DenseSpan = NonNullable<ReturnType<DenseMap['allocate']>>;

/** An owner whose tokens are all the same letter. */
interface Owner {
  readonly letter: string;
  computed: number;
  length: number;
  readonly limit: number;
  span: DenseSpan | undefined;
}

function owner(letter: string, length: number, limit = 10_000): Owner {
  return { letter, computed: 0, length, limit, span: undefined };
}

/** A map, and the slots that it is the map of: '.' holds nothing, and reading it is an error. */
class Device {
  readonly map: DenseMap;
  readonly cells: string[];
  moved = 0;

  constructor(slots: number, { rows = 8, reserve = false, apart = false } = {}) {
    this.map = new DenseMap(slots, { rows, reserve, apart });
    this.cells = new Array<string>(slots).fill('.');
  }

  /** Gives it a span; false if there is none. */
  add(one: Owner): boolean {
    one.span = this.map.allocate(one, Math.ceil((this.map.options.reserve ? one.limit : one.length) / 64) * 64);
    return one.span !== undefined;
  }

  remove(one: Owner): void {
    this.map.release(one.span!);
    one.span = undefined;
  }

  /** The moves of a step, and what these owners are behind. */
  step(...running: Owner[]): void {
    const before = this.cells.slice();
    const moves: { from: number; to: number; slots: number }[] = [];
    this.moved = this.map.takeMoves((from, to, slots) => void moves.push({ from, to, slots }));
    const meet = (a: number, b: number, aSlots: number, bSlots: number) => a < b + bSlots && b < a + aSlots;
    for (const one of moves) {
      for (const other of moves) {
        if (one === other) continue;
        assert.not.ok(meet(one.to, other.to, one.slots, other.slots), 'two moves write the same');
        assert.not.ok(meet(one.to, other.from, one.slots, other.slots), 'a move writes what another reads');
      }
    }
    for (const { from, slots } of moves) this.cells.fill('.', from, from + slots);
    for (const { from, to, slots } of moves) this.cells.splice(to, slots, ...before.slice(from, from + slots));
    for (const one of running) {
      const { offset, masked } = one.span!;
      this.cells.fill(one.letter, offset + masked + one.computed, offset + masked + one.length);
      one.computed = one.length;
    }
  }

  /** The tokens of an owner, as a run reads them. */
  read({ span, computed }: Owner): string {
    const first = span!.offset + span!.masked;
    return this.cells.slice(first, first + computed).join('');
  }

  /** Tile by tile: how many slots hold what, and '.' for what no owner reads. */
  picture(...owners: Owner[]): string[] {
    const live = this.cells.map(() => '.');
    for (const { span, computed, letter } of owners) {
      const first = span!.offset + span!.masked;
      live.fill(letter, first, first + computed);
    }
    const tiles = Array.from({ length: live.length / 64 }, (_, tile) => live.slice(64 * tile, 64 * tile + 64).join(''));
    return tiles.map((tile) => tile.replace(/(.)\1*/g, (same, letter) => `${same.length}${letter} `).trim());
  }
}

dense('rows lie one after another, and end at the same column', () => {
  const it = new Device(1024);
  const [a, b, c] = [owner('A', 5), owner('B', 60), owner('C', 1)];
  for (const one of [a, b, c]) assert.ok(it.add(one));
  it.step(a, b, c);
  assert.equal(it.picture(a, b, c).slice(0, 4), ['55. 5A 4.', '60B 4.', '59. 1C 4.', '64.']);
  for (const one of [a, b, c]) one.length += 4;
  for (const one of [a, b, c]) assert.ok(it.map.grow(one.span!));
  it.step(a, b, c);
  assert.equal([it.moved, it.picture(a, b, c).slice(0, 3)], [0, ['55. 9A', '64B', '59. 5C']]);
  assert.equal(it.map.stats(), { slots: 1024, used: 78, padding: 114, free: 832, peak: 192, cached: 0 });
});

dense('a column more than its tiles copies every row to other slots, and both layouts are there for a moment', () => {
  const it = new Device(512);
  const [a, b] = [owner('A', 5), owner('B', 64)];
  for (const one of [a, b]) it.add(one);
  it.step(a, b);
  for (const one of [a, b]) one.length++;
  assert.ok(it.map.grow(b.span!));
  it.step(a, b);
  assert.equal([it.moved, it.map.stats().peak], [5 + 64, 128 + 256]);
  assert.equal(it.picture(a, b), ['64.', '64.', '59. 5A', '1A 63.', '64B', '1B 63.', '64.', '64.']);
});

dense('a longer row pads all others, and a shorter one is padded; either copies the whole', () => {
  const it = new Device(1024);
  const [a, b, c] = [owner('A', 10), owner('B', 30), owner('C', 20)];
  it.add(a);
  it.step(a);
  it.add(b);
  it.step(b);
  assert.equal([it.moved, it.picture(a, b)[1], it.picture(a, b)[2]], [10, '20. 10A 34.', '30B 34.']);
  it.add(c);
  it.step(c);
  assert.equal([it.moved, it.picture(a, b, c).slice(3, 6)], [40, ['20. 10A 34.', '30B 34.', '10. 20C 34.']]);
});

dense('who leaves takes along the columns that are padding in all others; the last row takes its place', () => {
  const it = new Device(1024);
  const [a, b, c] = [owner('A', 100), owner('B', 30), owner('C', 20)];
  for (const one of [a, b, c]) it.add(one);
  it.step(a, b, c);
  assert.equal(it.picture(a, b, c).slice(0, 6), ['64A', '36A 28.', '64.', '6. 30B 28.', '64.', '16. 20C 28.']);
  it.remove(a);
  it.step();
  assert.equal([it.moved, it.picture(b, c).slice(0, 3)], [50, ['10. 20C 34.', '30B 34.', '64.']]);
  assert.is(it.map.free, 1024 - 128);
});

dense('what is prefilled apart is embedded by copy, behind masked slots', () => {
  const it = new Device(1024, { apart: true });
  const [a, b, c] = [owner('A', 70), owner('B', 10), owner('C', 3)];
  for (const one of [a, b, c]) it.add(one);
  it.step(a, b, c);
  assert.equal(it.picture(a, b, c).slice(12), ['3C 61.', '10B 54.', '64A', '6A 58.']);
  assert.ok(it.map.embed([a, b]));
  it.step();
  assert.equal(it.moved, 80);
  assert.equal(it.picture(a, b, c).slice(0, 4), ['64A', '6A 58.', '60. 4B', '6B 58.']);
  assert.is(it.picture(a, b, c)[12], '3C 61.');
  assert.equal(it.map.stats(), { slots: 1024, used: 83, padding: 237, free: 704, peak: 512, cached: 0 });
});

dense('a span apart is kept off slots that a pending move still reads', () => {
  const it = new Device(384, { apart: true });
  const [a, b, c] = [owner('A', 60), owner('B', 60), owner('C', 60)];
  it.add(a);
  it.step(a);
  assert.ok(it.map.embed([a]));
  assert.ok(it.add(b));
  it.step(b);
  assert.equal(it.picture(a, b), ['60A 4.', '64.', '64.', '64.', '60B 4.', '64.']);
  it.remove(a);
  assert.ok(it.add(c));
  assert.is(c.span!.offset, 320);
});

dense('where there is no room for both layouts rows stay near their place, as far as no copy meets another', () => {
  const it = new Device(384);
  const [a, b] = [owner('A', 64), owner('B', 4)];
  it.add(a);
  it.add(b);
  it.step(a, b);
  assert.equal(it.picture(a, b), ['64A', '60. 4B', '64.', '64.', '64.', '64.']);
  const grow = (columns: number) => {
    a.length = columns;
    b.length = columns - 60;
    return it.map.grow(a.span!);
  };
  assert.ok(grow(65));
  it.step(a, b);
  assert.equal(it.picture(a, b), ['64.', '64.', '64A', '1A 63.', '60. 4B', '1B 63.']);
  assert.ok(grow(129));
  it.step(a, b);
  assert.equal([it.moved, it.picture(a, b)], [70, ['64A', '64A', '1A 63.', '60. 4B', '64B', '1B 63.']]);
  assert.not.ok(grow(193), 'eight tiles are not there');
  assert.equal([it.map.free, it.read(a), it.read(b)], [0, 'A'.repeat(129), 'B'.repeat(69)]);
  it.remove(b);
  assert.ok(it.map.grow(a.span!));
});

dense('a row that is alone can take the whole arena', () => {
  const it = new Device(320);
  const a = owner('A', 1);
  it.add(a);
  it.step(a);
  for (; a.length < 320; a.length++) {
    assert.ok(it.map.grow(a.span!));
    it.step(a);
    assert.is(it.read(a), 'A'.repeat(a.length));
  }
  assert.ok(it.map.grow(a.span!));
  a.length++;
  assert.not.ok(it.map.grow(a.span!));
});

dense('alone after longer neighbours, too: it slides over its own place', () => {
  const it = new Device(576);
  const [a, b] = [owner('A', 100), owner('B', 20)];
  it.add(b);
  it.add(a);
  it.step(a, b);
  it.remove(a);
  b.length = 570;
  assert.ok(it.map.grow(b.span!));
  it.step(b);
  assert.equal(it.picture(b), [...new Array(8).fill('64B'), '58B 6.']);
});

dense('what cannot be laid out anew when a row leaves stays where it is, with a hole, until it can', () => {
  const it = new Device(512, { reserve: true });
  const [a, b, c, d] = [owner('A', 81, 88), owner('B', 38, 85), owner('C', 7, 52), owner('D', 9, 9)];
  for (const one of [a, b, c, d]) assert.ok(it.add(one));
  it.step(a, b, c, d);
  a.length++; // the others are held; aligned with it, and with room for its whole length, B would need a third tile
  it.remove(d);
  it.map.check(() => true);
  it.step(a);
  const rows = ['64A', '18A 46.', '43. 21B', '17B 47.', '64.', '10. 7C 47.'];
  assert.equal([it.moved, it.map.free, it.picture(a, b, c)], [0, 0, [...rows, '64.', '64.']]);
  it.remove(b);
  it.step();
  assert.equal([it.moved, it.map.free], [7, 256]);
  assert.equal(it.picture(a, c).slice(0, 4), ['64A', '18A 46.', '64.', '11. 7C 46.']);
});

dense('who comes to others leaves room for a layout one tile wider', () => {
  const fits = (slots: number) => {
    const it = new Device(slots);
    it.add(owner('A', 10));
    return it.add(owner('B', 10));
  };
  assert.equal([fits(64 + 64 + 2 * 128 - 64), fits(64 + 64 + 2 * 128)], [false, true]);
});

dense('reserve has room for the longest that is to come, and never grows', () => {
  const it = new Device(1024, { reserve: true });
  const [a, b] = [owner('A', 10, 40), owner('B', 50, 60)];
  for (const one of [a, b]) assert.ok(it.add(one));
  it.step(a, b);
  assert.equal(it.picture(a, b).slice(0, 4), ['40. 10A 14.', '64.', '50B 14.', '64.'].slice(0, 4));
  for (; a.length < 40; a.length++) {
    assert.ok(it.map.grow(a.span!));
    it.step(a);
    assert.is(it.moved, 0);
  }
});

dense('a row that is held falls behind, and is aligned again by the next layout', () => {
  const it = new Device(1024);
  const [a, b, c] = [owner('A', 5), owner('B', 5), owner('C', 1)];
  for (const one of [a, b]) it.add(one);
  it.step(a, b);
  a.length += 20;
  assert.ok(it.map.grow(a.span!));
  it.step(a);
  assert.equal([it.picture(a, b)[0], it.picture(a, b)[1]], ['25A 39.', '5B 59.']);
  it.add(c);
  it.step(c);
  assert.equal(it.picture(a, b, c).slice(2, 5), ['25A 39.', '20. 5B 39.', '24. 1C 39.']);
});

dense('the hole is the largest range that no span has', () => {
  const it = new Device(512, { apart: true });
  assert.equal(it.map.hole(), { start: 0, end: 512 });
  const [a, b] = [owner('A', 10), owner('B', 10)];
  it.add(a);
  it.step(a);
  assert.equal(it.map.hole(), { start: 0, end: 448 });
  it.map.embed([a]);
  assert.equal(it.map.hole(), { start: 64, end: 512 }); // what the copy leaves is free when runs begin
  assert.ok(it.add(b));
  assert.equal(it.map.hole(), { start: 64, end: 384 });
});

dense('refuses a number of slots that are no tiles', () => {
  for (const slots of [0, -64, 100, 64.5, NaN]) {
    assert.throws(
      () => new DenseMap(slots, { rows: 8, reserve: false, apart: false }),
      (error: Error) => error instanceof EngineError && error.code === 'INVALID_ARGUMENT',
    );
  }
});

dense('check notices what is not right', () => {
  const broken = (harm: (span: DenseSpan) => void) => {
    const it = new Device(512);
    const [a, b] = [owner('A', 10), owner('B', 20)];
    it.add(a);
    it.add(b);
    it.step(a, b);
    it.map.check(() => true);
    harm(a.span!);
    return () => it.map.check((span) => span === a.span || span === b.span);
  };
  assert.not.throws(broken(() => {}));
  assert.throws(broken((span) => (span.offset = 64)), /overlaps/);
  assert.throws(broken((span) => (span.offset = 192)), /not in the layout/);
  assert.throws(broken((span) => (span.capacity = 128)), /others have 64/);
  assert.throws(broken((span) => (span.masked = 60)), /60 masked, holds 10/);
  assert.throws(broken((span) => (span.masked = -1)), /-1 masked/);
  const it = new Device(128);
  it.add(owner('A', 10));
  assert.throws(() => it.map.check(() => false), /has no owner/);
});

const act = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), length: fc.integer({ min: 1, max: 150 }), limit: fc.nat(200) }),
  fc.record({ kind: fc.constant('remove' as const), which: fc.nat(20) }),
  fc.record({ kind: fc.constant('embed' as const), count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant('step' as const), held: fc.nat(20) }),
);

dense('whatever is done in whatever order, every owner reads its own tokens, and the slots add up', () => {
  fc.assert(
    fc.property(
      fc.array(act, { maxLength: 60 }),
      fc.constantFrom(256, 512, 1024),
      fc.record({ rows: fc.integer({ min: 1, max: 8 }), reserve: fc.boolean(), apart: fc.boolean() }),
      (acts, slots, options) => {
        const it = new Device(slots, options);
        const rows: Owner[] = [];
        const waiting: Owner[] = [];
        const removeFrom = (place: Owner[], which: number) => it.remove(place.splice(which % place.length, 1)[0]!);
        acts.forEach((one, i) => {
          const all = [...rows, ...waiting];
          if (one.kind === 'add') {
            const made = owner(String.fromCharCode(65 + (i % 26)), one.length, Math.min(slots, one.length + one.limit));
            if (it.add(made)) (options.apart ? waiting : rows).push(made);
            else assert.ok(all.length > 0, 'who is alone fits');
          } else if (one.kind === 'remove') {
            if (all.length > 0) removeFrom(one.which % all.length < rows.length ? rows : waiting, one.which);
          } else if (one.kind === 'embed') {
            const some = waiting.slice(0, one.count);
            if (some.length > 0 && it.map.embed(some)) rows.push(...waiting.splice(0, some.length));
          } else {
            for (let row = rows.length - 1; row >= 0; row = Math.min(row, rows.length) - 1) {
              while (!it.map.grow(rows[row]!.span!)) {
                assert.not.ok(options.reserve, 'what is reserved is there');
                assert.ok(rows.length + waiting.length > 1, 'a row that is alone can always grow');
                removeFrom(waiting.length > 0 ? waiting : rows, 0);
                if (rows[row] === undefined) break;
              }
            }
            it.step(...waiting, ...rows.filter((_, row) => row !== one.held));
            for (const row of rows) if (row.computed === row.length && row.length < row.limit) row.length++;
          }
          const owners = new Set<unknown>([...rows, ...waiting].map(({ span }) => span));
          it.map.check((span) => owners.has(span));
          const { used, padding, free, peak } = it.map.stats();
          assert.is(used + padding + free, slots);
          assert.ok(used <= slots - free && peak <= slots);
          if (one.kind !== 'step') return;
          for (const { letter, computed, ...rest } of [...rows, ...waiting]) {
            assert.is(it.read({ letter, computed, ...rest }), letter.repeat(computed));
          }
        });
        for (const place of [rows, waiting]) while (place.length > 0) removeFrom(place, 0);
        assert.equal([it.map.free, it.map.stats().used], [slots, 0]);
      },
    ),
    { numRuns: 500 },
  );
});

dense.run();
