import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { HostSlots } from '../../src/loop/host-slots.ts';

const host = suite('HostSlots');

host('numbers its slots from the first, and gives the closest fit', () => {
  const it = new HostSlots<string>(1000, 64 * 8);
  const names = ['a', 'b', 'c', 'd', 'e'];
  const starts = names.map((name, i) => it.allocate(name, [64, 128, 64, 64, 64][i]!));
  assert.equal(starts, [1000, 1064, 1192, 1256, 1320]);
  it.release('b');
  it.release('d');
  assert.equal([it.allocate('f', 64), it.free], [1256, 64 * 4]); // not where two fit
  assert.equal([it.allocate('g', 192), it.allocate('h', 128), it.free], [undefined, 1064, 128]);
});

host('keeps ranges apart through any life, and is whole in the end', () => {
  const act = fc.record({ slots: fc.integer({ min: 1, max: 5 }), which: fc.option(fc.nat()) });
  fc.assert(
    fc.property(fc.nat({ max: 20 }), fc.array(act, { maxLength: 100, size: 'max' }), (tiles, acts) => {
      const it = new HostSlots<number>(640, tiles * 64);
      const taken = new Map<number, [start: number, slots: number]>();
      for (const [id, { slots, which }] of acts.entries()) {
        const victim = which === null ? undefined : [...taken.keys()][which % taken.size];
        if (victim !== undefined) {
          it.release(victim);
          taken.delete(victim);
          continue;
        }
        const start = it.allocate(id, slots * 64);
        if (start !== undefined) taken.set(id, [start, slots * 64]);
        it.check((owner, first) => taken.get(owner)?.[0] === first);
      }
      assert.is(it.free, tiles * 64 - [...taken.values()].reduce((sum, [, slots]) => sum + slots, 0));
      for (const id of taken.keys()) it.release(id);
      assert.is(tiles === 0 ? 640 : it.allocate(0, tiles * 64), 640);
    }),
  );
});

host('the check finds ranges that nobody owns', () => {
  const it = new HostSlots<string>(64, 128);
  it.allocate('a', 64);
  it.check((owner, start) => owner === 'a' && start === 64);
  assert.throws(() => it.check(() => false), (error: EngineError) => error.code === 'INTERNAL');
});

host.run();
