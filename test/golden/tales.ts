// The model that ships with the package. Its recorded tokens come from an f32 forward pass over the weights as stored,
// so f32 weights must give them, and bf16 and int8 must give them wherever the choice was clear.
//
// Timeout: 300 s

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Answers, GoldenCase } from '../fake/golden.ts';
import { findIsas, firstDifference, followAll, largestDifference, largestGap, withEngine } from '../fake/golden.ts';

interface Precision {
  readonly weights: 'f32' | 'bf16' | 'int8';
  readonly kv: 'f32' | 'bf16';
  /** Most by which a token that differs may have been preferred to the recorded one, as a difference of logits. */
  readonly gap: number;
  /** Most by which logits behind a prompt may differ from the recorded ones. */
  readonly first: number;
  /** Most by which a token's log-probability may differ between a CPU path and the scalar one. */
  readonly apart: number;
}

/** Two to three times what was measured on an x64 machine with all four paths (2026-11); `--show` prints it. */
const PRECISIONS: readonly Precision[] = [
  { weights: 'f32', kv: 'f32', gap: 0.0001, first: 0.0001, apart: 0.0001 },
  { weights: 'bf16', kv: 'bf16', gap: 0.04, first: 0.08, apart: 0.06 },
  { weights: 'int8', kv: 'bf16', gap: 0.25, first: 0.35, apart: 0.25 },
];

/** The scalar path is the definition of each op, and takes a second per case and more where it rounds. */
const SCALAR_CASES = 4;

interface Recorded {
  readonly items: readonly {
    readonly prompt_ids: readonly number[];
    readonly continuation_ids: readonly number[];
    readonly text: string;
    readonly top5_last_prompt_position: GoldenCase['first'];
  }[];
}

const tales = suite('tales');
const folder = fileURLToPath(new URL('../../models/tales/', import.meta.url));
const recorded = JSON.parse(readFileSync(`${folder}golden.json`, 'utf8')) as Recorded;
const cases = recorded.items.map((item) => {
  return { prompt: item.prompt_ids, tokens: item.continuation_ids, first: item.top5_last_prompt_position };
});

for (const { weights, kv, gap, first, apart } of PRECISIONS) {
  let scalar: readonly Answers[] = [];
  for (const isa of findIsas()) {
    const mine = isa === 'scalar' && weights !== 'f32' ? cases.slice(0, SCALAR_CASES) : cases;
    tales(`${weights} on ${isa}: tokens and logits are the recorded ones, within the tolerance`, async () => {
      await withEngine(folder, { weights, kv, isa: isa as 'auto' }, async (engine) => {
        assert.equal([engine.stats().model.isa, engine.stats().model.weights], [isa, weights]);
        const answers = await followAll(engine, mine);
        if (isa === 'scalar') scalar = answers;
        const found = {
          gap: largestGap(answers),
          first: firstDifference(answers, mine),
          apart: largestDifference(scalar, answers),
        };
        if (process.argv.includes('--show')) console.log(weights, isa, found);
        assert.ok(found.gap <= gap, `preferred by ${found.gap}`);
        assert.ok(found.first <= first, `logits behind the prompt: ${found.first}`);
        assert.ok(found.apart <= apart, `log-probabilities against scalar: ${found.apart}`);
      });
    });
  }
}

tales('a copied prefix gives the tokens and log-probabilities of a computed one, bit for bit', async () => {
  const tale = cases.flatMap(({ prompt, tokens }) => [...prompt, ...tokens]);
  const requests = Array.from({ length: 12 }, (_, i) => ({
    prompt: [...tale.slice(0, 150 + 7 * (i % 5)), ...tale.slice(i, 2 * i)],
    maxTokens: 20 + i,
    temperature: 0.8,
    seed: i,
    logprobs: 3,
    ignoreEos: true,
  }));
  for (const { weights, kv } of PRECISIONS) {
    const ask = async (prefixReuse: boolean) => {
      return withEngine(folder, { weights, kv, prefixReuse, rows: 4 }, async (engine) => {
        const first = await engine.complete(requests[0]!);
        const rest = await Promise.all(requests.slice(1).map((request) => engine.complete(request)));
        const { cached } = engine.stats().tokens;
        return { cached, answers: [first, ...rest].map(({ tokens, logprobs }) => ({ tokens, logprobs })) };
      });
    };
    const [computed, copied] = [await ask(false), await ask(true)];
    assert.equal([computed.cached, copied.cached > 11 * 150], [0, true]);
    assert.equal(copied.answers, computed.answers);
  }
});

tales('texts are the recorded ones', async () => {
  await withEngine(folder, { weights: 'f32', kv: 'f32' }, async (engine) => {
    for (const { continuation_ids, text } of recorded.items) assert.is(engine.detokenize(continuation_ids), text);
  });
});

tales.run();
