// Ops against what their machine can do at best.
import type { KernelResult } from '../bench/results.ts';
import type { Chart, Line, Point } from './charts.ts';
import type { Measured } from './evidence.ts';
import { cite, type Figures, grid, groupBy, lineKey, swatchKey, tones, unique } from './figures.ts';
import { count, figure, percent, times } from './format.ts';
import { details, type Html, html, table } from './html.ts';
import { median } from '../bench/statistics.ts';

/** What a device copies and multiplies at best, from figures and their shares of it; NaN where no op has a share. */
export function ceilings(results: readonly KernelResult[]): { gigabytesPerSecond: number; gigaflopsPerSecond: number } {
  const middle = (ratios: readonly number[]) => median(ratios.filter((ratio) => ratio > 0 && Number.isFinite(ratio)));
  return {
    gigabytesPerSecond: middle(results.map((one) => one.gigabytesPerSecond / (one.bandwidthShare ?? NaN))),
    gigaflopsPerSecond: middle(results.map((one) => one.gigaflopsPerSecond / (one.computeShare ?? NaN))),
  };
}

/** The ceiling that it is nearer to. */
export function bestShare({ bandwidthShare, computeShare }: KernelResult): number {
  return Math.max(bandwidthShare ?? 0, computeShare ?? 0);
}

const NOISE = 1.05; // what two measurements of the same ceiling differ by

/** Of every op the case that comes nearest to a ceiling from below: above it a cache has answered, not the memory. */
export function bestByOp(results: readonly KernelResult[]): KernelResult[] {
  return groupBy(results, ({ op }) => op).map((cases) => {
    const sorted = cases.toSorted((a, b) => bestShare(b) - bestShare(a));
    return sorted.find((one) => bestShare(one) <= NOISE) ?? sorted.at(-1)!;
  });
}

export function kernelSection(measured: readonly Measured<KernelResult>[], figures: Figures): Html {
  const parts = measured.map(({ source, results }) => {
    const devices = groupBy(results, ({ device }) => device);
    const roofs = groupBy(results, (one) => `${one.device} ${one.type}`).flatMap((ofType) =>
      rooflineOf(ofType, figures),
    );
    const shares = devices.map((ofDevice) => {
      const rows = bestByOp(ofDevice).map(({ op, bandwidthShare, computeShare }) => {
        return { name: op, bandwidth: bandwidthShare ?? NaN, compute: computeShare ?? NaN };
      });
      const title = ofDevice[0]!.device;
      return figures.place(
        { kind: 'shares', title, rows },
        `Share of this machine’s ceilings, best case of each op on ${title}`,
      );
    });
    const more = devices.map((ofDevice) => {
      const title = ofDevice[0]!.device;
      return html`${sweepsOf(ofDevice, figures)}${details(`All cases of ${title}`, casesOf(title, ofDevice))}`;
    });
    const key = swatchKey([
      ['bandwidth', 'of the bandwidth'],
      ['compute', 'of the arithmetic'],
    ]);
    const roofText = html`Arithmetic done against bytes moved. The roof is what the same machine read and multiplied at
best in
the same run; what a cache holds may be above it. ${cite(source)}`;
    return html`<h3>${source.machine} ${cite(source)}</h3>${roofs.length === 0 ? html`` : grid(roofs, roofText)}
${grid(shares, html`The best case of each op, as a share of both ceilings. ${cite(source)}`, key)}${more}`;
  });
  return html`<p>Each op alone, on every device and instruction set of the machine. An op is as good as the nearer of
two
ceilings allows: bytes or arithmetic.</p>${parts}`;
}

/** Cases of one type on one device; nothing where no ceiling was measured. */
function rooflineOf(results: readonly KernelResult[], figures: Figures): Html[] {
  const { gigabytesPerSecond, gigaflopsPerSecond } = ceilings(results);
  const points = results
    .filter((one) => one.gigaflopsPerSecond > 0 && one.gigabytesPerSecond > 0)
    .map(({ op, case: name, gigaflopsPerSecond: gigaflops, gigabytesPerSecond: gigabytes }) => {
      return { name: `${op} ${name}`, intensity: gigaflops / gigabytes, gigaflops };
    });
  if (!Number.isFinite(gigabytesPerSecond) || !Number.isFinite(gigaflopsPerSecond) || points.length === 0) return [];
  const { device, type } = results[0]!;
  const title = type === undefined ? device : `${device}, ${type}`;
  const roof = `${figure(gigabytesPerSecond)} GB/s, ${figure(gigaflopsPerSecond)} GFLOP/s at best`;
  const told = `${roof}; ${count(points.length, 'case')} beneath`;
  return [
    figures.place({ kind: 'roofline', title, gigabytesPerSecond, gigaflopsPerSecond, points }, `${title}: ${told}`),
  ];
}

/** Lines of cases that differ in one thing. */
function sweepsOf(results: readonly KernelResult[], figures: Figures): Html {
  const { device } = results[0]!;
  const swept = results.filter(
    ({ line, against, x }) => line !== undefined && against !== undefined && x !== undefined,
  );
  const panels = groupBy(swept, ({ op, against }) => `${op} ${against}`).map((group) => {
    const { op, against = '' } = group[0]!;
    const colours = tones(unique(group.map(({ line = '' }) => line)), () => false);
    const lines = groupBy(group, ({ line = '' }) => line).map((own): Line => {
      const name = own[0]!.line ?? '';
      const points = own.map((one): Point => {
        const y = 100 * bestShare(one);
        return { x: one.x!, y, least: y, most: y };
      });
      return { name, tone: colours.get(name)!, points: points.toSorted((a, b) => a.x - b.x) };
    });
    const chart: Chart = {
      kind: 'lines',
      title: `${op} against ${against}`,
      x: { label: against, scale: group.every(({ x = 0 }) => x > 0) ? 'log' : 'linear' },
      y: { label: '% of the nearer ceiling', scale: 'linear' },
      lines,
    };
    const told = `${chart.title} on ${device}: share of the nearer ceiling`;
    return html`<div>${figures.place(chart, told)}${lineKey(colours)}</div>`;
  });
  if (panels.length === 0) return html``;
  return details(
    `Sweeps of ${device}`,
    grid(panels, html`Cases that differ in one thing, as a share of the nearer ceiling.`),
  );
}

function casesOf(title: string, results: readonly KernelResult[]): Html {
  const compared = results.some(({ ratioToLibrary }) => ratioToLibrary !== undefined);
  const rows = results.map((one) => [
    `${one.op} ${one.case}`,
    figure(one.microseconds),
    figure(one.gigabytesPerSecond),
    percent(one.bandwidthShare ?? NaN),
    figure(one.gigaflopsPerSecond),
    percent(one.computeShare ?? NaN),
    ...(compared ? [times(one.ratioToLibrary ?? NaN)] : []),
  ]);
  const head = [
    'op and case',
    'µs',
    'GB/s',
    'of ceiling',
    'GFLOP/s',
    'of ceiling',
    ...(compared ? ['time ÷ library’s'] : []),
  ];
  return table(`Kernels on ${title}`, head, rows);
}
