import {
  areaY,
  barX,
  dot,
  type Markish,
  plot,
  type PlotOptions,
  rect,
  ruleX,
  ruleY,
  text,
  tickX,
} from '@observablehq/plot';
import { axisY, gridX, gridY, lineY } from '@observablehq/plot';
import type { Axis, Chart, IdleKind } from '../charts.ts';
import { figure, percent } from '../format.ts';
import { colourOf, dashOf, FILLS, symbolOf } from './look.ts';
import { drawTimeline } from './timeline.ts';

type Of<Kind extends Chart['kind']> = Extract<Chart, { readonly kind: Kind }>;

const LETTER = 6.7; // px, about, of 12 px text
const ROW = 24; // px of one bar or range
const MOST_SHARE = 1.2; // of a ceiling; a cache may answer many times as quickly
const WIDE = 520; // px, from which there is room for more ticks

/** A chart as SVG of this width, in px. Its colours are the page's variables, so themes and print need no other. */
export function draw(chart: Chart, width: number): SVGElement {
  switch (chart.kind) {
    case 'bars':
      return bars(chart, width);
    case 'lines':
      return lines(chart, width);
    case 'quantiles':
      return quantiles(chart, width);
    case 'idle':
      return idle(chart, width);
    case 'memory':
      return memory(chart, width);
    case 'roofline':
      return roofline(chart, width);
    case 'shares':
      return shares(chart, width);
    case 'timeline':
      return drawTimeline(chart, width);
  }
}

function render(options: PlotOptions): SVGElement {
  const svg = plot({
    className: 'plot',
    style: { fontSize: '12px' },
    color: { type: 'identity' },
    ...options,
  }) as SVGElement;
  svg.querySelector('style')?.remove(); // the page's policy forbids it, and the page's styles have its rules
  svg.setAttribute('aria-hidden', 'true'); // the place it stands in has the description
  return svg;
}

const MOST_NAME = 0.42; // of the width
const BESIDE = 12; // px around a name

/** Names on the left, cut where they are long, and the room they take. */
function names(domain: readonly string[], width: number) {
  const most = Math.floor((MOST_NAME * width - BESIDE) / LETTER);
  const cut = (name: string) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
  return {
    room: Math.ceil(Math.max(...domain.map((name) => cut(name).length)) * LETTER) + BESIDE,
    scale: { domain: [...domain], label: null },
    axis: axisY({ tickSize: 0, tickPadding: 8, label: null, tickFormat: cut }),
  };
}

const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

function tick(value: number): string {
  return Math.abs(value) >= 10_000 ? compact.format(value) : Number(value.toPrecision(3)).toLocaleString('en');
}

function bars({ bars: given, axis }: Of<'bars'>, width: number): SVGElement {
  const found = given.filter(({ value }) => value !== null);
  const domain = given.map(({ name }) => name);
  const { room, scale, axis: axisOfNames } = names(domain, width);
  const labels = Math.ceil(Math.max(...given.map(({ label }) => label.length)) * LETTER) + 10;
  return render({
    width,
    height: given.length * ROW + 44,
    marginLeft: room,
    marginRight: labels,
    marginTop: 4,
    marginBottom: 36,
    x: { label: axis, labelArrow: 'none', zero: true, ticks: 4, tickFormat: tick, tickSize: 0 },
    y: { ...scale, padding: 0.28 },
    marks: [
      gridX({ ticks: 4 }),
      axisOfNames,
      barX(found, { x: 'value', y: 'name', fill: ({ tone }) => colourOf(tone) }),
      ruleY(found, { x1: 'least', x2: 'most', y: 'name', stroke: 'var(--ink)', strokeWidth: 1.2 }),
      text(found, { x: 'most', y: 'name', text: 'label', textAnchor: 'start', dx: 6, fontVariant: 'tabular-nums' }),
      ruleX([0], { stroke: 'var(--ink)' }),
    ],
  });
}

