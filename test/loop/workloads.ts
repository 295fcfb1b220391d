import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { generator, workload, WORKLOAD_NAMES, type WorkloadName } from '../../src/loop/workloads.ts';

const workloads = suite('Workloads');
const many = { requests: 4000, seed: 3, context: 4096 };

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(share * values.length)]!;
}

workloads('the generator is the same everywhere', () => {
  const next = generator(42);
  assert.equal(Array.from({ length: 3 }, () => Math.floor(next() * 1e6)), [601103, 448290, 852465]);
});

for (const name of WORKLOAD_NAMES) {
  workloads(`${name}: a seed gives the same requests, another seed others, all within the context`, () => {
    const context = 100;
    const one = workload(name, { requests: 3000, seed: 1, context, rate: 50 });
    assert.equal(workload(name, { requests: 3000, seed: 1, context, rate: 50 }), one);
    assert.not.equal(workload(name, { requests: 3000, seed: 2, context, rate: 50 }), one);
    let before = 0;
    for (const { promptTokens, outputTokens, arrivalMs } of one) {
      assert.ok(Number.isInteger(promptTokens) && Number.isInteger(outputTokens));
      assert.ok(promptTokens >= 1 && outputTokens >= 1 && promptTokens + outputTokens <= context);
      assert.ok(arrivalMs >= before);
      before = arrivalMs;
    }
    assert.ok(before > 3000 * 20 * 0.6 && before < 3000 * 20 * 1.5, `${before} ms for 3000 at 50 a second`);
  });
}

workloads('without a rate everything is there at once', () => {
  for (const name of WORKLOAD_NAMES) assert.ok(workload(name, many).every(({ arrivalMs }) => arrivalMs === 0), name);
});

workloads('heavy-tail outputs are log-normal with sigma 1.2', () => {
  const records = workload('heavy-tail', { ...many, outputTokens: 50, promptTokens: 50 });
  const logs = records.map(({ outputTokens }) => Math.log(outputTokens));
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const sigma = Math.sqrt(logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / logs.length);
  assert.ok(Math.abs(Math.exp(mean) - 50) < 5, `median ${Math.exp(mean)}`);
  assert.ok(Math.abs(sigma - 1.2) < 0.06, `sigma ${sigma}`);
});

workloads('chat has the spread of the trace it was fitted to', () => {
  const records = workload('chat', { ...many, context: 100_000, promptTokens: 1000, outputTokens: 150 });
  const prompts = records.map(({ promptTokens }) => promptTokens);
  assert.ok(Math.abs(Math.log(quantile(prompts, 0.84) / quantile(prompts, 0.5)) - 0.99) < 0.1);
});

workloads('adversarial alternates one token and the most there can be', () => {
  const records = workload('adversarial', many);
  for (const [index, { promptTokens, outputTokens }] of records.entries()) {
    assert.is(outputTokens, index % 2 === 0 ? 1 : many.context - promptTokens);
  }
});

workloads('prefix shares a few system prompts, each shorter than its prompt', () => {
  const records = workload('prefix', many);
  assert.is(new Set(records.map(({ prefix }) => prefix?.id)).size, 4);
  for (const { prefix, promptTokens } of records) assert.ok(prefix!.tokens < promptTokens);
});

workloads('burst arrives in crowds', () => {
  const arrivals = workload('burst', { ...many, rate: 10 }).map(({ arrivalMs }) => arrivalMs);
  assert.is(new Set(arrivals).size, many.requests / 32);
});

workloads('refuses an unknown name and impossible numbers', () => {
  const refused: [string, object][] = [
    ['nonsense', many],
    ['toString', many],
    ['uniform', { ...many, requests: -1 }],
    ['uniform', { ...many, requests: 1.5 }],
    ['uniform', { ...many, context: 1 }],
  ];
  for (const [name, options] of refused) {
    let code = '';
    try {
      workload(name as WorkloadName, options as typeof many);
    } catch (error) {
      code = (error as EngineError).code;
    }
    assert.is(code, 'INVALID_OPTION', name);
  }
});

workloads.run();
