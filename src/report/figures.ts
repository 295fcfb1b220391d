import type { RelayResult } from '../bench/results.ts';
import type { Chart, Tone } from './charts.ts';
import type { Measured, Source } from './evidence.ts';
import { type Html, html } from './html.ts';

/** The charts of a page, in the order of their places in it. */
export class Figures {
  readonly charts: Chart[] = [];

  /** A place for a chart, which the page's script draws; who cannot see it gets the description. */
  place(chart: Chart, description: string): Html {
    this.charts.push(chart);
    return html`<div class="panel"><p class="title">${chart.title}</p>
<div class="chart" data-chart="${this.charts.length - 1}" role="img" aria-label="${description}"></div></div>`;
  }
}

/** Small charts beside each other, as many as the width has room for. */
export function grid(panels: readonly Html[], caption: Html, key: Html = html``): Html {
  return html`<figure>${key}<div class="grid">${panels}</div><figcaption>${caption}</figcaption></figure>`;
}

/** Refers to the list of sources. */
export function cite(source: Source): Html {
  return html`<a class="cite" href="#source-${source.id}" title="${source.file}: ${source.command}">[${source.id}]</a>`;
}

/** Policies in the order they are shown: what is measured first, then what it is measured against. */
const POLICIES = ['relay', 'orca', 'baton-pd', 'baton', 'static'];

export function byPolicy(a: string, b: string): number {
  return placeOf(a) - placeOf(b);
}

/** What is relay but for something stands behind it. */
function placeOf(name: string): number {
  const place = POLICIES.indexOf(name);
  if (place >= 0) return place;
  return name.startsWith('relay-') ? 0.5 : POLICIES.length;
}

/** The accent for one, a grey for every other. */
export function tones(names: readonly string[], accent: (name: string) => boolean): ReadonlyMap<string, Tone> {
  let others = 0;
  return new Map(names.map((name) => [name, accent(name) ? 'accent' : (((others++ % 6) + 1) as Tone)]));
}

/** What the lines and symbols of a group of charts mean. The script draws the samples. */
export function lineKey(tones: ReadonlyMap<string, Tone>): Html {
  return html`<ul class="key">${[...tones].map(
    ([name, tone]) => html`<li><span class="sample" data-sample="line" data-tone="${tone}"></span>${name}</li>`,
  )}</ul>`;
}

export function swatchKey(items: readonly (readonly [swatch: string, name: string])[]): Html {
  return html`<ul class="key">${items.map(
    ([swatch, name]) => html`<li><span class="sample" data-sample="${swatch}"></span>${name}</li>`,
  )}</ul>`;
}

/** Values in the order in which they first appear. */
export function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

/** Results with the same key together, in the order in which keys first appear. */
export function groupBy<T>(values: readonly T[], key: (value: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group === undefined) groups.set(key(value), [value]);
    else group.push(value);
  }
  return [...groups.values()];
}

/** Results that kept a curve, those of one trial together: what may be drawn beside each other. */
export function trialsWith(
  measured: readonly Measured<RelayResult>[],
  kept: 'memory' | 'timeline',
): { readonly source: Source; readonly group: readonly RelayResult[] }[] {
  return measured.flatMap(({ source, results }) =>
    groupBy(
      results.filter((result) => result[kept] !== undefined),
      ({ model, workload, rows, loop, rate }) => `${model} ${workload} ${rows} ${loop} ${rate}`,
    ).map((group) => ({ source, group })),
  );
}

/** What failed, and how it said so. */
export function failures(measured: readonly Measured<{ readonly contender: string; readonly error?: string }>[]): Html {
  const lines = measured.flatMap(({ source, results }) =>
    results.flatMap(({ contender, error }) =>
      error === undefined
        ? []
        : [html`<li>${contender} ${cite(source)}: <code>${error.trim().split('\n')[0]!}</code></li>`],
    ),
  );
  return lines.length === 0 ? html`` : html`<p>Rounds that failed are left out:</p><ul>${lines}</ul>`;
}
