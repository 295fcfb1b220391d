import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PolicyRound } from '../../src/bench/contenders/policy.ts';
import { differingTokens, figuresOf } from '../../src/bench/readings.ts';

const readings = suite('readings');

/** A round of requests whose tokens came at these milliseconds after they arrived. */
function round(seconds: number, times: readonly (readonly number[])[], wasted = 0): PolicyRound {
  return {
    seconds,
    decodeMs: 10,
    readings: times.map((ms) => ({ tokens: Int32Array.from(ms.keys()), ms: Float64Array.from(ms) })),
    idle: {
      share: wasted,
      padTokens: 4,
      deadTokens: 3,
      emptyRows: 2,
      stallMs: 1,
      padKv: 0,
      rowMs: 1000,
      wastedMs: { pad: 100 * wasted, dead: 200 * wasted, empty: 300 * wasted, stall: 400 * wasted },
    },
    movedSlots: 64,
    peakSlots: 128,
    steps: 9,
    preemptions: 1,
    generated: times.flat().length,
  };
}

const targets = { ttftMs: 50, itlMs: 10 };

readings('count requests that meet both targets, gaps on average', () => {
  const times = [
    [50, 55, 70], // good: the mean gap is 10
    [51, 52], // too late
    [10, 21], // too slow
    [20], // good: it has no gap
  ];
  const { attainment, goodPerSecond, requestsPerSecond, tokensPerSecond } = figuresOf([round(2, times)], targets);
  assert.equal([attainment.median, goodPerSecond.median], [0.5, 1]);
  assert.equal([requestsPerSecond.median, tokensPerSecond.median], [2, 4]);
});

readings('tell first tokens, gaps, tokens and ends apart', () => {
  const { ttft, itl, tpot, e2e } = figuresOf([round(1, [[10, 20, 50], [30]])], targets);
  assert.equal([ttft.mean, ttft.p50, ttft.p99], [20, 30, 30]);
  assert.equal([itl.mean, itl.p50, itl.p99], [20, 30, 30]);
  assert.equal([tpot.mean, tpot.p50], [20, 20]);
  assert.equal([e2e.mean, e2e.p99], [40, 50]);
});

readings('are medians over rounds, with the least and the most', () => {
  const { seconds, ttft } = figuresOf([round(3, [[9]]), round(1, [[1]]), round(2, [[5]])], targets);
  assert.equal([seconds.median, seconds.least, seconds.most, ttft.p50], [2, 1, 3, 5]);
});

readings('take idle shares from one round, so that they add up', () => {
  const { idle } = figuresOf([round(1, [[1]], 0.8), round(1, [[1]], 0.2), round(1, [[1]], 0.4)], targets);
  assert.is(idle.share, 0.4);
  assert.ok(Math.abs(idle.pad + idle.dead + idle.empty + idle.stall - idle.share) < 1e-12);
  assert.ok(Math.abs(idle.stall - 0.16) < 1e-12);
});

readings('differ where any request of any round got other tokens', () => {
  const same = { name: 'a', rounds: [round(1, [[1, 2], [3]]), round(1, [[4, 5], [6]])] };
  assert.is(differingTokens([same, { ...same, name: 'b' }]), undefined);
  const other = round(1, [[1, 2], [3]]);
  other.readings[1]!.tokens[0] = 99;
  assert.is(differingTokens([same, { name: 'b', rounds: [same.rounds[0]!, other] }]), 'b: request 1 got other tokens');
  assert.is(differingTokens([{ name: 'a', rounds: [same.rounds[0]!, other] }]), 'a: request 1 got other tokens');
  assert.is(differingTokens([{ name: 'a', rounds: [] }]), undefined);
});

readings.run();
