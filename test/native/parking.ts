// Requests parked in host memory and brought back, on the real backend through the public engine.
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Engine } from '../../src/index.ts';
import type { LoadOptions } from '../../src/options.ts';

const parking = suite('Parking');
const TALES = fileURLToPath(new URL('../../models/tales/', import.meta.url));
const SLOT_BYTES = 8 * 2 * 2 * 64 * 2; // layers, keys and values, heads, values, bf16
const REQUESTS = Array.from({ length: 6 }, (_, seed) => {
  const prompt = `Once upon a time there was a king who had ${seed} sons`;
  return { prompt, maxTokens: 150, seed, ignoreEos: true, logprobs: 2 };
});

/** All requests at once in an arena of a few tiles, and what became of them. */
async function crowded(options: LoadOptions) {
  // orca admits whoever fits now: relay would take fewer, and preempt nobody
  const sizes = { policy: 'orca', maxContext: 256, kvBytes: 384 * SLOT_BYTES, rows: 6 } as const;
  await using engine = await Engine.load(TALES, { device: 'cpu', ...sizes, ...options });
  const completions = await Promise.all(REQUESTS.map((request) => engine.complete(request)));
  const answers = completions.map(({ tokens, logprobs }) => ({ tokens, logprobs }));
  return { answers, stats: engine.stats() };
}

parking('changes no bit of any answer, and neither does computing again', async () => {
  const alone = [];
  for (const request of REQUESTS) {
    await using engine = await Engine.load(TALES, { device: 'cpu', maxContext: 256, rows: 1 });
    const { tokens, logprobs } = await engine.complete(request);
    alone.push({ tokens, logprobs });
  }
  for (const parkBytes of [2 ** 24, 64 * SLOT_BYTES, 0]) {
    const { answers, stats } = await crowded({ parkBytes });
    assert.equal(answers, alone);
    assert.ok(stats.preemptions > 0);
    if (parkBytes === 0) assert.is(stats.parks, 0);
    if (parkBytes === 2 ** 24) assert.ok(stats.parks > 0);
    const { slots, free } = stats.host;
    assert.equal([slots, free, stats.parked], [parkBytes / SLOT_BYTES, slots, 0]);
  }
});

parking('has as many slots as the arena by default', async () => {
  const { stats } = await crowded({});
  assert.equal([stats.arena.slots, stats.host.slots], [384, 384]);
});

parking.run();
