import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makePrompt } from '../../src/bench/prompts.ts';

const prompts = suite('prompts of benches');
const VOCABULARY = 1000;
const lengths = { promptTokens: 40, outputTokens: 1, arrivalMs: 0 };

/** How many tokens two prompts have in common from the start. */
function shared(one: readonly number[], other: readonly number[]): number {
  const at = one.findIndex((token, i) => token !== other[i]);
  return at < 0 ? one.length : at;
}

prompts('have the length that was asked for, of tokens of the vocabulary, and follow from the seed', () => {
  const prompt = makePrompt(1, 0, lengths, VOCABULARY);
  assert.is(prompt.length, 40);
  assert.ok(prompt.every((token) => Number.isInteger(token) && token >= 0 && token < VOCABULARY));
  assert.ok(new Set(prompt).size > 30);
  assert.equal(makePrompt(1, 0, lengths, VOCABULARY), prompt);
  assert.not.equal(makePrompt(2, 0, lengths, VOCABULARY), prompt);
});

prompts('begin alike only where requests say so', () => {
  const prefix = { id: 3, tokens: 25 };
  const [one, other] = [0, 1].map((id) => makePrompt(1, id, { ...lengths, prefix }, VOCABULARY));
  assert.is(shared(one!, other!), 25);
  assert.is(shared(makePrompt(1, 0, lengths, VOCABULARY), makePrompt(1, 1, lengths, VOCABULARY)), 0);
  assert.is(shared(one!, makePrompt(1, 1, { ...lengths, prefix: { id: 4, tokens: 25 } }, VOCABULARY)), 0);
});

prompts('hold equal blocks where a trace names them, the last one cut', () => {
  const withBlocks = (ids: readonly number[]) =>
    makePrompt(1, ids[2]!, { ...lengths, blocks: { ids, tokens: 16 } }, VOCABULARY);
  const [one, other] = [withBlocks([7, 8, 9]), withBlocks([7, 8, 10])];
  assert.is(shared(one, other), 32);
  assert.is(one.length, 40);
});

prompts.run();
