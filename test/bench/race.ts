import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { race } from '../../src/bench/race.ts';
import type { Setting } from './fake/counter.ts';

interface Round {
  readonly name: string;
  readonly round: number;
  readonly pid: number;
}

const module = new URL('./fake/counter.ts', import.meta.url);

function entry(name: string, fails?: Setting['fails']) {
  return { name, module, setting: { name, ...(fails && { fails }) } };
}

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const races = suite('race');

races('lets contenders take turns, another beginning in each round, and counts no warm-up', async () => {
  const order: string[] = [];
  const onRound = (name: string, round: number) => void order.push(`${name}${round}`);
  const finishes = await race<Round>([entry('a'), entry('b')], { rounds: 2, onRound });
  assert.equal(order, ['a-1', 'b-1', 'b0', 'a0', 'a1', 'b1']);
  assert.equal(
    finishes.map(({ name, rounds }) => [name, rounds.map(({ round }) => round)]),
    [
      ['a', [1, 2]],
      ['b', [1, 2]],
    ],
  );
});

races('gives each contender one process of its own, and ends it', async () => {
  const finishes = await race<Round>([entry('a'), entry('b')], { rounds: 2 });
  const pids = finishes.map(({ rounds }) => new Set(rounds.map(({ pid }) => pid)));
  assert.equal(pids.map(({ size }) => size), [1, 1]);
  const [first, second] = pids.flatMap((own) => [...own]);
  assert.is.not(first, second);
  assert.equal([alive(first!), alive(second!)], [false, false]);
});

for (const [fails, expected, rounds] of [
  ['open', /cannot be opened/, 0],
  ['play', /cannot play/, 0],
  ['exit', /exit code 3\n[^]*last words/, 0],
] as const) {
  races(`one whose ${fails} fails says why, and the others go on`, async () => {
    const [bad, good] = await race<Round>([entry('bad', fails), entry('good')], { rounds: 2 });
    assert.match(bad!.error ?? '', expected);
    assert.is(bad!.rounds.length, rounds);
    assert.is(good!.rounds.length, 2);
    assert.is(good!.error, undefined);
  });
}

races('one that does not answer is ended', async () => {
  const [bad, good] = await race<Round>([entry('bad', 'hang'), entry('good')], { rounds: 1, timeoutMs: 1500 });
  assert.match(bad!.error ?? '', /no answer to play in 1500 ms/);
  assert.is(good!.rounds.length, 1);
});

races('a spent budget leaves one counted round to each, whatever was asked for', async () => {
  const finishes = await race<Round>([entry('a'), entry('b')], { rounds: 5, budgetMs: 0 });
  assert.equal(finishes.map(({ rounds }) => rounds.map(({ round }) => round)), [[1], [1]]);
});

races.run();
