// Something against something: how costs grow.
import type { ScaleResult } from '../bench/results.ts';
import type { Chart, Line, Point, Tone } from './charts.ts';
import type { Measured } from './evidence.ts';
import { cite, type Figures, grid, groupBy, lineKey, tones, unique } from './figures.ts';
import { figure, listing, plain, range } from './format.ts';
import { details, type Html, html, table } from './html.ts';

const LINES: Readonly<Record<ScaleResult['line'], { readonly title: string; readonly x: string }>> = {
  tick: { title: 'Cost of a tick', x: 'rows' },
  context: { title: 'Time of a decode step', x: 'tokens of context' },
  arena: { title: 'A full arena', x: 'share of the slots' },
  requests: { title: 'Simulated requests', x: 'requests' },
};

export function scaleSection(measured: readonly Measured<ScaleResult>[], figures: Figures): Html {
  const parts = measured.map(({ source, results }) => {
    const grids = groupBy(results, ({ line }) => line).map((ofLine) => {
      const { title, x } = LINES[ofLine[0]!.line];
      const names = unique(ofLine.map((one) => split(one).name));
      const colours = tones(names, (name) => name === 'relay' || names.length === 1);
      const panels = groupBy(ofLine, (one) => `${split(one).what} ${one.unit}`).map((group) => {
        const lines = groupBy(group, ({ label }) => label).map((points) => lineOf(points, colours));
        const [{ unit }, { what }] = [group[0]!, split(group[0]!)];
        const chart: Chart = {
          kind: 'lines',
          title: what || title,
          x: { label: x, scale: scaleOf(group.map((one) => one.x)) },
          y: { label: unit, scale: scaleOf(group.flatMap(({ y: { least, most } }) => [least, most])) },
          lines,
        };
        return figures.place(chart, `${chart.title}, ${unit} by ${x}: ${listing(lines.map(told))}`);
      });
      const key = names.length > 1 ? lineKey(colours) : html``;
      return html`<p class="what">${title} against ${x}</p>
${grid(panels, html`Medians; thin lines: least and most. ${cite(source)}`, key)}`;
    });
    const rows = results.map(({ line, label, x, unit, y: { median, least, most } }) => [
      `${LINES[line].title}: ${label}`,
      `${plain(x)} ${LINES[line].x}`,
      `${figure(median)} ${unit}`,
      range(least, most, figure),
    ]);
    const numbers = table('Medians, least and most', ['line', 'at', 'median', 'range'], rows);
    return html`<h3>${source.machine} ${cite(source)}</h3>${grids}${details('Numbers', numbers)}`;
  });
  return html`<p>What grows with what. On axes that multiply, a straight line is a power, and a level one costs
nothing.</p>${parts}`;
}

/** "relay, slots moved": who, and what of it; one chart for each of these. Lines of contexts differ in who alone. */
function split({ line, label }: ScaleResult): { readonly name: string; readonly what: string } {
  if (line === 'context') return { name: label, what: '' };
  const [name = '', ...rest] = label.split(', ');
  return { name, what: rest.join(', ') };
}

function lineOf(results: readonly ScaleResult[], colours: ReadonlyMap<string, Tone>): Line {
  const { name } = split(results[0]!);
  const points = results.map(({ x, y: { median, least, most } }): Point => ({ x, y: median, least, most }));
  return { name, tone: colours.get(name)!, points: points.toSorted((a, b) => a.x - b.x) };
}

function told({ name, points }: Line): string {
  const [first, last] = [points[0]!, points.at(-1)!];
  return `${name} ${figure(first.y)} at ${plain(first.x)}, ${figure(last.y)} at ${plain(last.x)}`;
}

/** What spans less than a power of ten is better seen from zero. */
function scaleOf(values: readonly number[]): 'log' | 'linear' {
  const least = Math.min(...values);
  return least > 0 && Math.max(...values) >= 10 * least ? 'log' : 'linear';
}
