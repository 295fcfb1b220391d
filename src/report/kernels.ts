// Ops against what their machine can do at best.
import type { KernelResult } from '../bench/results.ts';
import type { Measured } from './evidence.ts';
import { cite, type Figures, grid, groupBy, swatchKey } from './figures.ts';
import { figure, percent } from './format.ts';
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

/** Of every op the case that comes nearest to a ceiling. */
export function bestByOp(results: readonly KernelResult[]): KernelResult[] {
  return groupBy(results, ({ op }) => op).map((cases) =>
    cases.reduce((best, one) => (bestShare(one) > bestShare(best) ? one : best)),
  );
}

export function kernelSection(measured: readonly Measured<KernelResult>[], figures: Figures): Html {
  const parts = measured.map(({ source, results }) => {
    const devices = groupBy(results, ({ device }) => device);
    const roofs = devices.flatMap((ofDevice) => {
      const { gigabytesPerSecond, gigaflopsPerSecond } = ceilings(ofDevice);
      const points = ofDevice
        .filter((one) => one.gigaflopsPerSecond > 0 && one.gigabytesPerSecond > 0)
        .map(({ op, case: name, gigaflopsPerSecond: gigaflops, gigabytesPerSecond: gigabytes }) => {
          return { name: `${op} ${name}`, intensity: gigaflops / gigabytes, gigaflops };
        });
      if (!Number.isFinite(gigabytesPerSecond) || !Number.isFinite(gigaflopsPerSecond) || points.length === 0) return [];
      const title = ofDevice[0]!.device;
      const told = `${figure(gigabytesPerSecond)} GB/s, ${figure(gigaflopsPerSecond)} GFLOP/s at best; ${points.length} cases beneath`;
      return [figures.place({ kind: 'roofline', title, gigabytesPerSecond, gigaflopsPerSecond, points }, `${title}: ${told}`)];
    });
    const shares = devices.map((ofDevice) => {
      const rows = bestByOp(ofDevice).map(({ op, bandwidthShare, computeShare }) => {
        return { name: op, bandwidth: bandwidthShare ?? NaN, compute: computeShare ?? NaN };
      });
      const title = ofDevice[0]!.device;
      return figures.place({ kind: 'shares', title, rows }, `Share of this machine’s ceiling, best case of each op on ${title}`);
    });
    const tables = devices.map((ofDevice) => {
      const title = ofDevice[0]!.device;
      const rows = ofDevice.map((one) => [
        `${one.op} ${one.case}`,
        figure(one.microseconds),
        figure(one.gigabytesPerSecond),
        percent(one.bandwidthShare ?? NaN),
        figure(one.gigaflopsPerSecond),
        percent(one.computeShare ?? NaN),
      ]);
      const head = ['op and case', 'µs', 'GB/s', 'of ceiling', 'GFLOP/s', 'of ceiling'];
      return details(`All cases of ${title}`, table(`Kernels on ${title}`, head, rows));
    });
    const key = swatchKey([['bandwidth', 'of the bandwidth'], ['compute', 'of the arithmetic']]);
    return html`<h3>${source.machine} ${cite(source)}</h3>
${roofs.length === 0 ? html`` : grid(roofs, html`Arithmetic done against bytes moved. The roof is what the same machine copied and multiplied at
best in the same run; a case on it cannot be quicker. ${cite(source)}`)}
${grid(shares, html`The best case of each op, as a share of both ceilings. ${cite(source)}`, key)}${tables}`;
  });
  return html`<p>Each op alone, on every device and instruction set of the machine. An op is as good as the nearer of two
ceilings allows: bytes or arithmetic.</p>${parts}`;
}
