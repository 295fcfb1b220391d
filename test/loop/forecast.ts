import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Forecast, remainingTokens } from '../../src/loop/forecast.ts';
import { generator } from '../../src/loop/workloads.ts';
import { request } from './fake/requests.ts';

const forecast = suite('Forecast');

/** Step by step. */
function most(all: readonly (readonly [slots: number, steps: number])[]): number {
  let found = 0;
  for (let step = 0; step <= 250; step++) {
    const alive = all.filter(([, steps]) => steps >= step);
    found = Math.max(found, alive.reduce((sum, [slots]) => sum + slots + step, 0));
  }
  return found;
}

for (const seed of [1, 2, 3]) {
  forecast(`knows the most that growing requests hold together (seed ${seed})`, () => {
    const uniform = generator(seed);
    const it = new Forecast(255);
    const all: [number, number][] = [];
    for (let i = 0; i < 20; i++) {
      const one: [number, number] = [64 + Math.floor(300 * uniform()), 1 + Math.floor(240 * uniform())];
      all.push(one);
      it.add(...one);
      assert.is(it.most(), most(all));
    }
    it.remove(...all.pop()!);
    assert.is(it.most(), most(all));
    it.clear();
    assert.is(it.most(), 0);
  });
}

forecast('is off by less than a class of ends for each, where ends are many', () => {
  const it = new Forecast(8191); // 32 steps in a class
  it.add(64, 1000);
  it.add(64, 2000);
  const truth = 2 * (64 + 1000);
  assert.ok(it.most() <= truth && it.most() > truth - 2 * 32, `${it.most()}`);
});

forecast('expects a share of the tokens a request may have yet, and one at least', () => {
  const one = request(1, { prompt: 10, maxTokens: 100 });
  assert.equal([1, 0.5, 0.001].map((share) => remainingTokens(one, share)), [100, 50, 1]);
  one.tokens.push(5);
  assert.equal([1, 0.5, 0.001].map((share) => remainingTokens(one, share)), [99, 50, 1]);
});

forecast.run();
