// How series look: a colour, a symbol and a dash each, so that they stay apart without colour.
import type { SymbolType } from '@observablehq/plot';
import type { Tone } from '../charts.ts';

const SYMBOLS: readonly SymbolType[] = ['square', 'triangle', 'diamond', 'times', 'star', 'wye'];
const DASHES = ['none', '6 3', '2 3', '8 3 2 3', '1 3', '12 4'];

export function colourOf(tone: Tone): string {
  return tone === 'accent' ? 'var(--accent)' : `var(--tone-${tone})`;
}

export function symbolOf(tone: Tone): SymbolType {
  return tone === 'accent' ? 'circle' : SYMBOLS[tone - 1]!;
}

export function dashOf(tone: Tone): string {
  return tone === 'accent' ? 'none' : DASHES[tone - 1]!;
}

/** Fills of what was computed for nothing, and of memory. */
export const FILLS: Readonly<Record<string, string>> = {
  dead: 'url(#hatch)',
  pad: 'var(--pad)',
  empty: 'url(#dots)',
  vacant: 'url(#dots)',
  stall: 'var(--stall)',
  padding: 'url(#hatch)', // of the cache
  free: 'var(--wash)',
  chunk: 'var(--ink)',
};
