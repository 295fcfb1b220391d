/** The middle of some numbers, and how far they lie apart. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The value that `share` of all lie below; NaN of none. Nearest rank, so always one that was measured. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

/** Of all requests of a round; each the median over rounds. */
export interface Quantiles {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/** Of each round, and then the medians of them. */
export function quantilesOf(rounds: readonly (readonly number[])[]): Quantiles {
  const sorted = rounds.map((values) => values.toSorted((a, b) => a - b));
  const at = (share: number) => median(sorted.map((values) => quantile(values, share)));
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean: median(rounds.map(mean)), p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}
