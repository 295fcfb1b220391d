import { join } from 'node:path';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import { Tokenizer } from '../../src/text/tokenizer.ts';
import { readJson, readTokenizer, readVocabStrings, STORIES, TALES, VOCAB_STRINGS } from '../fake/tokenizers.ts';

const tokenizer = suite('Tokenizer');

const tales = new Tokenizer(readTokenizer(TALES));
const models = [{ name: 'tales', folder: TALES, vocabulary: 2048 }];
if (STORIES) models.push({ name: 'stories260K', folder: STORIES, vocabulary: 512 });

const HARD_TEXTS = [
  'Once upon a time, in a land far away…',
  '👩‍👩‍👧‍👦 🏳️‍🌈 🇪🇺 😀😀',
  '漢字とひらがなとカタカナ、한국어도。',
  'e\u0301 a\u0308\u0323 n\u0303 Z̷͑a̸l̴g̵o̶',
  '\uFEFFa byte order mark in front and one \uFEFF within',
  '  two spaces, \t a tab,\r\n\n\n newlines and a trailing space ',
  'שלום עולם مرحبا بالعالم',
];

tokenizer('encodes the prompts of the golden files to their ids', () => {
  const { items } = readJson(join(TALES, 'golden.json')) as { items: { prompt: string; prompt_ids: number[] }[] };
  for (const { prompt, prompt_ids } of items) assert.equal(tales.encode(prompt), prompt_ids, prompt);

  if (!STORIES) return;
  const stories = new Tokenizer(readTokenizer(STORIES));
  const golden = readJson(join(STORIES, '../golden.json')) as { cases: { prompt: string; promptTokens: number[] }[] };
  for (const { prompt, promptTokens } of golden.cases) assert.equal(stories.encode(prompt), promptTokens, prompt);
});

tokenizer('leaves the begin token to the caller when asked', () => {
  assert.equal(tales.encode('Once')[0], 0);
  assert.equal(tales.encode('Once', false), tales.encode('Once').slice(1));
  assert.equal(tales.encode('', false), []);
});

tokenizer('puts a begin token in front that the post-processor forgot, once', () => {
  const { tokenizerJson, tokenizerConfig } = readTokenizer(TALES);
  const plain = { ...(tokenizerJson as object), post_processor: null };
  const forgetful = new Tokenizer({ tokenizerJson: plain, tokenizerConfig });
  assert.equal(forgetful.encode('Once upon'), tales.encode('Once upon'));
  assert.equal(forgetful.encode('Once upon', false), tales.encode('Once upon', false));

  const unwanted = { ...tokenizerConfig, add_bos_token: false };
  const without = new Tokenizer({ tokenizerJson: plain, tokenizerConfig: unwanted });
  assert.equal(without.encode('Once upon'), tales.encode('Once upon', false));
});

tokenizer('decodes what it encoded to the same text', () => {
  const texts = [...HARD_TEXTS, ...(VOCAB_STRINGS ? readVocabStrings(VOCAB_STRINGS) : [])];
  assert.ok(texts.length >= HARD_TEXTS.length);
  for (const { name, folder } of models) {
    const one = new Tokenizer(readTokenizer(folder));
    for (const text of texts) assert.is(one.decode(one.encode(text)), text, `${name}: ${JSON.stringify(text)}`);
  }
});

