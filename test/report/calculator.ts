import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { combine, estimate, money } from '../../src/report/calculator.ts';

const calculator = suite('Calculator');

const ratio = { median: 2, least: 1.6, most: 2.5 };

calculator('saves of a bill what the same work no longer costs', () => {
  const { now, saving, share, instances } = estimate({ kind: 'sum', monthly: 1000 }, ratio);
  assert.is(now, 1000);
  assert.equal(saving, { median: 500, least: 375, most: 600 });
  assert.equal(share, { median: 0.5, least: 0.375, most: 0.6 });
  assert.is(instances, undefined);
});

calculator('counts whole instances, and keeps the last', () => {
  const { now, saving, instances } = estimate({ kind: 'instances', instances: 8, monthlyPrice: 100 }, ratio);
  assert.is(now, 800);
  assert.equal(instances, { median: 4, least: 4, most: 5 });
  assert.equal(saving, { median: 400, least: 300, most: 400 });
  const one = estimate({ kind: 'instances', instances: 1, monthlyPrice: 100 }, ratio);
  assert.equal(one.saving, { median: 0, least: 0, most: 0 });
});

calculator('needs no instance more where the division is exact', () => {
  const exact = { median: 1.1, least: 1.1, most: 1.1 };
  assert.equal(estimate({ kind: 'instances', instances: 11, monthlyPrice: 1 }, exact).instances?.median, 10);
});

calculator('says what it would cost more where it is slower', () => {
  const slower = { median: 0.8, least: 0.5, most: 1 };
  assert.equal(estimate({ kind: 'sum', monthly: 100 }, slower).saving, { median: -25, least: -100, most: 0 });
});

calculator('saves nothing of nothing', () => {
  for (const bill of [
    { kind: 'sum', monthly: 0 },
    { kind: 'instances', instances: 0, monthlyPrice: 5 },
  ] as const) {
    const { saving, share } = estimate(bill, ratio);
    assert.equal([saving.median, share.median], [0, 0]);
  }
});

calculator('keeps the order of a range, and never saves more than is paid', () => {
  const positive = fc.double({ min: 0.01, max: 100, noNaN: true });
  const property = fc.property(
    positive,
    positive,
    positive,
    fc.integer({ min: 1, max: 1000 }),
    (a, b, c, instances) => {
      const [least, median, most] = [a, b, c].sort((x, y) => x - y) as [number, number, number];
      for (const bill of [
        { kind: 'sum', monthly: 1234 },
        { kind: 'instances', instances, monthlyPrice: 1234 / instances },
      ] as const) {
        const { now, saving } = estimate(bill, { least, median, most });
        assert.ok(saving.least <= saving.median && saving.median <= saving.most && saving.most <= now);
      }
    },
  );
  fc.assert(property); // a failure prints its seed
});

calculator('combines ratios to the widest range and the middle of the middles', () => {
  const ratios = [
    { median: 2, least: 1.5, most: 2.1 },
    { median: 3, least: 2.9, most: 3.1 },
    { median: 1, least: 0.9, most: 4 },
  ];
  assert.equal(combine(ratios), { median: 2, least: 0.9, most: 4 });
  assert.equal(combine(ratios.slice(0, 2)), { median: 2.5, least: 1.5, most: 3.1 });
});

calculator('writes money in whole units', () => {
  assert.equal([1234567.8, -12.5, 0, -0.2].map(money), ['1,234,568', '−12', '0', '0']);
});

calculator.run();