/** An axis over these values, and where its ticks and grid lines are. */
function scaleOf({ label, scale, ticks }: Axis, values: readonly number[], width: number) {
  const own = ticks ?? (scale === 'log' ? logTicks(Math.min(...values), Math.max(...values)) : undefined);
  const found = own === undefined ? (width < WIDE ? 4 : 6) : [...own];
  const options = { label, labelArrow: 'none' as const, tickFormat: tick, tickSize: 0, ticks: found };
  const form =
    scale === 'log' ? { ...options, type: 'log' as const } : { ...options, type: 'linear' as const, zero: true };
  return { form, ticks: found };
}

/** Powers of ten; where there are few, twice and five times of them too. */
function logTicks(least: number, most: number): number[] {
  const [first, last] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const steps = Math.log10(most / least) <= 2 ? [1, 2, 5] : [1];
  const all = Array.from({ length: last - first + 1 }, (_, i) => steps.map((step) => step * 10 ** (first + i))).flat();
  return all.filter((one) => one >= least && one <= most);
}

function lines({ x, y, lines: given, diagonal }: Of<'lines'>, width: number): SVGElement {
  const xs = given.flatMap(({ points }) => points.map((point) => point.x));
  const ys = given
    .flatMap(({ points }) => points.flatMap(({ least, most }) => [least, most]))
    .filter((one) => one !== null);
  const most = Math.max(...xs);
  const across = scaleOf(x, xs, width);
  const up = scaleOf(y, ys, WIDE - 1);
  const marks = given.flatMap(({ name, tone, points }): Markish[] => {
    const stroke = colourOf(tone);
    const own = points.filter((point) => point.y !== null);
    const title = (point: (typeof own)[number]) =>
      `${name}\n${x.label} ${figure(point.x)}\n${y.label} ${figure(point.y)}`;
    return [
      ruleX(own, { x: 'x', y1: 'least', y2: 'most', stroke, strokeWidth: 1.2 }),
      lineY(own, { x: 'x', y: 'y', stroke, strokeWidth: tone === 'accent' ? 2.4 : 1.4, strokeDasharray: dashOf(tone) }),
      dot(own, { x: 'x', y: 'y', stroke, fill: 'var(--paper)', symbol: symbolOf(tone), r: 3.2, title, tip: true }),
    ];
  });
  return render({
    width,
    height: 250,
    marginLeft: 48,
    marginRight: 16,
    marginBottom: 38,
    marginTop: 24,
    x: across.form,
    y: { ...up.form, nice: y.scale === 'linear' },
    marks: [
      gridY({ ticks: up.ticks }),
      ...(diagonal === undefined ? [] : [lineY([0, most], { x: [0, most], y: [0, most], stroke: 'var(--faint)' })]),
      ...(y.scale === 'linear' ? [ruleY([0], { stroke: 'var(--ink)' })] : []),
      ...marks.toReversed(), // the accent comes first, and so lies above
    ],
  });
}

function quantiles({ axis, rows }: Of<'quantiles'>, width: number): SVGElement {
  const found = rows.filter(({ p50, p90, p99 }) => p50 !== null && p90 !== null && p99 !== null);
  const positive = found.every(({ p50, step }) => p50 > 0 && (step === undefined || step > 0));
  const contenders = rows.map(({ name }) => name);
  const { room, scale, axis: axisOfNames } = names(contenders, width);
  const values = found.flatMap(({ p50, p99, step }) => [p50, p99, step ?? p50]);
  const domain = positive ? [0.8 * Math.min(...values), 1.2 * Math.max(...values)] : [0, Math.max(...values)];
  const across = scaleOf({ label: axis, scale: positive ? 'log' : 'linear' }, domain, width);
  const stepped = found.filter(({ step }) => typeof step === 'number');
  const stroke = ({ tone }: (typeof found)[number]) => colourOf(tone);
  return render({
    width,
    height: rows.length * ROW + 44,
    marginLeft: room,
    marginRight: 16,
    marginTop: 4,
    marginBottom: 36,
    x: { ...across.form, domain },
    y: { ...scale, padding: 0.4 },
    marks: [
      gridX({ ticks: across.ticks }),
      axisOfNames,
      tickX(stepped, { x: 'step', y: 'name', stroke: 'var(--ink)', strokeWidth: 2 }),
      ruleY(found, { x1: 'p50', x2: 'p99', y: 'name', stroke, strokeWidth: 2 }),
      dot(found, { x: 'p50', y: 'name', fill: stroke, r: 4.2 }),
      dot(found, { x: 'p90', y: 'name', stroke, fill: 'var(--paper)', r: 3.2, strokeWidth: 1.6 }),
      tickX(found, { x: 'p99', y: 'name', stroke, strokeWidth: 2, inset: 2 }),
      dot(found, {
        x: 'p99',
        y: 'name',
        r: 0,
        title: ({ name, p50, p90, p99 }) =>
          `${name}\np50 ${figure(p50)} ms\np90 ${figure(p90)} ms\np99 ${figure(p99)} ms`,
        tip: true,
      }),
    ],
  });
}

