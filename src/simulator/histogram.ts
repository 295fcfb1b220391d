const LEAST = 1e-4; // smaller values count as this one
const RATIO = Math.log(1.01); // of neighbouring buckets: quantiles are within half a percent

export interface Distribution {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** Counts of positive values in buckets of equal ratio: hundreds of millions of them in a few kilobytes. */
export class Histogram {
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = 0;
  readonly #buckets: number[] = [];
  #lastValue = NaN; // rows of one step share their gap: the logarithm is taken once for all of them
  #lastBucket = 0;

  add(value: number): void {
    if (value !== this.#lastValue) {
      this.#lastValue = value;
      this.#lastBucket = Math.round(Math.log(Math.max(LEAST, value) / LEAST) / RATIO);
      while (this.#buckets.length <= this.#lastBucket) this.#buckets.push(0);
      this.#min = Math.min(this.#min, value);
      this.#max = Math.max(this.#max, value);
    }
    this.#buckets[this.#lastBucket]!++;
    this.#count++;
    this.#sum += value;
  }

  merge(other: Histogram): void {
    while (this.#buckets.length < other.#buckets.length) this.#buckets.push(0);
    other.#buckets.forEach((count, bucket) => (this.#buckets[bucket]! += count));
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }

  /** All zero if nothing was added. The mean and the largest are exact. */
  distribution(): Distribution {
    const mean = this.#count > 0 ? this.#sum / this.#count : 0;
    return { mean, p50: this.#quantile(0.5), p90: this.#quantile(0.9), p99: this.#quantile(0.99), max: this.#max };
  }

  #quantile(share: number): number {
    let left = Math.floor(share * this.#count);
    for (const [bucket, count] of this.#buckets.entries()) {
      left -= count;
      if (left < 0) return Math.min(this.#max, Math.max(this.#min, LEAST * Math.exp(bucket * RATIO)));
    }
    return this.#max;
  }
}
