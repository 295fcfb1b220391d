// Nothing is left of an engine that was closed: memory, descriptors, threads, over 200 of them.
// Timeout: 300 s

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { failure, loadTales, makePlan, makeResult, start, talesLoad } from './fake/tales.ts';

const leak = suite('leak');

const SANITIZED = process.env['ASAN_OPTIONS'] !== undefined;
const ROUNDS = SANITIZED ? 30 : 200;
const WARM_UP = ROUNDS / 5;
const MOST_GROWTH = 24 * 2 ** 20; // a tenth of a megabyte per engine: the weights alone are twelve

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

function measure() {
  gc();
  const residentPages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[1]);
  return {
    resident: residentPages * 4096,
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
  };
}

async function expectFlat(round: (i: number) => Promise<void>): Promise<void> {
  for (let i = 0; i < WARM_UP; i++) await round(i);
  const before = measure();
  for (let i = WARM_UP; i < ROUNDS; i++) await round(i);
  const after = measure();
  assert.is(after.descriptors, before.descriptors);
  assert.is(after.threads, before.threads);
  if (SANITIZED) return; // AddressSanitizer holds back what was freed
  const growth = after.resident - before.resident;
  assert.ok(growth < MOST_GROWTH, `grew by ${(growth / 2 ** 20).toFixed(1)} MB`);
}

if (existsSync('/proc/self/statm')) {
  leak('load, step, close', () =>
    expectFlat(async () => {
      const engine = await loadTales();
      const plan = makePlan({ starts: [start(0, [1, 2])], runs: [[0, 0, 0, 0, 2]], tokens: [1, 2] });
      await engine.step(plan, makeResult());
      await engine.close();
    }),
  );

  leak('loads that fail half-way', () =>
    expectFlat(async (i) => {
      const { tensors } = talesLoad();
      const cut = tensors.filter((_, index) => index !== (i * 7) % tensors.length);
      const { code } = await failure(() => loadTales({ tensors: cut }));
      assert.is(code, 'MODEL_FORMAT');
    }),
  );
} else {
  console.log('SKIP leak: this system does not tell what a process holds');
  leak.skip('load, step, close');
}

leak.run();
