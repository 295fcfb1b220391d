import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { type KeptOwner, KeptSpans } from '../../src/loop/kept-spans.ts';

const kept = suite('KeptSpans');

/** Spans of 100 slots, one every 128, with these turns. */
function make(...turns: readonly number[]) {
  const it = new KeptSpans();
  const owners = turns.map((turn, i) => {
    const owner = { turn, computed: 100, cut: (slots: number) => void (owner.computed = slots) } satisfies KeptOwner;
    const span = { owner, offset: 128 * i };
    it.add(span);
    return { owner, span };
  });
  return { it, owners, left: () => owners.map(({ owner }) => owner.computed) };
}

kept('tells who is in the way what is left to them: the beginning, or nothing', () => {
  const { it, left } = make(1, 2, 3, 4);
  it.clear(192, 384);
  assert.equal([left(), it.slots], [[100, 64, 0, 100], 264]);
  it.clear(100, 128); // behind the contents of the first
  it.clear(512, 1024);
  assert.equal(left(), [100, 64, 0, 100]);
});

kept('forgets who is removed, and does not tell', () => {
  const { it, owners, left } = make(1, 2);
  it.remove(owners[0]!.span);
  it.clear(0, 128);
  assert.equal([left(), it.slots], [[100, 100], 100]);
});

kept('finds the place where the highest turn is lowest, the preferred one among equals', () => {
  const place = (turns: readonly number[], slots: number, preferred: number) => {
    const { offset, turn } = make(...turns).it.place(
      { begin: 0, end: 128 * turns.length, first: 0, next: turns.length },
      slots,
      preferred,
      Infinity,
    );
    return [offset, turn];
  };
  assert.equal(place([3, 1, 2], 128, 0), [128, 1]);
  assert.equal(place([3, 1, 2], 256, 0), [128, 2]);
  assert.equal(place([1, 2, 3, 3], 256, 256), [0, 2]);
  assert.equal(place([5, 0, 0, 5], 128, 128), [128, 0]);
  assert.equal(place([7, 7], 128, 0), [0, 7]);
});

kept('the check finds what is wrong', () => {
  const anywhere = () => true;
  make(1, 2).it.check(anywhere, anywhere);
  const broken: ((it: ReturnType<typeof make>) => unknown)[] = [
    ({ owners }) => (owners[0]!.owner.computed = 0),
    ({ owners }) => (owners[0]!.owner.computed = 129),
  ];
  const codeOf = (run: () => void) => {
    try {
      run();
    } catch (error) {
      return (error as EngineError).code;
    }
    return 'none';
  };
  for (const spoil of broken) {
    const made = make(1, 2);
    spoil(made);
    assert.is(codeOf(() => made.it.check(anywhere, anywhere)), 'INTERNAL');
  }
  assert.is(codeOf(() => make(1).it.check(() => false, anywhere)), 'INTERNAL');
  assert.is(codeOf(() => make(1).it.check(anywhere, () => false)), 'INTERNAL');
});

kept.run();
