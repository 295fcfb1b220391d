// Policies against each other: the sections that the relay experiment fills.
import type { RelayResult } from '../bench/results.ts';
import type { Range, Speedup } from './calculator.ts';
import type { Bar, Chart, IdleKind, Line, Point, Tone } from './charts.ts';
import type { Measured, Source } from './evidence.ts';
import { byPolicy, cite, failures, type Figures, grid, groupBy, lineKey, swatchKey, tones, unique } from './figures.ts';
import { count, figure, listing, milliseconds, percent, plain, range, seconds, times } from './format.ts';
import { details, type Html, html, table } from './html.ts';

/** Results that may be compared: of one file and one model. */
export interface Setting {
  readonly source: Source;
  readonly model: string;
  readonly closed: readonly RelayResult[];
  readonly open: readonly RelayResult[];
  /** The number of rows that comparisons at one number take. */
  readonly rows: number;
}

const USUAL_ROWS = 16; // of the number in the middle of what is measured
const ATTAINMENT = 0.9;

export function settings(measured: readonly Measured<RelayResult>[]): Setting[] {
  return measured.flatMap(({ source, results }) =>
    groupBy(results, ({ model }) => model).map((ofModel) => {
      const sorted = ofModel.toSorted((a, b) => byPolicy(a.contender, b.contender));
      const of = (loop: 'closed' | 'open') => sorted.filter((result) => result.loop === loop);
      return { source, model: ofModel[0]!.model, closed: of('closed'), open: of('open'), rows: rowsOf(sorted) };
    }),
  );
}

/** The most measured number of rows; of several the nearest to the usual one. */
function rowsOf(results: readonly RelayResult[]): number {
  const groups = groupBy(results, ({ rows }) => String(rows)).map((group) => ({
    rows: group[0]!.rows,
    size: group.length,
  }));
  const most = Math.max(...groups.map(({ size }) => size));
  const distance = (rows: number) => Math.abs(Math.log2(rows / USUAL_ROWS));
  return groups
    .filter(({ size }) => size === most)
    .map(({ rows }) => rows)
    .reduce((best, rows) => (distance(rows) < distance(best) ? rows : best));
}

function contendersOf(results: readonly RelayResult[]): string[] {
  return unique(results.map(({ contender }) => contender)).toSorted(byPolicy);
}

function policyTones(results: readonly RelayResult[]): ReadonlyMap<string, Tone> {
  return tones(contendersOf(results), (name) => name === 'relay');
}

/** The setting with the most results is shown, those of other files on the same model can be opened. */
function arrange(
  settings: readonly Setting[],
  what: (setting: Setting) => string,
  show: (setting: Setting) => Html,
): Html[] {
  const size = ({ closed, open }: Setting) => closed.length + open.length;
  return groupBy(settings, ({ model }) => model).flatMap((ofModel) =>
    ofModel
      .toSorted((a, b) => size(b) - size(a))
      .map((setting, i) => {
        const { source, model } = setting;
        const title = `${model}${what(setting)}`;
        if (i > 0) return details(`${title}, from ${source.file}`, show(setting));
        return html`<h3>${title} ${cite(source)}</h3>${show(setting)}`;
      }),
  );
}

function rowsText({ rows }: Setting): string {
  return `, ${count(rows, 'row')}`;
}

/** Relay against every other contender of the same run, by rows and workload; the usual number of rows first. */
export function speedups(settings: readonly Setting[]): Speedup[] {
  return settings.flatMap(({ source, model, closed, rows: usual }) => {
    const sorted = closed.toSorted((a, b) => Number(b.rows === usual) - Number(a.rows === usual) || a.rows - b.rows);
    return groupBy(sorted, ({ rows, workload }) => `${rows} ${workload}`).flatMap((group) => {
      const relay = group.find(({ contender }) => contender === 'relay');
      if (relay === undefined) return [];
      return group.flatMap(({ contender, rows, workload, requestsPerSecond }) => {
        const ratio = ratioOf(relay.requestsPerSecond, requestsPerSecond);
        if (contender === 'relay' || !(ratio.least > 0) || !Number.isFinite(ratio.most)) return [];
        return [{ setting: `${model}, ${count(rows, 'row')} [${source.id}]`, contender, workload, ratio }];
      });
    });
  });
}

/** At worst our slowest round against their quickest, at best the other way round. */
export function ratioOf(ours: Range, theirs: Range): Range {
  return { median: ours.median / theirs.median, least: ours.least / theirs.most, most: ours.most / theirs.least };
}

