// The figures that matter most, for the head of the page.
import { combine } from './calculator.ts';
import type { Evidence, Source } from './evidence.ts';
import { unique } from './figures.ts';
import { count, figure, percent, range, times } from './format.ts';
import { bestByOp, bestShare } from './kernels.ts';
import { peerRatios } from './peers.ts';
import { capacityOf, ratioOf, type Setting } from './relay.ts';

export interface Headline {
  readonly value: string;
  readonly claim: string;
  /** Of what, and from least to most. */
  readonly detail: string;
  readonly source: Source;
}

const HEADLINES = 3;
const USUAL_CONCURRENCY = 16;

/** The first three of those that the files have figures for, most telling first. */
export function headlines(evidence: Evidence, settings: readonly Setting[]): Headline[] {
  const largest = settings.toSorted((a, b) => b.closed.length - a.closed.length);
  const first = (make: (setting: Setting) => Headline | undefined) =>
    largest.map(make).find((one) => one !== undefined);
  const found = [
    first(finishHeadline),
    peerHeadline(evidence),
    first(idleHeadline),
    first(capacityHeadline),
    agreementHeadline(evidence),
    kernelHeadline(evidence),
  ];
  return found.filter((one) => one !== undefined).slice(0, HEADLINES);
}

function finishHeadline({ source, model, rows, closed }: Setting): Headline | undefined {
  const ratios = closed.flatMap((relay) => {
    const baseline = closed.find((one) => {
      return one.contender === 'static' && one.rows === rows && one.workload === relay.workload;
    });
    if (relay.contender !== 'relay' || relay.rows !== rows || baseline === undefined) return [];
    const { seconds } = baseline;
    return seconds.median > 0 && relay.seconds.median > 0 ? [ratioOf(seconds, relay.seconds)] : [];
  });
  if (ratios.length === 0) return undefined;
  const of = count(ratios.length, 'workload');
  const { median, least, most } = combine(ratios);
  return {
    value: times(median),
    claim: 'the speed of static batching, on the same requests',
    detail: `${model}, ${count(rows, 'row')}, ${of}; over all rounds ${range(least, most, times)}`,
    source,
  };
}

function peerHeadline({ peers }: Evidence): Headline | undefined {
  const all = peerRatios(peers);
  const concurrencies = unique(all.map(({ concurrency }) => concurrency)).toSorted((a, b) => a - b);
  const usual = concurrencies.includes(USUAL_CONCURRENCY) ? USUAL_CONCURRENCY : concurrencies.at(-1);
  const [first, ...others] = all.filter(({ concurrency }) => concurrency === usual);
  if (first === undefined) return undefined;
  const same = [
    first,
    ...others.filter(({ source, peer }) => source === first.source && peer.contender === first.peer.contender),
  ];
  const { median, least, most } = combine(same.map(({ ratio }) => ratio));
  const of = same.map(({ model, weights }) => `${model} ${weights}`);
  return {
    value: times(median),
    claim: `the tokens/s of ${first.peer.contender}, its best, at ${count(first.concurrency, 'request')} at once`,
    detail: `${of.join(', ')}; over all rounds ${range(least, most, times)}`,
    source: first.source,
  };
}

function idleHeadline({ source, model, rows, closed }: Setting): Headline | undefined {
  const of = (name: string) =>
    closed
      .filter((one) => one.contender === name && one.rows === rows)
      .map(({ idle }) => idle.share)
      .filter(Number.isFinite);
  const span = (shares: readonly number[]) =>
    combine(shares.map((share) => ({ median: share, least: share, most: share })));
  const relay = of('relay');
  if (relay.length === 0) return undefined;
  const { median, least, most } = span(relay);
  const others = of('static');
  const beside = others.length === 0 ? '' : `; under static ${percent(span(others).median)}`;
  return {
    value: percent(median),
    claim: 'of row-time idle under relay while somebody waits',
    detail: `${model}, ${count(rows, 'row')}, over workloads ${range(least, most, percent)}${beside}`,
    source,
  };
}

function capacityHeadline({ source, model, open }: Setting): Headline | undefined {
  const one = open.find(({ contender }) => contender === 'relay');
  if (one === undefined) return undefined;
  const of = (name: string) =>
    capacityOf(
      open.filter(
        ({ contender, workload, rows }) => contender === name && workload === one.workload && rows === one.rows,
      ),
    );
  const [ours, theirs] = [of('relay'), of('static')];
  if (ours === 0) return undefined;
  return {
    value: `${figure(ours)}/s`,
    claim: 'requests served within their targets, nine of ten',
    detail: `${model}, ${one.workload}, ${count(one.rows, 'row')}${theirs > 0 ? `; static ${figure(theirs)}/s` : ''}`,
    source,
  };
}

function agreementHeadline({ agreement }: Evidence): Headline | undefined {
  const first = agreement[0]?.results[0];
  if (first === undefined) return undefined;
  const { model, weights, contender, version, positions, top1 } = first;
  return {
    value: percent(top1),
    claim: `of positions with the same most likely token as ${contender}`,
    detail: `${model} ${weights}, ${figure(positions)} positions, ${contender} ${version}`,
    source: agreement[0]!.source,
  };
}

function kernelHeadline({ kernels }: Evidence): Headline | undefined {
  const first = kernels[0];
  if (first === undefined) return undefined;
  const shares = bestByOp(first.results).map((one) => ({ op: one.op, device: one.device, share: bestShare(one) }));
  const best = shares.toSorted((a, b) => b.share - a.share)[0];
  if (best === undefined || best.share === 0) return undefined;
  return {
    value: percent(best.share),
    claim: 'of this machine’s ceiling, the best op',
    detail: `${best.op} on ${best.device}`,
    source: first.source,
  };
}
