/** One side of a comparison. A module that exports one has a process to itself, which it may fill and ruin. */
export interface Contender<Setting, Round> {
  /** Loads whatever takes time; none of this is measured. Settings and rounds are plain data, typed arrays included. */
  open(setting: Setting): Promise<OpenContender<Round>>;
}

export interface OpenContender<Round> {
  /** One measurement, the same work every time. The first are for warming up, and nobody counts them. */
  play(): Promise<Round>;
  close(): Promise<void>;
}

/** What a race asks of a process, one thing at a time. */
export type Order =
  | { readonly kind: 'open'; readonly module: string; readonly setting: unknown }
  | { readonly kind: 'play' }
  | { readonly kind: 'close' };

/** The answer to an order. */
export type Answer = { readonly round?: unknown } | { readonly error: string };

/** The module contenders/NAME, as source or as built. */
export function contenderModule(name: string): URL {
  const own = import.meta.url;
  return new URL(`./contenders/${name}${own.slice(own.lastIndexOf('.'))}`, own);
}
