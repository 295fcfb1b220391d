/**
 * Watches a stream of text for stop strings, across any boundaries. Text is let through as soon as it can no longer
 * be part of a stop, so what is held back is always the longest suffix that may become one, and nothing more.
 *
 * The first stop to be completed ends the text, in front of it; of several completed by the same character, the
 * longest. Each stop is matched by Knuth, Morris and Pratt's automaton: constant work per character and stop.
 */
export class StopStrings {
  readonly #stops: readonly { readonly text: string; readonly borders: Int32Array; matched: number }[];
  #held = '';
  #found: string | null = null;

  constructor(stops: readonly string[]) {
    this.#stops = stops.map((text) => ({ text, borders: bordersOf(text), matched: 0 }));
  }

  /** The stop that ended the text, or null while it goes on. */
  get found(): string | null {
    return this.#found;
  }

  /** Text in, the text that is certain now out. Nothing more comes out once a stop was found. */
  push(text: string): string {
    if (this.#found !== null) return '';
    if (this.#stops.length === 0) return text;
    const all = this.#held + text;

    let longest = 0; // the suffix of what has been read that is the beginning of a stop
    for (let end = this.#held.length; end < all.length; end++) {
      longest = 0;
      for (const stop of this.#stops) {
        const character = all.charCodeAt(end);
        while (stop.matched > 0 && stop.text.charCodeAt(stop.matched) !== character) {
          stop.matched = stop.borders[stop.matched - 1] ?? 0;
        }
        if (stop.text.charCodeAt(stop.matched) === character) stop.matched++;
        if (stop.matched === stop.text.length && stop.text.length > (this.#found?.length ?? 0)) this.#found = stop.text;
        longest = Math.max(longest, stop.matched);
      }
      if (this.#found !== null) {
        this.#held = '';
        return all.slice(0, end + 1 - (this.#found as string).length);
      }
    }
    if (text === '') return '';
    this.#held = all.slice(all.length - longest);
    return all.slice(0, all.length - longest);
  }

  /** The text held back for a stop that did not come. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

/** borders[i]: length of the longest proper prefix of text[0..i] that is also its suffix. */
function bordersOf(text: string): Int32Array {
  const borders = new Int32Array(text.length);
  let length = 0;
  for (let i = 1; i < text.length; i++) {
    while (length > 0 && text[i] !== text[length]) length = borders[length - 1] ?? 0;
    if (text[i] === text[length]) length++;
    borders[i] = length;
  }
  return borders;
}
