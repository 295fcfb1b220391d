import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { StopStrings } from '../../src/text/stop-strings.ts';

const stopStrings = suite('StopStrings');

/** What the class promises, said plainly: the first stop to be completed, the longest of those, cut in front of it. */
function cut(text: string, stops: readonly string[]): { text: string; found: string | null } {
  for (let end = 1; end <= text.length; end++) {
    const read = text.slice(0, end);
    const found = stops.filter((stop) => read.endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (found !== undefined) return { text: read.slice(0, end - found.length), found };
  }
  return { text, found: null };
}

/** The longest suffix that is the beginning of a stop, by trying each. */
function suffixThatMayStop(text: string, stops: readonly string[]): number {
  for (let length = text.length; length > 0; length--) {
    if (stops.some((stop) => stop.startsWith(text.slice(text.length - length)))) return length;
  }
  return 0;
}

// Two letters, so that stops overlap themselves and each other.
const text = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 6 });
const stop = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 5 });

stopStrings('agrees with the plain definition and never holds back more than it must', () => {
  fc.assert(
    fc.property(fc.array(text, { maxLength: 12 }), fc.array(stop, { maxLength: 16 }), (pieces, stops) => {
      const watched = new StopStrings(stops);
      let read = '';
      let emitted = '';
      for (const piece of pieces) {
        read += piece;
        emitted += watched.push(piece);
        const expected = cut(read, stops);
        assert.is(watched.found, expected.found);
        const held = expected.found === null ? suffixThatMayStop(read, stops) : 0;
        assert.is(emitted, expected.text.slice(0, expected.text.length - held));
      }
      assert.is(emitted + watched.flush(), cut(read, stops).text);
    }),
    { numRuns: 5000, seed: 7 },
  );
});

stopStrings('finds a stop that is spread over three pieces', () => {
  const watched = new StopStrings(['</s>']);
  assert.is(watched.push('The end.<'), 'The end.');
  assert.is(watched.push('/'), '');
  assert.is(watched.push('s> and more'), '');
  assert.is(watched.found, '</s>');
  assert.is(watched.push('even more'), '');
  assert.is(watched.flush(), '');
});

stopStrings('lets a false start go as soon as it is one', () => {
  const watched = new StopStrings(['\n\n']);
  assert.is(watched.push('one\n'), 'one');
  assert.is(watched.push('two'), '\ntwo');
  assert.is(watched.push('\n'), '');
  assert.is(watched.flush(), '\n');
  assert.is(watched.found, null);
});

stopStrings('lets everything through when there is nothing to stop at', () => {
  const watched = new StopStrings([]);
  assert.is(watched.push('anything'), 'anything');
  assert.is(watched.flush(), '');
});

stopStrings('does work in proportion to the text, not to the text held back', () => {
  // A stop of one letter and then another keeps everything in suspense: quadratic work would take minutes.
  const watched = new StopStrings(['a'.repeat(1000) + 'b']);
  let emitted = 0;
  for (let i = 0; i < 200_000; i++) emitted += watched.push('a').length;
  assert.is(emitted, 199_000);
});

stopStrings.run();