export function finishSection(settings: readonly Setting[], figures: Figures): Html {
  const there = settings.filter(({ closed }) => closed.length > 0);
  const parts = arrange(there, rowsText, ({ closed, rows, source }) => {
    const results = closed.filter((result) => result.rows === rows);
    const colours = policyTones(results);
    const workloads = groupBy(results, ({ workload }) => workload);
    const panels = workloads.map((group) => {
      const bars = group.map((result): Bar => {
        const {
          contender: name,
          seconds: { median, least, most },
        } = result;
        return { name, tone: colours.get(name)!, value: median, least, most, label: seconds(median) };
      });
      const title = group[0]!.workload;
      const told = bars.map(({ name, label }) => `${name} ${label}`);
      return figures.place({ kind: 'bars', title, axis: 'seconds', bars }, `Time to finish ${title}: ${listing(told)}`);
    });
    const contenders = contendersOf(results);
    const cells = (name: string) =>
      workloads.map((group) => {
        const own = group.find(({ contender }) => contender === name);
        const relay = group.find(({ contender }) => contender === 'relay');
        if (own === undefined) return '–';
        const { median, least, most } = own.seconds;
        const ratio =
          relay === undefined || name === 'relay'
            ? html``
            : html` <small>${times(median / relay.seconds.median)}</small>`;
        return html`<span title="${range(least, most, seconds)}">${figure(median)}</span>${ratio}`;
      });
    return html`${grid(
      panels,
      html`Until the last request has ended; bars are medians, whiskers the least and most of all rounds. Each
workload has a scale of its own. ${cite(source)}`,
    )}
${table(
  'Seconds to finish; small: how many times as long as relay took',
  ['policy', ...workloads.map((group) => group[0]!.workload)],
  contenders.map((name) => [name, ...cells(name)]),
)}`;
  });
  return html`<p>All requests wait at the start; each policy has the same rows, arena and kernels, and every prompt
token is
charged. The paper’s table 1.</p>${parts}${failures(settings.map(({ source, closed }) => ({ source, results: closed
})))}`;
}

/** Workloads that were measured at several numbers of rows. */
function bySizes({ closed }: Setting): RelayResult[][] {
  const workloads = groupBy(closed, ({ workload }) => workload);
  return workloads.filter((group) => unique(group.map(({ rows }) => rows)).length > 1);
}

export function hasSizes(settings: readonly Setting[]): boolean {
  return settings.some((setting) => bySizes(setting).length > 0);
}

export function throughputSection(settings: readonly Setting[], figures: Figures): Html {
  const there = settings.filter((setting) => bySizes(setting).length > 0);
  const parts = arrange(
    there,
    () => '',
    (setting) => {
      const { source } = setting;
      const workloads = bySizes(setting);
      const colours = policyTones(workloads.flat());
      const sizes = unique(workloads.flat().map(({ rows }) => rows)).toSorted((a, b) => a - b);
      const panels = workloads.map((group) => {
        const lines = contendersOf(group).map((name): Line => {
          const points = group
            .filter(({ contender }) => contender === name)
            .toSorted((a, b) => a.rows - b.rows)
            .map(({ rows, tokensPerSecond: { median, least, most } }): Point => ({ x: rows, y: median, least, most }));
          return { name, tone: colours.get(name)!, points };
        });
        const chart: Chart = {
          kind: 'lines',
          title: group[0]!.workload,
          x: { label: 'rows', scale: 'log', ticks: sizes },
          y: { label: 'tokens/s', scale: 'linear' },
          lines,
        };
        const best = lines.map(({ name, points }) => `${name} ${figure(points.at(-1)?.y ?? NaN)}`);
        return figures.place(
          chart,
          `Generated tokens/s of ${chart.title} by rows; at ${sizes.at(-1)} rows: ${listing(best)}`,
        );
      });
      const tables = workloads.map((group, i) => {
        const title = group[0]!.workload;
        const rows = contendersOf(group).map((name) => [
          name,
          ...sizes.map((size) => {
            const found = group.find(({ contender, rows }) => contender === name && rows === size);
            return figure(found?.tokensPerSecond.median ?? NaN);
          }),
        ]);
        const made = table(`Generated tokens/s by rows: ${title}`, ['policy', ...sizes.map(String)], rows);
        return i === 0 ? made : details(`Numbers of ${title}`, made);
      });
      return html`${grid(
        panels,
        html`Generated tokens/s against rows, the most requests that decode together. Medians; thin lines: least
and most. ${cite(source)}`,
        lineKey(colours),
      )}${tables}`;
    },
  );
  return html`<p>More rows read the weights once for more requests: how much of that reaches the reader depends on how
many
rows do work that somebody needs. The paper’s table 2.</p>${parts}`;
}

