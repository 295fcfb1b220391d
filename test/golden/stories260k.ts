// A public model of 260,000 parameters, f32 throughout: greedy tokens equal the recorded ones, on every CPU path.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Answers, GoldenCase } from '../fake/golden.ts';
import { findIsas, firstDifference, followAll, largestDifference, withEngine } from '../fake/golden.ts';

/** Between f32 sums in different orders, on logits up to 18. The recorded margins are at least 0.00088. */
const LOGIT_TOLERANCE = 0.0002;

interface Recorded {
  readonly cases: readonly {
    readonly promptTokens: readonly number[];
    readonly tokens: readonly number[];
    readonly text: string;
    readonly firstLogits: GoldenCase['first'];
  }[];
}

const stories = suite('stories260K');
const home = fileURLToPath(new URL('../../../shared/models/stories260K/', import.meta.url));

if (existsSync(home)) {
  const recorded = JSON.parse(readFileSync(`${home}golden.json`, 'utf8')) as Recorded;
  const cases = recorded.cases.map(({ promptTokens, tokens, firstLogits }) => {
    return { prompt: promptTokens, tokens, first: firstLogits };
  });
  let scalar: readonly Answers[] = [];

  for (const isa of findIsas()) {
    stories(`${isa}: tokens, text and logits are the recorded ones`, async () => {
      await withEngine(`${home}hf`, { weights: 'f32', kv: 'f32', isa: isa as 'auto' }, async (engine) => {
        assert.is(engine.stats().model.isa, isa);
        const answers = await followAll(engine, cases);
        for (const [i, { steps, detours }] of answers.entries()) {
          assert.equal(detours, [], `case ${i}`);
          assert.equal(
            steps.map(({ token }) => token),
            cases[i]?.tokens,
          );
          assert.is(engine.detokenize(cases[i]?.tokens ?? []), recorded.cases[i]?.text.replace(/^ /, ''), `case ${i}`);
        }
        const first = firstDifference(answers, cases);
        assert.ok(first <= LOGIT_TOLERANCE, `logits behind the prompt: ${first}`);
        if (isa === 'scalar') scalar = answers;
        const apart = largestDifference(scalar, answers);
        assert.ok(apart <= LOGIT_TOLERANCE, `log-probabilities against scalar: ${apart}`);
      });
    });
  }
} else {
  const name = 'tokens, text and logits are the recorded ones';
  console.log(`SKIP ${name}: ../shared/models/stories260K is not here`);
  stories.skip(name);
}

stories.run();
