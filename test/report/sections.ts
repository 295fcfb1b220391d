// What the page shows, from results whose figures are known.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { KernelResult, RelayResult, Timeline } from '../../src/bench/results.ts';
import { collect } from '../../src/report/evidence.ts';
import { headlines } from '../../src/report/headlines.ts';
import { bestByOp, ceilings } from '../../src/report/kernels.ts';
import { summarize as summarizeMemory, thin } from '../../src/report/memory.ts';
import { peerRatios } from '../../src/report/peers.ts';
import { capacityOf, settings, speedups } from '../../src/report/relay.ts';
import { panelOf, summarize } from '../../src/report/timeline.ts';
import { CONTENDERS, kernelRecord, peerRecord, relayRecord, ROWS, WORKLOADS } from './fake/records.ts';

const sections = suite('Sections');

function evidenceOf(...records: readonly object[]) {
  return collect(records.map((record, i) => ({ file: `${i}.json`, content: JSON.stringify(record) })));
}

/** Two rows, three steps: request 0 ends after the first, request 2 takes its row in the third. */
const TIMELINE: Timeline = {
  ms: [10, 20, 30],
  rows: [
    [0, 1],
    [-2, 1],
    [2, -1],
  ],
  chunkTokens: [64, 0, 32],
};

sections('a timeline is runs of what rows did, with what was empty left out', () => {
  const { ms, runs, chunks } = panelOf('static', 2, TIMELINE);
  assert.is(ms, 60);
  assert.equal(runs, [
    [0, 0, 10, 0, 0],
    [0, 10, 30, 0, 1],
    [0, 30, 60, 2, 0],
    [1, 0, 30, 1, 0],
  ]);
  assert.equal(chunks, [
    [0, 10, 64],
    [30, 60, 32],
  ]);
});

sections('the text of a timeline is rows × time, and its shares are all of it', () => {
  const { ms, steps, requests, chunkSteps, working, finished, empty } = summarize(2, TIMELINE);
  assert.equal([ms, steps, requests, chunkSteps], [60, 3, 3, 2]);
  assert.equal(
    [working, finished, empty].map((share) => Math.round(share * 120)),
    [70, 20, 30],
  );
});

sections('rows that a step does not name are empty', () => {
  const narrow = { ms: [5, 5], rows: [[7], [7, 8]], chunkTokens: [0, 0] };
  assert.equal(panelOf('relay', 2, narrow).runs, [
    [0, 0, 10, 7, 0],
    [1, 5, 10, 8, 0],
  ]);
});

sections('a timeline without steps is empty', () => {
  const none = { ms: [], rows: [], chunkTokens: [] };
  assert.equal(panelOf('relay', 2, none), { name: 'relay', rows: 2, ms: 0, runs: [], chunks: [] });
  assert.is(summarize(2, none).working, 0);
});

sections('a thinned memory curve keeps its ends and its peak', () => {
  const used = Array.from({ length: 1000 }, (_, i) => (i === 501 ? 90 : 10));
  const curve = { ms: used.map((_, i) => i), used, padding: used.map(() => 5), free: used.map((one) => 95 - one) };
  const thinned = thin(curve, 50);
  assert.ok(thinned.ms.length <= 51);
  assert.equal([thinned.ms[0], thinned.ms.at(-1)], [0, 999]);
  assert.is(Math.max(...thinned.used), 90);
  assert.equal(thin(curve, 1000), curve);
});

sections('memory is averaged over time, not over points', () => {
  const { peak, used, padding, padShare } = summarizeMemory({
    ms: [0, 90, 100],
    used: [10, 50, 0],
    padding: [0, 50, 0],
    free: [90, 0, 100],
  });
  assert.equal([peak, used, padding], [100, 0.14, 0.05]);
  assert.is(Math.round(padShare * 1000), 263);
});

sections('relay is compared with every other contender of its run, at worst and at best', () => {
  const found = speedups(settings(evidenceOf(relayRecord()).relay));
  assert.is(found.length, WORKLOADS.length * ROWS.length * (CONTENDERS.length - 1));
  assert.is(found[0]!.setting, 'toy, 16 rows [1]', 'the usual number of rows comes first');
  const closed = relayRecord().results.filter(
    ({ loop, rows, workload }) => loop === 'closed' && rows === 16 && workload === 'code',
  );
  const [ours, theirs] = ['relay', 'static'].map(
    (name) => closed.find(({ contender }) => contender === name)!.requestsPerSecond,
  );
  const { ratio } = found.find(
    ({ setting, contender, workload }) => setting.includes('16') && contender === 'static' && workload === 'code',
  )!;
  assert.is(ratio.median, ours!.median / theirs!.median);
  assert.is(ratio.least, ours!.least / theirs!.most);
  assert.is(ratio.most, ours!.most / theirs!.least);
});

