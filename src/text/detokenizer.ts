import { TextDecoder } from 'node:util';
import type { Piece, Pieces } from './pieces.ts';

/**
 * Token ids in, text out, as soon as it is certain. It emits whole characters only, and what it emits, joined, is the
 * decoding of all tokens. Constant work per token, however long the text has become.
 */
export class Detokenizer {
  readonly #pieceOf: (id: number) => Piece;
  readonly #stripContent: string;
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true }); // true keeps a byte order mark: it is text here
  #strip: number; // how often the start of the text may still be stripped
  #inBytes = false; // the UTF-8 decoder may hold the beginning of a character

  constructor(pieces: Pieces, pieceOf: (id: number) => Piece) {
    this.#pieceOf = pieceOf;
    this.#stripContent = pieces.strip.content;
    this.#strip = pieces.strip.count;
  }

  /** The text that became certain with this token; often empty. */
  push(id: number): string {
    const piece = this.#pieceOf(id);
    if (typeof piece !== 'string') {
      this.#inBytes = true;
      return this.#stripped(this.#utf8.decode(piece, { stream: true }));
    }
    return this.#stripped(this.#endBytes() + piece);
  }

  /** The text held back for a character that was never completed, as replacement characters. */
  flush(): string {
    return this.#stripped(this.#endBytes());
  }

  #endBytes(): string {
    if (!this.#inBytes) return '';
    this.#inBytes = false;
    return this.#utf8.decode();
  }

  #stripped(text: string): string {
    let start = 0;
    while (this.#strip > 0 && start < text.length) {
      if (text.startsWith(this.#stripContent, start)) {
        start += this.#stripContent.length;
        this.#strip--;
      } else {
        this.#strip = 0;
      }
    }
    return text.slice(start);
  }
}
