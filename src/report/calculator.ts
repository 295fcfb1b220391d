// What a fleet would cost if it served the same work as quickly as was measured. Runs in the page too.

/** From least to most: over rounds, and over workloads where there are several. */
export interface Range {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** How many times the requests/s of a contender relay serves, on the same machine, in one run. */
export interface Speedup {
  /** Model, rows, source: only what agrees in these is combined. */
  readonly setting: string;
  readonly contender: string;
  readonly workload: string;
  readonly ratio: Range;
}

/** What is paid now: a sum, or instances that cannot be halved. */
export type Bill =
  | { readonly kind: 'sum'; readonly monthly: number }
  | { readonly kind: 'instances'; readonly instances: number; readonly monthlyPrice: number };

export interface Estimate {
  readonly now: number;
  /** Of the bill; `least` is the saving at the least ratio. Negative: it would cost more. */
  readonly saving: Range;
  /** Of `now`. */
  readonly share: Range;
  /** Needed afterwards, where instances were given; `least` of them at the most ratio. */
  readonly instances?: Range;
}

/** The widest range that several measurements span, and the middle of their middles. */
export function combine(ratios: readonly Range[]): Range {
  const medians = ratios.map(({ median }) => median).sort((a, b) => a - b);
  const middle = medians.length >> 1;
  return {
    median: medians.length % 2 === 1 ? medians[middle]! : (medians[middle - 1]! + medians[middle]!) / 2,
    least: Math.min(...ratios.map(({ least }) => least)),
    most: Math.max(...ratios.map(({ most }) => most)),
  };
}

/** The same work on a fleet that does `ratio` times as much: no less than one instance, and only whole ones. */
export function estimate(bill: Bill, ratio: Range): Estimate {
  const now = bill.kind === 'sum' ? bill.monthly : bill.instances * bill.monthlyPrice;
  const needed = (by: number) => (bill.kind === 'sum' ? 0 : Math.ceil(Number((bill.instances / by).toFixed(9))));
  const saved = (by: number) => now - (bill.kind === 'sum' ? bill.monthly / by : needed(by) * bill.monthlyPrice);
  const saving = mapRange(ratio, saved);
  return {
    now,
    saving,
    share: mapRange(saving, (sum) => (now === 0 ? 0 : sum / now)),
    ...(bill.kind === 'instances' && {
      instances: { median: needed(ratio.median), least: needed(ratio.most), most: needed(ratio.least) },
    }),
  };
}

function mapRange({ median, least, most }: Range, map: (value: number) => number): Range {
  return { median: map(median), least: map(least), most: map(most) };
}

/** As a bill is read: whole units, thousands apart. */
export function money(sum: number): string {
  const rounded = Math.round(sum);
  return `${rounded < 0 ? '−' : ''}${Math.abs(rounded).toLocaleString('en')}`;
}