sections('results of different files are not compared', () => {
  const { results, ...record } = relayRecord();
  const of = (name: string) => ({ ...record, results: results.filter(({ contender }) => contender === name) });
  assert.equal(speedups(settings(evidenceOf(of('relay'), of('static')).relay)), []);
});

sections('a contender that never finished is not compared', () => {
  const record = relayRecord();
  const failed = { median: NaN, least: NaN, most: NaN };
  const results = record.results.map((one) =>
    one.contender === 'static' ? { ...one, requestsPerSecond: failed, error: 'x' } : one,
  );
  const found = speedups(settings(evidenceOf({ ...record, results }).relay));
  assert.is(
    found.some(({ contender }) => contender === 'static'),
    false,
  );
  assert.is(
    found.some(({ contender }) => contender === 'orca'),
    true,
  );
});

sections('capacity is the highest rate below which none has failed', () => {
  const [base] = relayRecord().results;
  const at = (rate: number, share: number): RelayResult => {
    return { ...base!, loop: 'open', rate, attainment: { median: share, least: share, most: share } };
  };
  assert.is(capacityOf([at(8, 0.9), at(2, 1), at(4, 0.95), at(16, 0.5)]), 8);
  assert.is(capacityOf([at(2, 1), at(4, 0.8), at(8, 1)]), 2);
  assert.is(capacityOf([at(2, 0.1)]), 0);
  const searched = {
    ...at(3, 0.95),
    capacity: { requestsPerSecond: 3.25, share: 0.9, probes: [{ rate: 3.25, attainment: 0.95 }] },
  };
  assert.is(capacityOf([searched]), 3.25);
});

sections('our best is compared with the best of all others, at one concurrency', () => {
  const ratios = peerRatios(evidenceOf(peerRecord()).peers);
  assert.is(ratios.length, 8);
  const { peer, ratio } = ratios.find(({ weights, concurrency }) => weights === '16 bit' && concurrency === 16)!;
  assert.is(peer.contender, 'node-llama-cpp lockstep');
  assert.is(ratio.median.toFixed(3), (16 ** 0.75 / 16 ** 0.3).toFixed(3));
});

function kernel(op: string, bandwidthShare: number | null, computeShare: number | null): KernelResult {
  const rates = { gigabytesPerSecond: 40 * (bandwidthShare ?? 1), gigaflopsPerSecond: 200 * (computeShare ?? 1) };
  return { device: 'cpu', op, case: '', microseconds: 1, ...rates, bandwidthShare, computeShare };
}

sections('ceilings are what figures are shares of', () => {
  const found = ceilings([kernel('a', 0.5, 0.1), kernel('b', 0.25, null), kernel('c', null, 0.8)]);
  assert.equal(found, { gigabytesPerSecond: 40, gigaflopsPerSecond: 200 });
  assert.ok(Number.isNaN(ceilings([kernel('a', null, null)]).gigabytesPerSecond));
});

sections('an op stands by its best case that no cache has answered', () => {
  const shares = (results: readonly KernelResult[]) =>
    bestByOp(results).map(({ op, bandwidthShare }) => [op, bandwidthShare]);
  assert.equal(
    shares([
      kernel('a', 0.5, 0.1),
      kernel('a', 7, null),
      kernel('a', 0.8, null),
      kernel('b', 3, null),
      kernel('b', 2, null),
    ]),
    [
      ['a', 0.8],
      ['b', 2],
    ],
  );
});

sections('the head has three figures, each with its source, and fewer where there are no more', () => {
  const all = evidenceOf(relayRecord(), peerRecord(), kernelRecord());
  const three = headlines(all, settings(all.relay));
  assert.equal(
    three.map(({ source }) => source.id),
    [1, 2, 1],
  );
  assert.match(three[0]!.value, /^\d\.\d\d ×$/);
  assert.match(three[1]!.claim, /node-llama-cpp lockstep, its best, at 16 requests/);
  assert.match(three[2]!.detail, /under static \d/);
  const kernels = evidenceOf(kernelRecord());
  assert.equal(
    headlines(kernels, []).map(({ source }) => source.id),
    [1],
  );
  const nothing = evidenceOf({ ...relayRecord(), results: [] });
  assert.equal(headlines(nothing, settings(nothing.relay)), []);
});

sections.run();