const KINDS: readonly IdleKind[] = ['dead', 'pad', 'empty', 'stall'];

function idle({ rows }: Of<'idle'>, width: number): SVGElement {
  const domain = rows.map(({ name }) => name);
  const { room, scale, axis: axisOfNames } = names(domain, width);
  const parts = rows.flatMap(({ name, parts }) => {
    let from = 0;
    return KINDS.map((kind) => ({ name, kind, from, to: (from += parts[kind] ?? 0) }));
  });
  const ends = rows.map(({ name, parts }) => ({
    name,
    share: KINDS.reduce((sum, kind) => sum + (parts[kind] ?? 0), 0),
  }));
  return render({
    width,
    height: rows.length * ROW + 40,
    marginLeft: room,
    marginRight: 54,
    marginTop: 4,
    marginBottom: 28,
    x: {
      label: null,
      domain: [0, Math.max(0.1, ...ends.map(({ share }) => share))],
      ticks: 4,
      tickFormat: percentTick,
      tickSize: 0,
    },
    y: { ...scale, padding: 0.28 },
    marks: [
      gridX({ ticks: 4 }),
      axisOfNames,
      ...KINDS.map((kind) =>
        barX(
          parts.filter((part) => part.kind === kind && part.to > part.from),
          { x1: 'from', x2: 'to', y: 'name', fill: FILLS[kind]!, stroke: 'var(--ink)', strokeWidth: 0.6 },
        ),
      ),
      text(ends, {
        x: 'share',
        y: 'name',
        text: ({ share }) => percent(share),
        textAnchor: 'start',
        dx: 6,
        fontVariant: 'tabular-nums',
      }),
      ruleX([0], { stroke: 'var(--ink)' }),
    ],
  });
}

function percentTick(share: number): string {
  return `${Number((100 * share).toFixed(1))} %`;
}

function memory({ tone, slots, mostMs, ms, used, padding }: Of<'memory'>, width: number): SVGElement {
  const points = ms.map((at, i) => ({ s: at / 1000, used: used[i]!, taken: used[i]! + padding[i]! }));
  const fill = colourOf(tone);
  return render({
    width,
    height: 180,
    marginLeft: 48,
    marginRight: 12,
    marginTop: 10,
    marginBottom: 36,
    x: { label: 'seconds', labelArrow: 'none', domain: [0, mostMs / 1000], ticks: 4, tickFormat: tick, tickSize: 0 },
    y: { label: null, domain: [0, slots], ticks: 4, tickFormat: tick, tickSize: 0 },
    marks: [
      rect([0], { x1: 0, x2: points.at(-1)?.s ?? 0, y1: 0, y2: slots, fill: FILLS['free']! }),
      areaY(points, { x: 's', y1: 'used', y2: 'taken', curve: 'step-after', fill: FILLS['padding']! }),
      areaY(points, { x: 's', y1: 0, y2: 'used', curve: 'step-after', fill, fillOpacity: 0.85 }),
      lineY(points, { x: 's', y: 'taken', curve: 'step-after', stroke: 'var(--ink)', strokeWidth: 0.8 }),
      ruleY([0, slots], { stroke: 'var(--ink)', strokeWidth: 0.8 }),
    ],
  });
}

