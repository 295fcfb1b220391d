import { EngineError } from '../errors.ts';

/**
 * What one token adds to the text: bytes of UTF-8 that neighbouring tokens may complete, or text that ends any
 * character begun before it.
 */
export type Piece = Uint8Array | string;

/** How a tokenizer's decoder turns tokens into text, one token at a time. */
export interface Pieces {
  of(token: string): Piece;
  /** What is taken off the start of the whole text: at most `count` times `content`. */
  readonly strip: { readonly content: string; readonly count: number };
}

interface DecoderConfig {
  readonly type?: unknown;
  readonly decoders?: unknown;
  readonly pattern?: unknown;
  readonly content?: unknown;
  readonly start?: unknown;
  readonly stop?: unknown;
  readonly replacement?: unknown;
  readonly prepend_scheme?: unknown;
}

/**
 * Reads the `decoder` of a tokenizer.json. Two kinds stand behind nearly every decoder-only model: byte-level, and
 * replacements followed by byte fallback. Both give each token its text without looking at the others, which is what
 * makes streaming exact; a decoder that does not is refused.
 */
export function readPieces(decoder: unknown, addedTokens: ReadonlySet<string>): Pieces {
  const replacements: { from: string | RegExp; to: string }[] = [];
  const strip = { content: ' ', count: 0 };
  let byteLevel = false;
  let byteFallback = false;
  let fused = false;

  for (const { type, pattern, content, start, stop, replacement, prepend_scheme } of flatten(decoder)) {
    const first = !byteLevel && !byteFallback && !fused && strip.count === 0;
    if (type === 'ByteLevel' && first && replacements.length === 0) {
      byteLevel = true;
    } else if (type === 'Replace' && first) {
      replacements.push({ from: readPattern(pattern), to: String(content ?? '') });
    } else if (type === 'Metaspace' && first && replacements.length === 0) {
      replacements.push({ from: String(replacement ?? '▁'), to: ' ' });
      strip.count = prepend_scheme === 'never' ? 0 : 1;
    } else if (type === 'ByteFallback' && first) {
      byteFallback = true;
    } else if (type === 'Fuse') {
      fused = true;
    } else if (type === 'Strip' && fused && !stop && typeof content === 'string' && typeof start === 'number') {
      strip.content = content;
      strip.count = start;
    } else {
      const message = `tokenizer.json: expected a decoder that can stream, got ${JSON.stringify(type)} in this place`;
      throw new EngineError('MODEL_UNSUPPORTED', message);
    }
  }

  return {
    strip,
    of(token) {
      if (byteLevel) return addedTokens.has(token) ? token : byteLevelBytes(token);
      let text = token;
      for (const { from, to } of replacements) text = text.replaceAll(from, to);
      const byte = byteFallback ? /^<0x([0-9a-fA-F]{2})>$/.exec(text)?.[1] : undefined;
      return byte === undefined ? text : Uint8Array.of(parseInt(byte, 16));
    },
  };
}

function flatten(decoder: unknown): DecoderConfig[] {
  if (typeof decoder !== 'object' || decoder === null) {
    throw new EngineError('MODEL_UNSUPPORTED', 'tokenizer.json: expected a decoder, got none');
  }
  const config: DecoderConfig = decoder;
  return config.type === 'Sequence' && Array.isArray(config.decoders) ? config.decoders.flatMap(flatten) : [config];
}

function readPattern(pattern: unknown): string | RegExp {
  const { String: text, Regex: source } = (pattern ?? {}) as { String?: unknown; Regex?: unknown };
  if (typeof text === 'string') return text;
  if (typeof source === 'string') return new RegExp(source, 'gu');
  const message = `tokenizer.json: expected a String or Regex pattern, got ${JSON.stringify(pattern)}`;
  throw new EngineError('MODEL_FORMAT', message);
}

/** Byte-level vocabularies write each byte as one printable character (GPT-2's table); a stranger counts as byte 0. */
function byteLevelBytes(token: string): Uint8Array {
  return Uint8Array.from(token, (character) => BYTE_OF_CHARACTER.get(character) ?? 0);
}

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = byteTable();

/** Printable Latin-1 bytes stand for themselves, the other 68 for the characters from U+0100 on, in order. */
function byteTable(): Map<string, number> {
  const table = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return table;
}
