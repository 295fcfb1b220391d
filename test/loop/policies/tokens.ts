// Real keys and values: the shipped model on the CPU, by every policy, in an arena so small that rows are copied,
// embedded and preempted all the time.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Loop, type LoopOptions, POLICY_NAMES } from '../../../src/loop/loop.ts';
import { Request } from '../../../src/loop/request.ts';
import { GREEDY } from '../../../src/native.ts';
import { loadTales } from '../../native/fake/tales.ts';

const tokens = suite('Tokens by policy');

const LENGTHS = [[90, 40], [1, 70], [64, 9], [7, 130], [120, 3], [33, 60], [65, 65], [2, 1]] as const;

function makeRequest(id: number): Request {
  const [prompt, maxTokens] = LENGTHS[id]!;
  return new Request(id, {
    prompt: Array.from({ length: prompt }, (_, i) => 3 + ((id * 131 + i * 17) % 2000)),
    maxTokens,
    minTokens: 0,
    stopTokens: new Set(),
    sampling: { ...GREEDY, temperature: 0.8, seed: id },
  });
}

/** Tokens and log-probabilities of each request, and the slots that were moved. */
async function play(ids: readonly number[], options: Partial<LoopOptions>, slots: number) {
  const rows = options.rows ?? 1;
  const native = await loadTales({ slots, rows, stepTokens: 128, kv: 'bf16' });
  const given = new Map<number, string[]>(ids.map((id) => [id, []]));
  const loop = new Loop(native, {
    rows,
    context: 256,
    stepTokens: 128,
    policy: 'relay',
    admission: 'optimistic',
    queueRequests: 100,
    queueTokens: 10_000,
    check: true,
    ...options,
    onToken: ({ id }, { token, logprob }) => void given.get(id)?.push(`${token} ${logprob}`),
    onFinish: () => {},
  });
  try {
    for (const id of ids) {
      loop.add(makeRequest(id));
      await loop.tick();
    }
    while (!loop.idle) await loop.tick();
  } finally {
    await native.close();
  }
  return { given, moved: loop.stats().movedSlots };
}

const alone = new Map<number, string[]>();

tokens.before(async () => {
  for (const id of LENGTHS.keys()) for (const [, answer] of (await play([id], {}, 256)).given) alone.set(id, answer);
});

for (const policy of POLICY_NAMES) {
  tokens(`${policy} gives each request the tokens and log-probabilities of its solo run`, async () => {
    for (const overlap of [false, true]) {
      const { given, moved } = await play([...LENGTHS.keys()], { policy, overlap, rows: 4, preemptEvery: 30 }, 640);
      assert.equal(given, alone);
      if (policy.startsWith('baton')) assert.ok(moved > 0);
    }
  });
}

tokens.run();