function roofline({ gigabytesPerSecond, gigaflopsPerSecond, points }: Of<'roofline'>, width: number): SVGElement {
  const ridge = gigaflopsPerSecond / gigabytesPerSecond;
  const least = Math.min(ridge, ...points.map(({ intensity }) => intensity)) / 2;
  const most = Math.max(ridge, ...points.map(({ intensity }) => intensity)) * 2;
  const roof = [least, ridge, most].map((x) => ({ x, y: Math.min(gigaflopsPerSecond, x * gigabytesPerSecond) }));
  const middle = Math.sqrt(least * ridge);
  const lowest = Math.min(roof[0]!.y, ...points.map(({ gigaflops }) => gigaflops));
  const across = scaleOf({ label: 'FLOP per byte', scale: 'log' }, [least, most], width);
  const up = scaleOf({ label: 'GFLOP/s', scale: 'log' }, [lowest, gigaflopsPerSecond], width);
  return render({
    width,
    height: 290,
    marginLeft: 52,
    marginRight: 16,
    marginTop: 26,
    marginBottom: 38,
    x: across.form,
    y: { ...up.form, domain: [0.7 * lowest, 1.6 * gigaflopsPerSecond] },
    marks: [
      gridY({ ticks: up.ticks }),
      lineY(roof, { x: 'x', y: 'y', stroke: 'var(--ink)', strokeWidth: 1.6 }),
      text([`${figure(gigabytesPerSecond)} GB/s`], {
        x: [middle],
        y: [middle * gigabytesPerSecond],
        text: (label: string) => label,
        textAnchor: 'end',
        dx: -6,
        dy: -6,
      }),
      text([`${figure(gigaflopsPerSecond)} GFLOP/s`], {
        x: [most],
        y: [gigaflopsPerSecond],
        text: (label: string) => label,
        textAnchor: 'end',
        dy: -8,
      }),
      dot(points, {
        x: 'intensity',
        y: 'gigaflops',
        r: 3,
        stroke: 'var(--accent)',
        fill: 'var(--accent)',
        fillOpacity: 0.25,
        title: ({ name, intensity, gigaflops }) =>
          `${name}\n${figure(gigaflops)} GFLOP/s\n${figure(gigaflops / intensity)} GB/s`,
        tip: true,
      }),
    ],
  });
}

function shares({ rows }: Of<'shares'>, width: number): SVGElement {
  const domain = rows.map(({ name }) => name);
  const { room, scale, axis: axisOfNames } = names(domain, width);
  const bandwidth = rows.filter((row) => row.bandwidth !== null);
  const compute = rows.filter((row) => row.compute !== null);
  const best = rows.map(({ name, bandwidth, compute }) => ({ name, share: Math.max(bandwidth ?? 0, compute ?? 0) }));
  return render({
    width,
    height: rows.length * 20 + 44,
    marginLeft: room,
    marginRight: 16,
    marginTop: 4,
    marginBottom: 28,
    x: {
      label: null,
      domain: [0, Math.min(MOST_SHARE, Math.max(1, ...best.map(({ share }) => share)))],
      clamp: true,
      ticks: 4,
      tickFormat: percentTick,
      tickSize: 0,
    },
    y: { ...scale, padding: 0.4 },
    marks: [
      gridX({ ticks: 4 }),
      axisOfNames,
      ruleY(best, { x1: 0, x2: 'share', y: 'name', stroke: 'var(--faint)', strokeWidth: 1.5 }),
      dot(compute, {
        x: 'compute',
        y: 'name',
        symbol: 'square',
        stroke: 'var(--tone-1)',
        fill: 'var(--paper)',
        r: 3.6,
      }),
      dot(bandwidth, { x: 'bandwidth', y: 'name', fill: 'var(--accent)', r: 3.8 }),
      ruleX([1], { stroke: 'var(--ink)' }),
    ],
  });
}
