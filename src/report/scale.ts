// Something against something: how costs grow.
import type { ScaleResult } from '../bench/results.ts';
import type { Chart, Line, Point } from './charts.ts';
import type { Measured } from './evidence.ts';
import { cite, type Figures, grid, groupBy, lineKey, tones, unique } from './figures.ts';
import { figure, listing, range } from './format.ts';
import { details, type Html, html, table } from './html.ts';

const LINES: Readonly<Record<ScaleResult['line'], { readonly title: string; readonly x: string }>> = {
  tick: { title: 'Cost of a tick', x: 'rows' },
  context: { title: 'Time per token', x: 'tokens of context' },
  arena: { title: 'Arena', x: 'occupancy' },
  requests: { title: 'Simulated requests', x: 'requests' },
};

export function scaleSection(measured: readonly Measured<ScaleResult>[], figures: Figures): Html {
  const parts = measured.map(({ source, results }) => {
    const panels = groupBy(results, ({ line, unit }) => `${line} ${unit}`).map((group) => {
      const { line, unit } = group[0]!;
      const { title, x } = LINES[line];
      const labels = unique(group.map(({ label }) => label));
      const colours = tones(labels, (label) => label === labels[0]);
      const lines = labels.map((label): Line => {
        const points = group
          .filter((one) => one.label === label)
          .toSorted((a, b) => a.x - b.x)
          .map(({ x, y: { median, least, most } }): Point => ({ x, y: median, least, most }));
        return { name: label, tone: colours.get(label)!, points };
      });
      const chart: Chart = {
        kind: 'lines',
        title,
        x: { label: x, scale: scaleOf(group.map((one) => one.x)) },
        y: { label: unit, scale: scaleOf(group.flatMap(({ y: { least, most } }) => [least, most])) },
        lines,
      };
      const told = lines.map(({ name, points }) => {
        const [first, last] = [points[0]!, points.at(-1)!];
        return `${name} ${figure(first.y)} at ${figure(first.x)}, ${figure(last.y)} at ${figure(last.x)}`;
      });
      return html`<div>${lineKey(colours)}${figures.place(chart, `${title}, ${unit} by ${x}: ${listing(told)}`)}</div>`;
    });
    const rows = results.map(({ line, label, x, unit, y: { median, least, most } }) => [
      `${LINES[line].title}: ${label}`,
      `${figure(x)} ${LINES[line].x}`,
      `${figure(median)} ${unit}`,
      range(least, most, figure),
    ]);
    const numbers = table('Medians, least and most', ['line', 'at', 'median', 'range'], rows);
    return html`<h3>${source.machine} ${cite(source)}</h3>
${grid(panels, html`Medians; thin lines: least and most. ${cite(source)}`)}${details('Numbers', numbers)}`;
  });
  return html`<p>What grows with what. On axes that multiply, a straight line is a power, and a level one costs nothing.</p>${parts}`;
}

/** What spans less than a power of ten is better seen from zero. */
function scaleOf(values: readonly number[]): 'log' | 'linear' {
  const least = Math.min(...values);
  return least > 0 && Math.max(...values) >= 10 * least ? 'log' : 'linear';
}
