import type { Detokenizer } from './detokenizer.ts';
import { StopStrings } from './stop-strings.ts';

/** The text of one generation as it grows: detokenized, and ended in front of a stop string. */
export class Output {
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;

  constructor(detokenizer: Detokenizer, stops: readonly string[]) {
    this.#detokenizer = detokenizer;
    this.#stops = new StopStrings(stops);
  }

  /** True once a stop string has ended the text. */
  get stopped(): boolean {
    return this.#stops.found !== null;
  }

  push(token: number): string {
    return this.#stops.push(this.#detokenizer.push(token));
  }

  /** What was held back, at the end of a generation that no stop string ended. */
  flush(): string {
    return this.#stops.push(this.#detokenizer.flush()) + this.#stops.flush();
  }
}
