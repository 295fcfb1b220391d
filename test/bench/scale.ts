// Timeout: 240 s
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { useArena, useArenas } from '../../src/bench/occupancy.ts';
import type { ScaleResult } from '../../src/bench/results.ts';
import { scale } from '../../src/bench/scale.ts';
import { POLICY_NAMES } from '../../src/loop/loop.ts';
import { runBench } from './fake/run.ts';

const scales = suite('bench scale');

async function run(args: readonly string[]): Promise<readonly ScaleResult[]> {
  const { code, stderr, record } = await runBench<ScaleResult>(scale, ['--quick', '--seed', '3', ...args]);
  assert.equal([code, stderr, record.experiment, record.seed], [0, '', 'scale', 3]);
  for (const { y } of record.results) assert.ok(y.least <= y.median && y.median <= y.most);
  return record.results;
}

scales('times ticks of every policy against rows, and of relay with and without shared prefixes', async () => {
  const results = await run(['--lines', 'tick', '--rows', '1,8']);
  const names = [...POLICY_NAMES, 'relay, no prefix shared', 'relay, every prefix shared'];
  const lines = ['', ', p99', ', rows in use'];
  const expected = names.flatMap((name) => [1, 8].flatMap((x) => lines.map((line) => `${name}${line} ${x}`)));
  assert.equal(results.map(({ label, x }) => `${label} ${x}`), expected);
  for (let i = 0; i < results.length; i += 3) {
    const [p50, p99, used] = results.slice(i, i + 3).map(({ y }) => y.median) as [number, number, number];
    assert.ok(0 < p50 && p50 <= p99 && 0 < used && used <= 1);
  }
  assert.equal([...new Set(results.map(({ unit }) => unit))], ['µs', 'share of rows']);
});

scales('times decode steps against context, to the last token there is', async () => {
  const args = ['--lines', 'context', '--context', '200', '--context-rows', '1,2', '--device', 'cpu', '--threads', '1'];
  const results = await run(args);
  const points = results.map(({ label, x }) => [label, x]);
  const label = (rows: string) => `tales, bf16, cpu, ${rows}`;
  const marks = [64, 128, 200];
  assert.equal(points, [...marks.map((x) => [label('1 row'), x]), ...marks.map((x) => [label('2 rows'), x])]);
  assert.ok(results.every(({ unit, y }) => unit === 'ms' && y.least > 0));
});

scales('says what full arenas cost, the same every time', async () => {
  const args = ['--lines', 'arena', '--occupancies', '0.5,0.99'];
  const results = await run(args);
  assert.equal(await run(args), results);
  assert.equal([...new Set(results.map(({ x }) => x))], [0.5, 0.99]);
  for (const { unit, y } of results) assert.ok(y.median >= 0 && (!unit.startsWith('share') || y.median <= 1));
});

scales('counts the requests that the simulator takes per second', async () => {
  const results = await run(['--lines', 'requests', '--requests', '20,40']);
  assert.equal(results.map(({ x }) => x), [20, 40]);
  assert.ok(results.every(({ y }) => y.median > 0));
});

scales('refuses wrong flags before it measures anything', async () => {
  const wrong: readonly [readonly string[], RegExp][] = [
    [['--lines', 'ticks'], /--lines: .*did you mean tick\?/],
    [['--rows', '0'], /--rows/],
    [['--occupancies', '1'], /--occupancies: expected numbers from 0.05 to 0.99, got "1"/],
    [['--requests', 'many'], /--requests: .* got "many"/],
    [['--threads', '-1'], /--threads/],
    [['--rounds', '0'], /--rounds/],
  ];
  for (const [args, message] of wrong) {
    try {
      await scale.run(args);
      assert.unreachable(args.join(' '));
    } catch (error) {
      assert.match((error as Error).message, message);
    }
  }
});

const setting = { policy: 'orca', rows: 8, requests: 200, seed: 3 } as const;

scales('an arena with room for all rows at full length preempts nobody and leaves hardly a row empty', async () => {
  const { preemptions, usedRows, heldSlots } = await useArena(setting, 8 * 1024);
  assert.is(preemptions, 0);
  assert.ok(usedRows > 7.5 && usedRows <= 8, `${usedRows}`);
  assert.ok(heldSlots > 8 * 64 && heldSlots < 8 * 1024);
});

scales('the fuller an arena, the more it moves and preempts', async () => {
  const uses = await useArenas(setting, [0.5, 0.95]);
  const [roomy, full] = [uses.get(0.5)!, uses.get(0.95)!];
  assert.ok(full.slots < 0.6 * roomy.slots);
  assert.ok(full.heldSlots / full.slots > roomy.heldSlots / roomy.slots);
  assert.ok(full.movedSlots > roomy.movedSlots && full.preemptions > roomy.preemptions);
});

scales.run();