for (const { name, folder, vocabulary } of models) {
  const source = readTokenizer(folder);
  const library = new Library(source.tokenizerJson as object, source.tokenizerConfig);
  const one = new Tokenizer(source);
  const decoded = (ids: number[], special: boolean) =>
    ids.length === 0 ? '' : library.decode(ids, { skip_special_tokens: special, clean_up_tokenization_spaces: false });

  tokenizer(`streams ${name} ids to the same text as one decoding of all`, () => {
    const id = fc.integer({ min: 0, max: vocabulary - 1 });
    const bytes = fc.integer({ min: 0, max: 260 }); // mostly single bytes, so mostly broken UTF-8
    fc.assert(
      fc.property(fc.array(fc.oneof(id, bytes), { maxLength: 60 }), fc.boolean(), (ids, skipSpecial) => {
        const stream = one.detokenizer(skipSpecial);
        let text = '';
        for (const each of ids) text += stream.push(each);
        assert.is(text + stream.flush(), decoded(ids, skipSpecial));
      }),
      { numRuns: 2000, seed: 7 },
    );
  });

  tokenizer(`streams ${name} text in whole characters, each as soon as its last byte is there`, () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(...HARD_TEXTS)), (text) => {
        const stream = one.detokenizer();
        const ids = one.encode(text, false);
        let streamed = '';
        for (const [i, id] of ids.entries()) {
          const piece = stream.push(id);
          assert.not.match(piece, /\p{Surrogate}/u);
          streamed += piece;
          assert.ok(text.startsWith(streamed));
          // Whatever is complete in a decoding of the ids so far must have been emitted. (The library loses a byte
          // order mark in front of byte tokens, so its decoding may be the shorter one.)
          assert.ok(streamed.length >= decoded(ids.slice(0, i + 1), true).replace(/\uFFFD+$/, '').length);
        }
        assert.is(streamed + stream.flush(), text);
      }),
      { numRuns: 300, seed: 7, examples: HARD_TEXTS.map((text) => [text]) },
    );
  });
}

tokenizer('shows special tokens only when asked, and does not let one break a character', () => {
  const ids = tales.encode('é', false);
  assert.is(ids.length, 2);
  const [first = 0, second = 0] = ids;
  assert.is(tales.decode([first, 0, second]), 'é');
  assert.is(tales.decode([0, ...ids], false), '<|endoftext|>é');
  assert.is(tales.decode([first, 0, second], false), '\uFFFD<|endoftext|>\uFFFD');
});

tokenizer('gives ids beyond the vocabulary no text', () => {
  assert.is(tales.decode([5000, ...tales.encode('Once'), 2 ** 31 - 1]), 'Once');
});

tokenizer('reads the begin and end tokens of the template', () => {
  assert.is(tales.bosText, '<|endoftext|>');
  const { tokenizerJson, tokenizerConfig } = readTokenizer(TALES);
  const wrapped = { ...tokenizerConfig, bos_token: { content: '<|pad|>' }, eos_token: null };
  const one = new Tokenizer({ tokenizerJson, tokenizerConfig: wrapped });
  assert.is(one.bosText, '<|pad|>');
  assert.is(one.eosText, null);
});

tokenizer('decodes Metaspace without the space in front of the first word', () => {
  const { tokenizerJson, tokenizerConfig } = readTokenizer(TALES);
  const build = (decoder: unknown) => {
    const vocab = { '▁a': 0, '▁b': 1, c: 2 };
    const model = { type: 'BPE', vocab, merges: [], unk_token: null, byte_fallback: false };
    const parts = { model, added_tokens: [], decoder, pre_tokenizer: null, post_processor: null };
    return new Tokenizer({ tokenizerJson: { ...(tokenizerJson as object), ...parts }, tokenizerConfig });
  };
  assert.is(build({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' }).decode([0, 1, 2]), 'a bc');
  assert.is(build({ type: 'Metaspace', replacement: '▁', prepend_scheme: 'never' }).decode([0, 1, 2]), ' a bc');
});

tokenizer('refuses files that are no tokenizer, and decoders that cannot be streamed', () => {
  const { tokenizerJson, tokenizerConfig } = readTokenizer(TALES);
  const code = (json: unknown) => {
    try {
      new Tokenizer({ tokenizerJson: json, tokenizerConfig });
    } catch (error) {
      return error instanceof EngineError ? error.code : String(error);
    }
    return 'none';
  };
  assert.is(code({}), 'MODEL_FORMAT');
  assert.is(code(null), 'MODEL_FORMAT');
  assert.is(code({ ...(tokenizerJson as object), decoder: null }), 'MODEL_UNSUPPORTED');
  assert.is(code({ ...(tokenizerJson as object), decoder: { type: 'WordPiece' } }), 'MODEL_UNSUPPORTED');
  const strip = { type: 'Strip', content: ' ', start: 0, stop: 1 };
  const lateStrip = { type: 'Sequence', decoders: [{ type: 'Fuse' }, strip] };
  assert.is(code({ ...(tokenizerJson as object), decoder: lateStrip }), 'MODEL_UNSUPPORTED');
});

tokenizer.run();
