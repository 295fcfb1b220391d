// What the page's script draws, as the page carries it. Figures that are missing are null there.
import type { Speedup } from './calculator.ts';

/** How a series looks: the one accent, or one of the greys; every tone has a symbol and a dash of its own. */
export type Tone = 'accent' | 1 | 2 | 3 | 4 | 5 | 6;

export interface Bar {
  readonly name: string;
  readonly tone: Tone;
  readonly value: number;
  readonly least: number;
  readonly most: number;
  /** At its end. */
  readonly label: string;
}

export interface Point {
  readonly x: number;
  readonly y: number;
  readonly least: number;
  readonly most: number;
}

export interface Line {
  readonly name: string;
  readonly tone: Tone;
  readonly points: readonly Point[];
}

export interface Axis {
  readonly label: string;
  readonly scale: 'linear' | 'log';
  /** Where ticks stand; all x values of a few points. */
  readonly ticks?: readonly number[];
}

export type IdleKind = 'dead' | 'pad' | 'empty' | 'stall';

/** What a row did without a break: from and to in ms, and whose request. */
export type RowRun = readonly [row: number, from: number, to: number, request: number, finished: 0 | 1];

export interface TimelinePanel {
  readonly name: string;
  readonly rows: number;
  readonly ms: number;
  readonly runs: readonly RowRun[];
  readonly chunks: readonly (readonly [from: number, to: number, tokens: number])[];
}

export type Chart =
  | { readonly kind: 'bars'; readonly title: string; readonly axis: string; readonly bars: readonly Bar[] }
  | {
      readonly kind: 'lines';
      readonly title: string;
      readonly x: Axis;
      readonly y: Axis;
      readonly lines: readonly Line[];
      /** A line of what could be at most: y = x. */
      readonly diagonal?: string;
    }
  | {
      readonly kind: 'quantiles';
      readonly title: string;
      readonly axis: string;
      readonly rows: readonly {
        readonly name: string;
        readonly tone: Tone;
        readonly p50: number;
        readonly p90: number;
        readonly p99: number;
        /** A decode step, as a mark. */
        readonly step?: number;
      }[];
    }
  | {
      readonly kind: 'idle';
      readonly title: string;
      readonly rows: readonly { readonly name: string; readonly parts: Readonly<Record<IdleKind, number>> }[];
    }
  | {
      readonly kind: 'memory';
      readonly title: string;
      readonly tone: Tone;
      readonly slots: number;
      /** Of all curves that stand beside this one. */
      readonly mostMs: number;
      readonly ms: readonly number[];
      readonly used: readonly number[];
      readonly padding: readonly number[];
    }
  | {
      readonly kind: 'roofline';
      readonly title: string;
      readonly gigabytesPerSecond: number;
      readonly gigaflopsPerSecond: number;
      readonly points: readonly { readonly name: string; readonly intensity: number; readonly gigaflops: number }[];
    }
  | {
      readonly kind: 'shares';
      readonly title: string;
      readonly rows: readonly { readonly name: string; readonly bandwidth: number; readonly compute: number }[];
    }
  | { readonly kind: 'timeline'; readonly title: string; readonly panels: readonly TimelinePanel[] };

/** What the page's script finds in the page. */
export interface PageData {
  readonly charts: readonly Chart[];
  readonly speedups: readonly Speedup[];
}
