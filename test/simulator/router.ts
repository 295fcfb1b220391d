import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeRouter, ROUTER_NAMES, type RoutedReplica, type RouterName } from '../../src/simulator/router.ts';
import { generator } from '../../src/loop/workloads.ts';
import type { TraceRequest } from '../../src/simulator/traces.ts';

const router = suite('Router');

const PLAIN: TraceRequest = { promptTokens: 100, outputTokens: 1, arrivalMs: 0 };

function blocks(...ids: readonly number[]): TraceRequest {
  return { ...PLAIN, promptTokens: 10 * ids.length, blocks: { ids, tokens: 10 } };
}

function replicas(outstanding: readonly number[], rows = 4): RoutedReplica[] {
  return outstanding.map((count) => ({ outstanding: count, rows }));
}

/** Where requests go one after another, if none of them ends. */
function places(
  name: RouterName,
  requests: readonly TraceRequest[],
  outstanding: readonly number[],
  rows = 4,
): number[] {
  const made = makeRouter(name);
  const counts = [...outstanding];
  return requests.map((request) => {
    const place = made.route(request, replicas(counts, rows));
    counts[place]!++;
    return place;
  });
}

router('round robin takes replicas in turn, whatever is outstanding', () => {
  assert.equal(places('round-robin', Array(5).fill(PLAIN), [9, 0, 0]), [0, 1, 2, 0, 1]);
});

router('least queued fills up the emptiest', () => {
  assert.equal(places('least-queued', Array(4).fill(PLAIN), [3, 1, 2]), [1, 2, 1, 2]);
});

router('least queued takes equals in turn', () => {
  const made = makeRouter('least-queued');
  const chosen = Array.from({ length: 4 }, () => made.route(PLAIN, replicas([1, 1, 1])));
  assert.equal(chosen, [0, 1, 2, 0]);
});

router('prefix aware goes where the longest beginning of a prompt was last', () => {
  const requests = [blocks(1, 2), blocks(5, 6), blocks(1, 2, 3), blocks(5, 6, 7), blocks(1, 2, 3, 8)];
  assert.equal(places('prefix-aware', requests, [0, 0, 0], 100), [0, 1, 0, 1, 0]);
  // Blocks 1 and 2 were last elsewhere than 1, 2 and 3.
  const made = makeRouter('prefix-aware');
  made.route(blocks(1, 2, 3), replicas([0, 9]));
  made.route(blocks(1, 2), replicas([9, 0]));
  assert.is(made.route(blocks(1, 2, 4), replicas([0, 0])), 1);
  assert.is(made.route(blocks(1, 2, 3), replicas([0, 0])), 0);
});

router('prefix aware knows the prefixes of workloads', () => {
  const shared = (id: number): TraceRequest => ({ ...PLAIN, prefix: { id, tokens: 80 } });
  const requests = [shared(0), shared(1), shared(1), shared(0), PLAIN];
  assert.equal(places('prefix-aware', requests, [0, 0], 100), [0, 1, 1, 0, 0]);
});

router('a beginning shorter than half of the prompt decides nothing', () => {
  const requests = [blocks(1, 2, 3), blocks(1, 4, 5), blocks(1, 6, 7)];
  assert.equal(places('prefix-aware', requests, [0, 0, 0], 100), [0, 1, 2]);
});

router('prefix aware leaves a replica where the request would wait, once that has more than its share', () => {
  const requests = Array.from({ length: 12 }, () => blocks(1, 2));
  // Four rows each. The ninth finds all rows taken, and the replica below 1.25 times the mean; the twelfth above it.
  assert.equal(places('prefix-aware', requests, [0, 0]), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]);
});

router('whatever ends when, prefix aware only makes requests wait where there is less than its share', () => {
  const seed = 4;
  const uniform = generator(seed);
  const made = makeRouter('prefix-aware');
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 2000; i++) {
    const chosen = made.route(blocks(1, 2), replicas(counts));
    const bound = Math.max(4, (1.25 * counts.reduce((sum, one) => sum + one, 0)) / 4, Math.min(...counts) + 1);
    assert.ok(counts[chosen]! < bound, `seed ${seed}: ${chosen} of ${counts.join(', ')} after ${i}`);
    counts[chosen]!++;
    const ended = Math.floor(uniform() * 4);
    if (uniform() < 0.9 && counts[ended]! > 0) counts[ended]!--;
  }
});

router('of parts of prompts, 2^18 are remembered, those that came last', () => {
  const made = makeRouter('prefix-aware');
  const [first, second] = [replicas([0, 9], 100), replicas([9, 0], 100)];
  const sent = [made.route(blocks(1), first), made.route(blocks(2), second), made.route(blocks(1), second)];
  const ids = Array.from({ length: 2 ** 18 - 1 }, (_, i) => 3 + i);
  made.route({ ...PLAIN, blocks: { ids, tokens: 1 } }, first);
  assert.equal([...sent, made.route(blocks(1), second), made.route(blocks(2), first)], [0, 1, 0, 0, 0]);
});

router('a name that is no router is refused', () => {
  assert.equal(ROUTER_NAMES, ['round-robin', 'least-queued', 'prefix-aware']);
  for (const name of ['nearest', 'toString']) {
    assert.throws(
      () => makeRouter(name as RouterName),
      (error: { code?: string }) => error.code === 'INVALID_OPTION',
    );
  }
});

router.run();
