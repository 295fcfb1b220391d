// Other engines on the same weights and prompts.
import type { AgreementResult, PeerResult } from '../bench/results.ts';
import type { Range } from './calculator.ts';
import type { Line, Point } from './charts.ts';
import type { Measured, Source } from './evidence.ts';
import { cite, failures, type Figures, grid, groupBy, lineKey, tones, unique } from './figures.ts';
import { count, figure, listing, percent, plain, range, times } from './format.ts';
import { type Html, html, table } from './html.ts';
import { ratioOf } from './relay.ts';

/** Ours is this engine, with whatever settings behind its name. */
function isOurs(contender: string): boolean {
  return /^baton\b/.test(contender);
}

/** Our best against the best of all others, at one concurrency. */
export interface PeerRatio {
  readonly source: Source;
  readonly model: string;
  readonly weights: string;
  readonly concurrency: number;
  readonly peer: PeerResult;
  readonly ratio: Range;
}

export function peerRatios(measured: readonly Measured<PeerResult>[]): PeerRatio[] {
  return measured.flatMap(({ source, results }) =>
    groupBy(results, ({ model, weights, concurrency }) => `${model} ${weights} ${concurrency}`).flatMap((group) => {
      const ours = best(group.filter(({ contender }) => isOurs(contender)));
      const peer = best(group.filter(({ contender }) => !isOurs(contender)));
      if (ours === undefined || peer === undefined) return [];
      const { model, weights, concurrency } = peer;
      return [
        { source, model, weights, concurrency, peer, ratio: ratioOf(ours.tokensPerSecond, peer.tokensPerSecond) },
      ];
    }),
  );
}

function best(results: readonly PeerResult[]): PeerResult | undefined {
  return results
    .filter(({ tokensPerSecond }) => tokensPerSecond.median > 0)
    .toSorted((a, b) => b.tokensPerSecond.median - a.tokensPerSecond.median)[0];
}

/** Each takes the format and the threads that are best for it, at every concurrency anew. */
function settingOf({ format, threads }: PeerResult): string {
  return `${format}, ${count(threads, 'thread')}`;
}

/** What a request has on average; from least to most over the trials. */
function tokensText(results: readonly PeerResult[]): string {
  const of = (total: 'promptTokens' | 'outputTokens') => {
    const means = results.map((one) => Math.round(one[total] / one.requests));
    return range(Math.min(...means), Math.max(...means), plain);
  };
  return `On average ${of('promptTokens')} prompt and ${of('outputTokens')} output tokens a request.`;
}

export function peerSection(measured: readonly Measured<PeerResult>[], figures: Figures): Html {
  const parts = measured.map(({ source, results }) => {
    const names = unique(results.map(({ contender }) => contender)).toSorted(
      (a, b) => Number(isOurs(b)) - Number(isOurs(a)),
    );
    const colours = tones(names, isOurs);
    const ratios = peerRatios([{ source, results }]);
    const groups = groupBy(results, ({ model, weights }) => `${model} ${weights}`);
    const panels = groups.map((group) => {
      const { model, weights } = group[0]!;
      const ticks = unique(group.map(({ concurrency }) => concurrency)).toSorted((a, b) => a - b);
      const lines = groupBy(group, ({ contender }) => contender).map((own): Line => {
        const name = own[0]!.contender;
        const points = own
          .toSorted((a, b) => a.concurrency - b.concurrency)
          .map(({ concurrency, tokensPerSecond: { median, least, most } }): Point => ({
            x: concurrency,
            y: median,
            least,
            most,
          }));
        return { name, tone: colours.get(name)!, points };
      });
      const title = `${model}, ${weights}`;
      const told = lines.map(({ name, points }) => `${name} ${figure(points.at(-1)?.y ?? NaN)}`);
      return figures.place(
        {
          kind: 'lines',
          title,
          x: { label: 'concurrent requests', scale: 'log', ticks },
          y: { label: 'tokens/s', scale: 'linear' },
          lines,
        },
        `Tokens/s of ${title} by concurrent requests; at ${ticks.at(-1)}: ${listing(told)}`,
      );
    });
    const concurrencies = unique(results.map(({ concurrency }) => concurrency)).toSorted((a, b) => a - b);
    const tables = groups.map((group) => {
      const { model, weights } = group[0]!;
      const figuresOf = (name: string) =>
        concurrencies.map((concurrency) => {
          const found = group.find((one) => one.concurrency === concurrency && one.contender === name);
          return found === undefined
            ? '–'
            : html`${figure(found.tokensPerSecond.median)} <small>${settingOf(found)}</small>`;
        });
      const ratioCells = concurrencies.map((concurrency) => {
        const found = ratios.find(
          (one) => one.model === model && one.weights === weights && one.concurrency === concurrency,
        );
        if (found === undefined) return '–';
        const { median, least, most } = found.ratio;
        return html`<span title="${range(least, most, times)}, over ${found.peer.contender}">${times(median)}</span>`;
      });
      const own = names.filter((name) => group.some(({ contender }) => contender === name));
      return table(
        `Tokens/s, prompts included, by concurrent requests: ${model}, ${weights}`,
        ['engine', ...concurrencies.map(String)],
        [...own.map((name) => [name, ...figuresOf(name)]), ['ours ÷ best other', ...ratioCells]],
      );
    });
    const versions = unique(results.map(({ contender, version }) => `${contender} ${version}`));
    return html`<h3>${source.machine} ${cite(source)}</h3>
${grid(
  panels,
  html`${tokensText(results)} Medians; thin lines: least and most.
${versions.join('; ')}. ${cite(source)}`,
  lineKey(colours),
)}
${tables}${failures([{ source, results }])}`;
  });
  return html`<p>The same weights, prompts and sampling, in one run, taking turns. Each peer at its best settings: the
ratio is
against whichever of them is quickest.</p>${parts}`;
}

export function agreementSection(measured: readonly Measured<AgreementResult>[]): Html {
  const lines = measured.flatMap(({ source, results }) =>
    results.map(({ model, weights, contender, version, positions, top1, ...differences }) => [
      html`${model}, ${weights} ${cite(source)}`,
      `${contender} ${version}`,
      figure(positions),
      percent(top1),
      figure(differences.largestDifference),
      figure(differences.meanDifference),
      figure(differences.largestPreference),
    ]),
  );
  return html`<p>Log-probabilities at the same positions of the same texts: an independent check that both engines
compute
the same function.</p>${table(
    'Agreement of the most likely token, and differences of log-probabilities',
    ['model', 'with', 'positions', 'same top token', 'largest difference', 'mean difference', 'largest preference'],
    lines,
  )}`;
}
