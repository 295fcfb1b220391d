import { Tokenizer as Vocabulary } from '@huggingface/tokenizers';
import { EngineError } from '../errors.ts';
import { Detokenizer } from './detokenizer.ts';
import type { Piece, Pieces } from './pieces.ts';
import { readPieces } from './pieces.ts';

/** The parts of a model folder that a tokenizer is made of. */
export interface TokenizerSource {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
}

/** The little of the library that is used here; its own declarations do not resolve under strict ESM. */
interface VocabularySurface {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string | undefined, number>;
  get_added_tokens_decoder(): Map<number, { content: string; special: boolean }>;
}

const NORMALIZED = 4; // characters that a normalizer may join to one

/** A token without text of its own; it does not end a character begun before it. */
const NO_TEXT: Piece = new Uint8Array();

/** Text to token ids and back, as the model's own tokenizer.json says. */
export class Tokenizer {
  /** The tokens that the chat template may write. */
  readonly bosText: string | null;
  readonly eosText: string | null;
  /** No token stands for more characters than this. */
  readonly longestToken: number;
  readonly #vocabulary: VocabularySurface;
  readonly #special = new Set<number>();
  readonly #pieces: Pieces;
  readonly #prefix: readonly number[];

  constructor({ tokenizerJson, tokenizerConfig }: TokenizerSource) {
    try {
      this.#vocabulary = new Vocabulary(tokenizerJson as object, tokenizerConfig) as VocabularySurface;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = `tokenizer.json: expected a tokenizer, got one that does not load: ${reason}`;
      throw new EngineError('MODEL_FORMAT', message, { cause });
    }

    const added = new Set<string>();
    for (const [id, { content, special }] of this.#vocabulary.get_added_tokens_decoder()) {
      added.add(content);
      if (special) this.#special.add(id);
    }
    this.#pieces = readPieces((tokenizerJson as { decoder?: unknown }).decoder, added);

    let longest = 1;
    for (const token of this.#vocabulary.get_vocab().keys()) longest = Math.max(longest, token?.length ?? 0);
    this.longestToken = longest * NORMALIZED;

    this.bosText = tokenText(tokenizerConfig['bos_token']);
    this.eosText = tokenText(tokenizerConfig['eos_token']);
    // Some files promise a first token in the configuration but leave it out of the post-processor.
    const bos = this.bosText === null ? undefined : this.#vocabulary.token_to_id(this.bosText);
    const missing = tokenizerConfig['add_bos_token'] === true && bos !== undefined && this.#encode('', true)[0] !== bos;
    this.#prefix = missing ? [bos] : [];
  }

  /**
   * Token ids of a text. `addSpecial` puts the begin token in front where the model wants one; a rendered chat
   * template already holds its own.
   */
  encode(text: string, addSpecial = true): number[] {
    const ids = this.#encode(text, addSpecial);
    return addSpecial ? [...this.#prefix, ...ids] : ids;
  }

  /** Text of token ids, without special tokens unless asked for. Bytes that are not UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>, skipSpecial = true): string {
    const detokenizer = this.detokenizer(skipSpecial);
    let text = '';
    for (const id of ids) text += detokenizer.push(id);
    return text + detokenizer.flush();
  }

  /** A fresh stream from ids to text. */
  detokenizer(skipSpecial = true): Detokenizer {
    return new Detokenizer(this.#pieces, (id) => this.#pieceOf(id, skipSpecial));
  }

  /** Models may have more logits than their vocabulary has tokens; the surplus ids have no text. */
  #pieceOf(id: number, skipSpecial: boolean): Piece {
    if (skipSpecial && this.#special.has(id)) return NO_TEXT;
    const token = this.#vocabulary.id_to_token(id);
    return token === undefined ? NO_TEXT : this.#pieces.of(token);
  }

  /** A character that the vocabulary has no token for, not even an unknown one, is left out. */
  #encode(text: string, addSpecial: boolean): number[] {
    if (text === '' && !addSpecial) return [];
    const { ids } = this.#vocabulary.encode(text, { add_special_tokens: addSpecial });
    return ids.filter((id) => id !== undefined);
  }
}

/** A token in tokenizer_config.json is a string, or an object with its content. */
function tokenText(token: unknown): string | null {
  const text = typeof token === 'object' && token !== null && 'content' in token ? token.content : token;
  return typeof text === 'string' ? text : null;
}
