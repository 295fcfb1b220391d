import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Output } from '../../src/text/output.ts';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { readTokenizer, TALES } from '../fake/tokenizers.ts';

const output = suite('Output');
const tokenizer = new Tokenizer(readTokenizer(TALES));

function run(text: string, stops: string[]): { text: string; stopped: boolean; tokens: number } {
  const one = new Output(tokenizer.detokenizer(), stops);
  let written = '';
  let tokens = 0;
  for (const id of tokenizer.encode(text, false)) {
    if (one.stopped) break;
    written += one.push(id);
    tokens++;
  }
  if (!one.stopped) written += one.flush();
  return { text: written, stopped: one.stopped, tokens };
}

output('ends in front of a stop string that crosses token and character boundaries', () => {
  assert.equal(run('a tale — of a king', ['—']).text, 'a tale ');
  assert.equal(run('a tale 😀 of a king', ['le 😀']).text, 'a ta');
  assert.equal(run('a tale 😀 of a king', ['😁']).text, 'a tale 😀 of a king');
});

output('gives back what it held when no stop came', () => {
  assert.equal(run('Once upon a ti', ['time']).text, 'Once upon a ti');
});

output('gives back the bytes of an unfinished character, and may still stop at them', () => {
  const half = tokenizer.encode('é', false).slice(0, 1);
  const one = new Output(tokenizer.detokenizer(), []);
  assert.is(half.map((id) => one.push(id)).join(''), '');
  assert.is(one.flush(), '\uFFFD');

  const stopping = new Output(tokenizer.detokenizer(), ['\uFFFD']);
  for (const id of half) stopping.push(id);
  assert.is(stopping.flush(), '');
  assert.ok(stopping.stopped);
});

output.run();
