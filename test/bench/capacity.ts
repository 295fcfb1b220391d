import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CapacitySearch } from '../../src/bench/capacity.ts';
import { typicalStepModel } from '../../src/bench/step-model.ts';
import type { PolicyName } from '../../src/loop/loop.ts';
import { generator, workload } from '../../src/loop/workloads.ts';
import { simulate } from '../../src/simulator/simulation.ts';

const capacity = suite('capacity search');

const limits = { least: 1, most: 100, share: 0.9, probes: 10 };

async function search(attainment: (rate: number) => number | Promise<number>, probes = limits.probes) {
  const made = new CapacitySearch({ ...limits, probes });
  for (let rate; (rate = made.next) !== undefined; ) made.tell(rate, await attainment(rate));
  return made;
}

capacity('comes within a tenth of any limit, from below', async () => {
  const uniform = generator(3);
  for (let i = 0; i < 50; i++) {
    const limit = 1 + 98 * uniform();
    const { capacity: found, probes } = await search((rate) => (rate <= limit ? 1 : 0.5));
    assert.ok(found <= limit && found > 0.9 * limit, `seed 3: ${found} for ${limit}`);
    assert.ok(probes.length <= limits.probes);
  }
});

capacity('is the highest rate that was tried where all are well, after one probe', async () => {
  const { capacity: found, probes } = await search(() => 0.9);
  assert.equal([found, probes], [100, [{ rate: 100, attainment: 0.9 }]]);
});

capacity('is 0 where none is well, and ends at the least', async () => {
  const { capacity: found, probes } = await search(() => 0.89);
  assert.is(found, 0);
  assert.equal(probes.map(({ rate }) => rate), [100, 50, 25, 12.5, 6.25, 3.125, 1.5625, 1]);
});

capacity('ends when its probes are used up', async () => {
  const { probes } = await search((rate) => (rate < 33 ? 1 : 0), 4);
  assert.is(probes.length, 4);
});

capacity('is never lower for a policy that meets its targets at higher rates', async () => {
  const attainment = (policy: PolicyName) => async (rate: number) => {
    const requests = 100;
    const context = 256;
    const rows = 4;
    const { goodput } = await simulate(workload('heavy-tail', { requests, seed: 5, context, rate }), {
      model: typicalStepModel(),
      slots: rows * context,
      targets: { ttftMs: 60, itlMs: 5 },
      loop: {
        rows,
        context,
        stepTokens: rows + context,
        policy,
        admission: 'optimistic',
        queueRequests: requests,
        queueTokens: requests * context,
      },
    });
    return goodput.share;
  };
  const [slow, quick] = [await search(attainment('static')), await search(attainment('relay'))];
  assert.ok(slow.capacity > 0);
  assert.ok(quick.capacity > 1.3 * slow.capacity, `${quick.capacity} and ${slow.capacity} requests/s`);
});

capacity.run();