/** Rates of arrivals, and what share of requests met both targets, of one contender; ascending. */
function probesOf(results: readonly RelayResult[]): { readonly rate: number; readonly attainment: Range }[] {
  return results
    .flatMap(({ rate = NaN, attainment, capacity }) => {
      if (capacity === undefined) return [{ rate, attainment }];
      return capacity.probes.map(({ rate, attainment: one }) => ({
        rate,
        attainment: { median: one, least: one, most: one },
      }));
    })
    .toSorted((a, b) => a.rate - b.rate);
}

/** The highest rate up to which every rate measured met the targets for 90 % of requests; 0 where none did. */
export function capacityOf(results: readonly RelayResult[]): number {
  const found = results.find(({ capacity }) => capacity !== undefined)?.capacity;
  if (found !== undefined) return found.requestsPerSecond;
  const probes = probesOf(results);
  const missed = probes.findIndex(({ attainment }) => !(attainment.median >= ATTAINMENT));
  return probes.slice(0, missed < 0 ? probes.length : missed).at(-1)?.rate ?? 0;
}

function targetText({ targets: { ttftMs, itlMs } }: RelayResult): string {
  const first = ttftMs === null ? 'none for the first token' : `${figure(ttftMs)} ms to the first token`;
  return `${first}, ${figure(itlMs)} ms between tokens`;
}

export function capacitySection(settings: readonly Setting[], figures: Figures): Html {
  const there = settings.filter(({ open }) => open.length > 0);
  const parts = arrange(
    there,
    () => '',
    ({ open, source }) => {
      const colours = policyTones(open);
      const groups = groupBy(open, ({ workload, rows }) => `${workload} ${rows}`);
      const title = ({ workload, rows }: RelayResult) => `${workload}, ${count(rows, 'row')}`;
      const panels = groups.map((group) => {
        const lines = contendersOf(group).map((name): Line => {
          const points = probesOf(group.filter(({ contender }) => contender === name)).map(
            ({ rate, attainment }): Point => {
              const { median, least, most } = attainment;
              return { x: rate, y: rate * median, least: rate * least, most: rate * most };
            },
          );
          return { name, tone: colours.get(name)!, points };
        });
        const chart: Chart = {
          kind: 'lines',
          title: title(group[0]!),
          x: { label: 'requests/s that arrive', scale: 'linear' },
          y: { label: 'requests/s within targets', scale: 'linear' },
          lines,
          diagonal: 'all',
        };
        return figures.place(
          chart,
          `Requests/s within targets (${targetText(group[0]!)}) against arrivals, ${chart.title}`,
        );
      });
      const contenders = contendersOf(open);
      const cells = (name: string) =>
        groups.map((group) => {
          const own = group.filter(({ contender }) => contender === name);
          if (own.length === 0) return '–';
          const most = capacityOf(own);
          return most === 0 ? `< ${figure(probesOf(own)[0]?.rate ?? NaN)}` : figure(most);
        });
      const targets = unique(groups.map((group) => `${title(group[0]!)}: ${targetText(group[0]!)}`));
      return html`${grid(
        panels,
        html`Targets: ${targets.join('; ')}. Grey diagonal: every request that arrives meets them.
${cite(source)}`,
        lineKey(colours),
      )}
${table(
  `Capacity: the highest rate, in requests/s, at which at least ${plain(100 * ATTAINMENT)} % met both targets`,
  ['policy', ...groups.map((group) => title(group[0]!))],
  contenders.map((name) => [name, ...cells(name)]),
)}`;
    },
  );
  return html`<p>Requests arrive by themselves, and nobody waits for the machine to be free. A request counts if both
its first
token and the tokens after it came in time.</p>${parts}`;
}

/** What of a trial is the same for all its contenders; those whose capacity was looked for end at a rate each. */
function trialOf({ workload, loop, rate, capacity }: RelayResult): string {
  if (loop === 'closed') return `${workload}, all at once`;
  return `${workload}, ${capacity === undefined ? `${plain(rate ?? NaN)} requests/s` : 'each at its capacity'}`;
}

