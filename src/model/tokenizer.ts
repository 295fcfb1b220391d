import { EngineError } from '../errors.ts';
import { Fields, isRecord, shown } from './fields.ts';
import { readJson, readText } from './files.ts';

const MOST_TOKENIZER_BYTES = 200_000_000;
const MOST_CONFIG_BYTES = 50_000_000; // some list every special token
const MOST_TEMPLATE_BYTES = 1_000_000;

/** The tokenizer's files, as text/ needs them. */
export interface TokenizerFiles {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
  readonly chatTemplate: string | null;
}

/** Reads tokenizer.json, tokenizer_config.json and the chat template; every token id must lie below `vocabulary`. */
export async function readTokenizer(folder: string, vocabulary: number): Promise<TokenizerFiles> {
  const tokenizerJson = await readJson(folder, 'tokenizer.json', MOST_TOKENIZER_BYTES);
  if (tokenizerJson === undefined) {
    throw new EngineError('MODEL_NOT_FOUND', `model: expected tokenizer.json in ${folder}, got none`);
  }
  checkVocabulary(new Fields('tokenizer.json', tokenizerJson), vocabulary);

  const config = (await readJson(folder, 'tokenizer_config.json', MOST_CONFIG_BYTES)) ?? {};
  const fields = new Fields('tokenizer_config.json', config);
  const template = await readText(folder, 'chat_template.jinja', MOST_TEMPLATE_BYTES);
  return {
    tokenizerJson,
    tokenizerConfig: Object.fromEntries(fields.entries()),
    chatTemplate: template ?? readTemplate(fields),
  };
}

/** The template is a string, or one of several with the name "default". */
function readTemplate(fields: Fields): string | null {
  const value = fields.get('chat_template');
  if (!Array.isArray(value)) return fields.string('chat_template') ?? null;
  for (const one of value) {
    const named = new Fields(`${fields.path}: chat_template`, one);
    if (named.string('name') === 'default') return named.string('template') ?? null;
  }
  return null;
}

function checkVocabulary(tokenizer: Fields, vocabulary: number): void {
  const model = tokenizer.fields('model');
  if (model === undefined) throw tokenizer.error('model', 'expected an object');
  const check = (token: unknown, id: unknown) => {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < vocabulary) return;
    const expected = `expected an id below the vocabulary of ${vocabulary}`;
    throw new EngineError('MODEL_FORMAT', `${tokenizer.path}: token ${shown(token)}: ${expected}, got ${shown(id)}`);
  };

  // Unigram lists [token, score] pairs in the order of their ids; the others map tokens to ids.
  const tokens = model.get('vocab');
  if (Array.isArray(tokens)) tokens.forEach((token: unknown, id) => check(token, id));
  else if (isRecord(tokens)) Object.entries(tokens).forEach(([token, id]) => check(token, id));
  else throw model.error('vocab', 'expected an object or an array');

  const added = tokenizer.get('added_tokens') ?? [];
  if (!Array.isArray(added)) throw tokenizer.error('added_tokens', 'expected an array');
  for (const one of added) {
    const token = new Fields(`${tokenizer.path}: added_tokens`, one);
    check(token.get('content'), token.get('id'));
  }
}
