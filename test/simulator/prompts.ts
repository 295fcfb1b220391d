import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writePrompt } from '../../src/simulator/prompts.ts';
import type { TraceRequest } from '../../src/simulator/traces.ts';

const prompts = suite('Prompts');

function prompt(id: number, promptTokens: number, more: Partial<TraceRequest> = {}): number[] {
  const written = new Int32Array(16).fill(99);
  writePrompt(written, id, { promptTokens, outputTokens: 1, arrivalMs: 0, ...more });
  assert.ok(
    written.subarray(promptTokens).every((token) => token === 99),
    'written past its end',
  );
  return Array.from(written.subarray(0, promptTokens));
}

/** How many tokens two prompts begin with in common. */
function shared(one: readonly number[], other: readonly number[]): number {
  const first = one.findIndex((token, i) => token !== other[i]);
  return first < 0 ? one.length : first;
}

prompts('requests have nothing in common unless they say so', () => {
  for (const [one, other] of [
    [0, 1],
    [1, 2],
    [3, 7],
  ] as const)
    assert.is(shared(prompt(one, 5), prompt(other, 5)), 0);
});

prompts('a prefix is shared by its id, and ends where it says', () => {
  const with7 = (id: number) => prompt(id, 10, { prefix: { id: 7, tokens: 6 } });
  assert.is(shared(with7(1), with7(2)), 6);
  assert.is(shared(with7(1), prompt(2, 10, { prefix: { id: 8, tokens: 6 } })), 0);
});

prompts('blocks are shared one by one, the last one as far as the prompt goes', () => {
  const of = (id: number, tokens: number, ...ids: number[]) => prompt(id, tokens, { blocks: { ids, tokens: 4 } });
  assert.is(shared(of(1, 10, 5, 6, 7), of(2, 10, 5, 6, 8)), 8);
  assert.is(shared(of(1, 10, 5, 6, 7), of(2, 12, 5, 6, 7)), 10);
  assert.is(shared(of(1, 10, 0), of(2, 10, 0)), 4); // what no block covers is its own
});

prompts("no block or prefix equals what is a request's own", () => {
  const own = new Set([0, 1, 2, 3].flatMap((id) => prompt(id, 2)));
  const others = [0, 1, 2, 3].flatMap((id) => prompt(9, 2, { prefix: { id, tokens: 2 } }));
  assert.ok(others.every((token) => !own.has(token)));
});

prompts.run();
