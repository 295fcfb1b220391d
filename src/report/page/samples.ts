// The samples of keys: what a line, a symbol or a fill means.
import { plot, dot } from '@observablehq/plot';
import type { Tone } from '../charts.ts';
import { colourOf, dashOf, FILLS, symbolOf } from './look.ts';
import { svg } from './svg.ts';

const [WIDTH, HEIGHT] = [28, 12];

/** Of a span with data-sample, and data-tone where it is a line. */
export function sampleOf({ sample = '', tone }: DOMStringMap): SVGElement {
  const frame = {
    class: 'sample-mark',
    width: WIDTH,
    height: HEIGHT,
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    'aria-hidden': 'true',
  };
  return svg(
    'svg',
    frame,
    ...(sample === 'line' ? lineOf(tone === 'accent' ? tone : (Number(tone) as Tone)) : boxes(sample)),
  );
}

function lineOf(tone: Tone): SVGElement[] {
  const stroke = colourOf(tone);
  const y = HEIGHT / 2;
  const line = {
    x1: 0,
    x2: WIDTH,
    y1: y,
    y2: y,
    stroke,
    'stroke-width': tone === 'accent' ? 2.4 : 1.4,
    'stroke-dasharray': dashOf(tone),
  };
  return [svg('line', line), symbol(tone, stroke)];
}

/** The mark itself comes from the library that draws the charts. */
function symbol(tone: Tone, stroke: string): SVGElement {
  const marks = dot([0], { frameAnchor: 'middle', symbol: symbolOf(tone), r: 3.2, stroke, fill: 'var(--paper)' });
  const made = plot({ width: WIDTH, height: HEIGHT, margin: 0, axis: null, marks: [marks] }) as SVGElement;
  return made.querySelector<SVGElement>('[aria-label=dot]')!;
}

const FULL = { x: 0.5, y: 0.5, width: WIDTH - 1, height: HEIGHT - 1 };

function boxes(sample: string): SVGElement[] {
  const third = (WIDTH - 2) / 3;
  switch (sample) {
    case 'request':
      return [0, 1, 2].map((i) => {
        const box = svg('rect', {
          class: `request shade-${i}`,
          x: i * (third + 1),
          y: 0,
          width: third,
          height: HEIGHT,
        });
        box.style.setProperty('--hue', String(30 + i * 137.5));
        return box;
      });
    case 'used':
      return (['accent', 3] as const).map((tone, i) => {
        return svg('rect', {
          x: (i * WIDTH) / 2,
          y: 0,
          width: WIDTH / 2,
          height: HEIGHT,
          fill: colourOf(tone),
          'fill-opacity': 0.85,
        });
      });
    case 'bandwidth':
      return [svg('circle', { cx: WIDTH / 2, cy: HEIGHT / 2, r: 3.8, fill: 'var(--accent)' })];
    case 'compute':
      return [svg('rect', { class: 'open', x: WIDTH / 2 - 3.5, y: HEIGHT / 2 - 3.5, width: 7, height: 7 })];
    default:
      return [svg('rect', { ...FULL, class: 'swatch', fill: FILLS[sample] ?? 'none' })];
  }
}
