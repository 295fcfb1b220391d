import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { generator } from '../../src/loop/workloads.ts';
import { Histogram } from '../../src/simulator/histogram.ts';

const histogram = suite('Histogram');

function of(values: readonly number[]): Histogram {
  const made = new Histogram();
  for (const value of values) made.add(value);
  return made;
}

histogram('nothing is all zero', () => {
  assert.equal(new Histogram().distribution(), { mean: 0, p50: 0, p90: 0, p99: 0, max: 0 });
});

histogram('equal values are themselves', () => {
  assert.equal(of([3.7, 3.7]).distribution(), { mean: 3.7, p50: 3.7, p90: 3.7, p99: 3.7, max: 3.7 });
});

histogram('quantiles are within half a percent, over nine orders of magnitude', () => {
  const seed = 3;
  const uniform = generator(seed);
  const values = Array.from({ length: 10_001 }, () => 10 ** (9 * uniform() - 3));
  const { mean, p50, p90, p99, max } = of(values).distribution();
  const sorted = values.toSorted((a, b) => a - b);
  for (const [share, value] of [
    [0.5, p50],
    [0.9, p90],
    [0.99, p99],
  ] as const) {
    const exact = sorted[Math.floor(share * sorted.length)]!;
    assert.ok(Math.abs(value / exact - 1) < 0.00501, `seed ${seed}, ${share}: ${value}, expected ${exact}`);
  }
  assert.is(mean, values.reduce((sum, one) => sum + one, 0) / values.length);
  assert.is(max, sorted.at(-1));
});

histogram('zero and the tiniest have a place', () => {
  assert.equal(of([0, 0, 1e-9]).distribution(), { mean: 1e-9 / 3, p50: 1e-9, p90: 1e-9, p99: 1e-9, max: 1e-9 });
});

histogram('merging is adding', () => {
  const [few, many] = [
    [5, 1, 9],
    [0.01, 700, 5, 5],
  ];
  const merged = of(few);
  merged.merge(of(many));
  assert.equal(merged.distribution(), of([...few, ...many]).distribution());
  const other = of(many);
  other.merge(of(few));
  assert.equal(other.distribution().p90, merged.distribution().p90);
  const empty = new Histogram();
  empty.merge(of(few));
  assert.equal(empty.distribution(), of(few).distribution());
});

histogram.run();