const METRICS = [
  ['ttft', 'time to first token'],
  ['itl', 'between tokens (ITL)'],
  ['tpot', 'per output token (TPOT)'],
] as const;

export function latencySection(settings: readonly Setting[], figures: Figures): Html {
  const parts = arrange(settings, rowsText, ({ closed, open, rows, source }) => {
    const groups = groupBy(
      [...open, ...closed].filter((result) => result.rows === rows),
      trialOf,
    );
    // Arrivals are nearer to life than a heap of requests, and the middle rate nearer than the least or the most.
    const opened = Math.max(0, groups.filter((group) => group[0]!.loop === 'open').length - 1) >> 1;
    const chosen = groups.splice(opened, 1);
    const shown = [...chosen, ...groups].map((group, i) => {
      const title = trialOf(group[0]!);
      const colours = policyTones(group);
      const panels = METRICS.map(([metric, name]) => {
        const rows = group.map((result) => {
          const { p50, p90, p99 } = result[metric];
          const step = metric === 'itl' ? { step: result.decodeMs } : {};
          return { name: result.contender, tone: colours.get(result.contender)!, p50, p90, p99, ...step };
        });
        const told = rows.map(({ name, p50, p99 }) => `${name} ${milliseconds(p50)} and ${milliseconds(p99)}`);
        return figures.place(
          { kind: 'quantiles', title: name, axis: 'ms', rows },
          `${name}, p50 and p99: ${listing(told)}`,
        );
      });
      const content = html`${grid(
        panels,
        html`From p50 over p90 to p99 of all requests; a bar in the second panel is a decode
step of all rows and nothing else, below which no policy can stay. ${cite(source)}`,
      )}
${table(
  `Milliseconds: ${title}`,
  ['policy', 'TTFT p50', 'p90', 'p99', 'ITL p50', 'p90', 'p99', 'TPOT p50', 'p90', 'p99', 'decode step'],
  group.map(({ contender, ttft, itl, tpot, decodeMs }) => [
    contender,
    ...[ttft, itl, tpot].flatMap(({ p50, p90, p99 }) => [p50, p90, p99]).map(figure),
    figure(decodeMs),
  ]),
)}`;
      return i === 0 ? html`<p class="what">${title}</p>${content}` : details(title, content);
    });
    return html`${shown}`;
  });
  return html`<p>What a reader notices: how long until the answer begins, and how evenly it comes.</p>${parts}`;
}

const IDLE_KINDS: readonly (readonly [IdleKind, string])[] = [
  ['dead', 'finished rows that compute on'],
  ['pad', 'padding'],
  ['empty', 'empty rows while somebody waits'],
  ['stall', 'rows held up by a prefill'],
];

export function idleSection(settings: readonly Setting[], figures: Figures): Html {
  const parts = arrange(settings, rowsText, ({ closed, open, rows: usual, source }) => {
    const groups = groupBy(
      (closed.length > 0 ? closed : open).filter(({ rows }) => rows === usual),
      trialOf,
    );
    const title = (result: RelayResult) => (result.loop === 'closed' ? result.workload : trialOf(result));
    const panels = groups.map((group) => {
      const rows = group.map(({ contender, idle: { dead, pad, empty, stall } }) => ({
        name: contender,
        parts: { dead, pad, empty, stall },
      }));
      const told = group.map(({ contender, idle }) => `${contender} ${percent(idle.share)}`);
      return figures.place({ kind: 'idle', title: title(group[0]!), rows }, `Idle share of row-time: ${listing(told)}`);
    });
    const rows = groups.flatMap((group) =>
      group.map(({ contender, idle }) => [
        `${title(group[0]!)}: ${contender}`,
        ...[idle.share, idle.dead, idle.pad, idle.empty, idle.stall].map(percent),
      ]),
    );
    const key = swatchKey(IDLE_KINDS);
    const head = ['policy', 'idle', 'dead', 'padding', 'empty', 'stall'];
    return html`${grid(panels, html`Shares of all row-time while somebody waited. ${cite(source)}`, key)}
${details('Numbers', table('Idle share of row-time, and its kinds', head, rows))}`;
  });
  return html`<p>Row-time in which nothing was computed that any request needed: the paper’s subject, split so that
nothing
hides.</p>${parts}`;
}
