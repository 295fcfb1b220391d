import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  count,
  figure,
  listing,
  milliseconds,
  percent,
  plain,
  range,
  seconds,
  times,
} from '../../src/report/format.ts';

const format = suite('Figures as text');

format('has three digits that count, and thousands apart', () => {
  const values = [0, 0.01234, 1, 1.005, 2.345, 9.996, 12.34, 99.96, 123.4, 999.4, 999.6, 12345.6, -3.14159];
  const texts = [
    '0',
    '0.0123',
    '1.00',
    '1.00',
    '2.35',
    '10.0',
    '12.3',
    '100',
    '123',
    '999',
    '1,000',
    '12,346',
    '-3.14',
  ];
  for (const [i, value] of values.entries()) assert.is(figure(value), texts[i], String(value));
});

format('is a dash where there is nothing', () => {
  for (const form of [figure, seconds, milliseconds, percent, times, plain]) {
    assert.is(form(NaN), '–');
    assert.is(form(Infinity), '–');
  }
});

format('has units', () => {
  assert.equal([seconds(2), milliseconds(0.5), times(2.449), times(12.34)], ['2.00 s', '0.50 ms', '2.45 ×', '12.3 ×']);
  assert.equal([percent(0.1234), percent(0), percent(1), percent(-0.05)], ['12.3 %', '0 %', '100 %', '−5.0 %']);
  assert.equal([plain(8), plain(0.1 + 0.2), plain(20000)], ['8', '0.3', '20,000']);
});

format('says a range with its unit once', () => {
  assert.is(range(1, 2, times), '1.00 to 2.00 ×');
  assert.is(range(1.0001, 1.0002, times), '1.00 ×');
  assert.is(range(1, 20, String), '1 to 20');
  assert.is(range(0.001, 0.2, percent), '0.1 to 20.0 %');
});

format('counts and lists', () => {
  assert.equal([count(1, 'row'), count(2000, 'row')], ['1 row', '2,000 rows']);
  assert.equal([listing([]), listing(['a']), listing(['a', 'b', 'c'])], ['', 'a', 'a, b and c']);
});

format.run();
