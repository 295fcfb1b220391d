// What every row did, step by step, as runs of time.
import type { RelayResult, Timeline } from '../bench/results.ts';
import type { RowRun, TimelinePanel } from './charts.ts';
import type { Measured, Source } from './evidence.ts';
import { byPolicy, cite, type Figures, swatchKey, trialsWith } from './figures.ts';
import { count, listing, percent, seconds } from './format.ts';
import { details, type Html, html } from './html.ts';

/** What the steps came to. Shares are of rows × time. */
export interface TimelineSummary {
  readonly ms: number;
  readonly steps: number;
  readonly requests: number;
  readonly chunkSteps: number;
  readonly working: number;
  readonly finished: number;
  readonly empty: number;
}

const EMPTY = -1;

/** Neighbouring steps in which a row did the same are one run; empty ones are none. */
export function panelOf(name: string, rows: number, { ms, rows: steps, chunkTokens }: Timeline): TimelinePanel {
  const runs: RowRun[] = [];
  const ends = endsOf(ms);
  const from = (step: number) => ends[step - 1] ?? 0;
  for (let row = 0; row < rows; row++) {
    let first = 0;
    for (let step = 1; step <= steps.length; step++) {
      const id = steps[first]?.[row] ?? EMPTY;
      if (step < steps.length && (steps[step]?.[row] ?? EMPTY) === id) continue;
      if (id !== EMPTY)
        runs.push([row, rounded(from(first)), rounded(ends[step - 1] ?? 0), idOf(id), id < EMPTY ? 1 : 0]);
      first = step;
    }
  }
  const chunks = chunkTokens.flatMap((tokens, step) =>
    tokens > 0 ? [[rounded(from(step)), rounded(ends[step] ?? 0), tokens] as const] : [],
  );
  return { name, rows, ms: rounded(ends.at(-1) ?? 0), runs, chunks };
}

export function summarize(rows: number, { ms, rows: steps, chunkTokens }: Timeline): TimelineSummary {
  const total = ms.reduce((sum, one) => sum + one, 0);
  const time = { working: 0, finished: 0, empty: 0 };
  const requests = new Set<number>();
  steps.forEach((step, i) => {
    for (let row = 0; row < rows; row++) {
      const id = step[row] ?? EMPTY;
      time[id === EMPTY ? 'empty' : id < EMPTY ? 'finished' : 'working'] += ms[i]!;
      if (id !== EMPTY) requests.add(idOf(id));
    }
  });
  const share = (sum: number) => (total === 0 ? 0 : sum / (total * rows));
  return {
    ms: total,
    steps: steps.length,
    requests: requests.size,
    chunkSteps: chunkTokens.filter((tokens) => tokens > 0).length,
    working: share(time.working),
    finished: share(time.finished),
    empty: share(time.empty),
  };
}

function idOf(id: number): number {
  return id < EMPTY ? EMPTY - 1 - id : id;
}

function endsOf(ms: readonly number[]): number[] {
  let end = 0;
  return ms.map((one) => (end += one));
}

/** To a thousandth of a ms: what no screen shows need not fill the page. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

export function hasTimeline(measured: readonly Measured<RelayResult>[]): boolean {
  return trialsWith(measured, 'timeline').length > 0;
}

export function timelineSection(measured: readonly Measured<RelayResult>[], figures: Figures): Html {
  const shown = trialsWith(measured, 'timeline').map(({ source, group }, i) => {
    const { model, workload, rows } = group[0]!;
    const title = `${workload}: ${model}, ${count(rows, 'row')}`;
    const content = timelineFigure(title, source, group, figures);
    return i === 0 ? content : details(title, content);
  });
  return html`<p>Every row of the batch, from the first step to the last, on one scale of time. What is coloured,
somebody was
waiting for; what is hatched or dotted, the machine was on for nothing.</p>${shown}`;
}

/** The baseline above, relay below: what it saves is the room to the right of it. */
function timelineFigure(title: string, source: Source, group: readonly RelayResult[], figures: Figures): Html {
  const pair = group.filter(({ contender }) => contender === 'static' || contender === 'relay');
  const results = (pair.length === 2 ? pair : group).toSorted((a, b) => byPolicy(b.contender, a.contender));
  const panels = results.map(({ contender, rows, timeline }) => panelOf(contender, rows, timeline!));
  const told = results.map(({ contender, rows, timeline }) => {
    const { ms, steps, requests, chunkSteps, working, finished, empty } = summarize(rows, timeline!);
    return html`<p><strong>${contender}</strong>: ${count(requests, 'request')} in ${seconds(ms / 1000)} and
${count(steps, 'step')}, ${chunkSteps} of them with prompt tokens. Of all row-time ${percent(working)} went to requests,
${percent(finished)} to rows that had finished, and ${percent(empty)} to no row at all.</p>`;
  });
  const names = listing(results.map(({ contender }) => contender));
  const key = swatchKey([
    ['request', 'a request, a colour each'],
    ['dead', 'finished, computed for nothing'],
    ['vacant', 'empty'],
    ['chunk', 'prompt tokens in the step'],
  ]);
  return html`<figure class="timeline">${key}
${figures.place({ kind: 'timeline', title, panels }, `Rows against time under ${names}; the text below says the same`)}
<figcaption>${told}<p>One round. ${cite(source)}</p></figcaption></figure>`;
}
