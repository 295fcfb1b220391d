import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { open, type PolicySetting } from '../../../src/bench/contenders/policy.ts';
import { TALES } from '../../../src/model/tales.ts';

const policy = suite('contender: a policy');

const rows = 2;
const context = 128;
const setting: PolicySetting = {
  rules: { policy: 'relay' },
  folder: TALES,
  device: 'cpu',
  isa: 'auto',
  threads: 1,
  sizes: { context, weights: 'bf16', kv: 'bf16', slots: 640, hostSlots: 0, stepTokens: rows + context },
  rows,
  requests: [0, 0, 40, 80].map((arrivalMs, i) => ({ promptTokens: 5 + i, outputTokens: 6 * (i + 1), arrivalMs })),
  seed: 1,
  early: false,
  curves: true,
  timelines: true,
};

async function playOnce(changes: Partial<PolicySetting> = {}) {
  const contender = await open({ ...setting, ...changes });
  try {
    return await contender.play();
  } finally {
    await contender.close();
  }
}

policy('gives every request its tokens, and says when each came', async () => {
  const { readings, seconds, generated, steps, decodeMs, peakSlots } = await playOnce();
  assert.equal(readings.map(({ tokens }) => tokens.length), [6, 12, 18, 24]);
  for (const { tokens, ms } of readings) {
    assert.is(ms.length, tokens.length);
    assert.ok(ms[0]! >= 0 && ms.every((at, i) => i === 0 || at >= ms[i - 1]!));
  }
  assert.is(generated, 60);
  assert.ok(1000 * seconds >= 80 + readings[3]!.ms.at(-1)!, 'the last one came after 80 ms');
  assert.ok(steps >= 24 && decodeMs > 0);
  assert.ok(peakSlots >= 64 && peakSlots <= 640);
});

policy('gives the same tokens whatever the policy, and whether lengths are known or not', async () => {
  const tokensOf = async (changes: Partial<PolicySetting>) =>
    (await playOnce(changes)).readings.map(({ tokens }) => Array.from(tokens));
  const law = await tokensOf({});
  assert.equal(await tokensOf({ rules: { policy: 'static' } }), law);
  assert.equal(await tokensOf({ rules: { policy: 'baton' } }), law);
  assert.equal(await tokensOf({ early: true }), law);
  assert.not.equal(await tokensOf({ seed: 2 }), law);
});

policy('keeps memory over time, which adds up, and what each row did in each step', async () => {
  const { memory, timeline, steps, readings } = await playOnce();
  const { ms, used, padding, free } = memory!;
  assert.ok(ms.length >= steps);
  assert.ok(ms.every((at, i) => i === 0 || at >= ms[i - 1]!));
  assert.ok(ms.every((_, i) => used[i]! + padding[i]! + free[i]! === 640));
  assert.ok(Math.max(...used) > 0 && used.at(-1) === 0);
  assert.is(timeline!.rows.length, steps);
  const drawn = timeline!.rows.flat().filter((id) => id >= 0).length;
  assert.is(drawn, readings.reduce((sum, { tokens }) => sum + tokens.length, 0));
  assert.is(timeline!.chunkTokens.length, steps);
  const without = await playOnce({ curves: false, timelines: false });
  assert.equal([without.memory, without.timeline], [undefined, undefined]);
});

policy('counts idle rows of each kind only while somebody waits', async () => {
  const requests = [20, 4, 4, 4].map((outputTokens) => ({ promptTokens: 8, outputTokens, arrivalMs: 0 }));
  const kept = await playOnce({ requests, rules: { policy: 'static' } });
  assert.is(kept.idle.deadTokens, 16, 'the first batch runs to its end; in the second nobody waits');
  assert.is(kept.idle.padTokens, 0);
  const shaped = await playOnce({ requests, rules: { policy: 'baton' } });
  assert.ok(shaped.idle.padTokens > 0 && shaped.idle.deadTokens === 0);
  for (const { idle } of [kept, shaped]) {
    const { pad, dead, empty, stall } = idle.wastedMs;
    assert.ok(Math.abs((pad + dead + empty + stall) / idle.rowMs - idle.share) < 1e-9);
  }
});

policy.run();
