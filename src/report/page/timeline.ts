// Rows against time: what no chart library draws.
import type { Chart, TimelinePanel } from '../charts.ts';
import { count, figure, seconds } from '../format.ts';
import { svg } from './svg.ts';

type TimelineChart = Extract<Chart, { readonly kind: 'timeline' }>;

const LEFT = 8; // px
const RIGHT = 12;
const NAME = 22; // above a panel
const CHUNKS = 12; // below one
const GAP = 18;
const AXIS = 34;
const LEAST_ROW = 4;
const MOST_ROW = 16;
const LETTER = 7.5; // px, about
const ROOM = 170; // px for the rows of one panel, where they are few enough

/** The hue of a request: neighbours in number lie far apart in colour. */
const GOLDEN_ANGLE = 137.508;

export function drawTimeline({ panels }: TimelineChart, width: number): SVGElement {
  const mostMs = Math.max(...panels.map(({ ms }) => ms));
  const scale = (ms: number) => LEFT + (ms / mostMs) * (width - LEFT - RIGHT);
  const drawn: SVGElement[] = [];
  let top = 0;
  for (const panel of panels) {
    const height = Math.max(LEAST_ROW, Math.min(MOST_ROW, ROOM / panel.rows));
    drawn.push(drawPanel(panel, top, height, scale));
    top += NAME + panel.rows * height + CHUNKS + GAP;
  }
  drawn.push(drawAxis(mostMs, top - GAP + 4, width, scale));
  return svg(
    'svg',
    { class: 'plot rows', width, height: top + AXIS, viewBox: `0 0 ${width} ${top + AXIS}`, 'aria-hidden': 'true' },
    ...drawn,
  );
}

function drawPanel(
  { name, rows, ms, runs, chunks }: TimelinePanel,
  top: number,
  height: number,
  scale: (ms: number) => number,
): SVGElement {
  const begin = top + NAME;
  const bottom = begin + rows * height;
  const end = scale(ms);
  const gap = height > 6 ? 1 : 0.5; // between rows
  const label = `${seconds(ms / 1000)}, ${count(rows, 'row')}`;
  const roomy = end - LEFT > LETTER * (name.length + label.length + 2);
  const labelPlace = roomy ? { x: end, 'text-anchor': 'end' } : { x: end + 6, 'text-anchor': 'start' };
  const cells = runs.map(([row, from, to, request, finished]) => {
    const x = scale(from);
    const place = { x, y: begin + row * height, width: Math.max(0.4, scale(to) - x), height: height - gap };
    if (finished === 1) return svg('rect', { ...place, class: 'finished', fill: 'url(#hatch)' });
    const cell = svg('rect', { ...place, class: `request shade-${request % 3}` });
    cell.style.setProperty('--hue', String((request * GOLDEN_ANGLE) % 360));
    cell.append(svg('title', {}, `request ${request}, row ${row}: ${figure(from)} to ${figure(to)} ms`));
    return cell;
  });
  const most = Math.max(1, ...chunks.map(([, , tokens]) => tokens));
  const marks = chunks.map(([from, to, tokens]) => {
    const x = scale(from);
    const size = 3 + (CHUNKS - 6) * (tokens / most);
    return svg('rect', { class: 'chunk', x, y: bottom + 3, width: Math.max(0.6, scale(to) - x), height: size });
  });
  return svg(
    'g',
    { class: name === 'relay' ? 'panel relay' : 'panel' },
    svg('text', { class: 'panel-name', x: LEFT, y: top + 15 }, name),
    svg('text', { class: 'panel-end', y: top + 15, ...labelPlace }, label),
    svg('rect', { class: 'vacant', x: LEFT, y: begin, width: end - LEFT, height: bottom - begin, fill: 'url(#dots)' }),
    svg('g', { class: 'cells' }, ...cells),
    svg('line', { class: 'end', x1: end, x2: end, y1: begin - 3, y2: bottom + CHUNKS }),
    svg('g', { class: 'chunks' }, ...marks),
  );
}

function drawAxis(mostMs: number, top: number, width: number, scale: (ms: number) => number): SVGElement {
  const step = stepOf(mostMs, width < 520 ? 4 : 8);
  const ticks: SVGElement[] = [];
  for (let i = 0; i * step <= mostMs; i++) {
    const x = scale(i * step);
    const unit = mostMs >= 1000 ? tickText((i * step) / 1000) : tickText(i * step);
    const anchor = i === 0 ? 'start' : x > width - 30 ? 'end' : 'middle';
    ticks.push(
      svg('line', { x1: x, x2: x, y1: top, y2: top + 4 }),
      svg('text', { x, y: top + 17, 'text-anchor': anchor }, unit),
    );
  }
  const label = mostMs >= 1000 ? 'seconds' : 'milliseconds';
  return svg(
    'g',
    { class: 'axis' },
    svg('line', { x1: LEFT, x2: width - RIGHT, y1: top, y2: top }),
    ...ticks,
    svg('text', { x: width - RIGHT, y: top + 31, 'text-anchor': 'end' }, label),
  );
}

/** 1, 2 or 5 of some power of ten, so that at most `count` fit. */
function stepOf(most: number, count: number): number {
  const power = 10 ** Math.floor(Math.log10(most / count));
  return power * ([1, 2, 5, 10].find((one) => power * one * count >= most) ?? 10);
}

function tickText(value: number): string {
  return String(Number(value.toPrecision(6)));
}
