// Timeout: 240 s
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { relay, RELAY_CONTENDERS } from '../../src/bench/relay.ts';
import { relayTables } from '../../src/bench/relay-tables.ts';
import type { RelayResult } from '../../src/bench/results.ts';
import { median } from '../../src/bench/statistics.ts';
import { runBench } from './fake/run.ts';

const relays = suite('bench relay');
const folder = mkdtempSync(join(tmpdir(), 'baton-relay-'));
relays.after(() => rmSync(folder, { recursive: true }));

const SMALL = ['--device', 'cpu', '--threads', '1', '--context', '128', '--rounds', '1', '--seed', '3'];

relays('runs policies on the same requests, closed loop, and its record adds up', async () => {
  const args = [...SMALL, '--workloads', 'heavy-tail', '--rows', '2,4', '--requests', '10', '--curves', '--timelines'];
  const names = ['static', 'baton', 'relay'];
  const outcome = await runBench<RelayResult>(relay, [...args, '--contenders', names.join()]);
  const { code, stdout, stderr, record } = outcome;
  assert.equal([code, stderr], [0, '']);
  const { results } = record;
  assert.equal([record.experiment, record.seed], ['relay', 3]);
  const settings = results.map(({ contender, rows, slots, loop }) => [contender, rows, slots, loop]);
  const expected = [2, 4].flatMap((rows) => names.map((name) => [name, rows, 320 * rows, 'closed']));
  assert.equal(settings, expected);
  for (const one of results) {
    const { model, workload, requests, seconds, requestsPerSecond, attainment, goodPerSecond, targets, idle } = one;
    assert.equal([model, workload, requests, targets.ttftMs], ['tales', 'heavy-tail', 10, null]);
    const near = (value: number, other: number) => assert.ok(Math.abs(value - other) <= 1e-9 * other, `${value}`);
    near(requestsPerSecond.median * seconds.median, requests);
    near(goodPerSecond.median, attainment.median * requestsPerSecond.median);
    const beside = results.filter(({ rows }) => rows === one.rows);
    near(targets.itlMs, 1.5 * median(beside.map(({ decodeMs }) => decodeMs)));
    for (const share of [attainment.median, ...Object.values(idle)]) assert.ok(share >= 0 && share <= 1, `${share}`);
    assert.ok(Math.abs(idle.pad + idle.dead + idle.empty + idle.stall - idle.share) < 1e-9);
    for (const { p50, p90, p99 } of [one.ttft, one.itl, one.tpot, one.e2e]) {
      assert.ok(0 < p50 && p50 <= p90 && p90 <= p99);
    }
    assert.ok(one.ttft.p99 <= one.e2e.p99 && one.e2e.p99 <= 1000 * seconds.median);
    assert.ok(one.peakSlots <= one.slots);
    const { ms, used, padding, free } = one.memory!;
    assert.ok(ms.length <= 400 && ms.every((_, i) => used[i]! + padding[i]! + free[i]! === one.slots));
    assert.is(one.timeline?.rows.length, one.contender === 'baton' ? undefined : one.steps);
    assert.is(one.error, undefined);
  }
  const tokens = results.map(({ tokensPerSecond, seconds }) => Math.round(tokensPerSecond.median * seconds.median));
  assert.is(new Set(tokens).size, 1, 'all generated as many tokens');
  assert.ok(results[0]!.deadTokens > 0 && results[2]!.deadTokens === 0);
  assert.match(stdout, /^tales, heavy-tail: 10 requests, 2 rows, 640 slots; good: ITL ≤ [\d.]+ ms\n/);
  assert.match(stdout, /\nOutput tokens\/s by rows, heavy-tail\nrows +static +baton +relay\n2 .*\n4 .*\n$/);
});

relays('takes lengths and the pattern of arrivals from a trace, cut to the context, at a rate of its own', async () => {
  const trace = join(folder, 'trace.csv');
  const lines = [0, 0, 1, 3].map((at) => `${at},${at === 3 ? 500 : 20},${at === 3 ? 500 : 4}`);
  writeFileSync(trace, ['arrived_at,num_prefill_tokens,num_decode_tokens', ...lines].join('\n'));
  const args = [...SMALL, '--trace', trace, '--rates', '30', '--contenders', 'relay', '--rows', '2'];
  const { code, stderr, record } = await runBench<RelayResult>(relay, args);
  assert.equal([code, stderr, record.results.length], [0, '', 1]);
  const { workload, loop, rate, requests, seconds, targets, tokensPerSecond } = record.results[0]!;
  assert.equal([workload, loop, rate, requests], ['trace.csv', 'open', 30, 4]);
  assert.ok(seconds.median >= 0.1, 'four requests at 30/s take three gaps of 33 ms');
  assert.is(Math.round(tokensPerSecond.median * seconds.median), 13, 'a prompt of 127 tokens leaves room for one');
  assert.ok(targets.ttftMs! > targets.itlMs);
});

relays('finds that capacity is as high as it looked where every request meets its targets', async () => {
  const targets = ['--ttft-ms', '1e9', '--itl-ms', '1e9'];
  const trial = ['--workloads', 'chat', '--contenders', 'relay', '--rows', '2', '--requests', '6'];
  const args = [...SMALL, ...trial, '--capacity', ...targets];
  const { code, stdout, record } = await runBench<RelayResult>(relay, args);
  assert.is(code, 0);
  const { capacity, rate, loop, attainment } = record.results[0]!;
  assert.equal(capacity?.probes, [{ rate: rate!, attainment: 1 }]);
  assert.equal([capacity?.requestsPerSecond, capacity?.share, loop, attainment.median], [rate, 0.9, 'open', 1]);
  assert.match(stdout, /each at its capacity: 6 requests/);
});

relays('tells why a contender failed, and lets the others run', async () => {
  const trace = join(folder, 'odd.jsonl');
  writeFileSync(trace, '{"input_length": 4, "output_length": 2}\n');
  const args = [...SMALL, '--trace', trace, '--contenders', 'relay', '--isa', 'none'];
  const { code, stderr, record } = await runBench<RelayResult>(relay, args);
  assert.is(code, 1);
  assert.match(stderr, /^baton: odd\.jsonl, 16 rows, relay: .*isa/s);
  assert.equal(record.results, []);
});

relays('refuses what it cannot do before it measures', async () => {
  const wrong: readonly [readonly string[], RegExp][] = [
    [['--contenders', 'relai'], /--contenders: expected static|relay.*did you mean relay\?/],
    [['--workloads', 'chatt'], /--workloads: .*did you mean chat\?/],
    [['--rows', '0'], /--rows: expected numbers from 1 to 1024, got "0"/],
    [['--rates', '0'], /--rates/],
    [['--rates', '5', '--capacity'], /expected --rates or --capacity, got both/],
    [['--tables', '--memory'], /expected one preset, got --tables and --memory/],
    [['--trace', 'x.csv', '--workloads', 'chat'], /expected --workloads or --trace, got both/],
    [['--trace', join(folder, 'none.csv')], /trace: expected a file that can be read/],
    [['--context', '1000'], /--context: expected an integer from 64 to 512, got 1000/],
    [['--slots', '64'], /--slots: expected an integer from 512 /],
    [['--itl-ms', '0'], /--itl-ms: expected a number above 0, got 0/],
    [['--rounds', '0'], /--rounds: expected an integer from 1/],
    [['--model', 'no-such'], /--model: expected tales, /],
  ];
  for (const [args, message] of wrong) {
    try {
      await relay.run(args);
      assert.unreachable(args.join(' '));
    } catch (error) {
      assert.match((error as Error).message, message);
    }
  }
});

relays('has the contenders of the ablation, each with one thing more', () => {
  assert.equal(RELAY_CONTENDERS['relay'], { policy: 'relay' });
  const rulesOf = (name: string) => Object.keys(RELAY_CONTENDERS[name]!.rules ?? {}).length;
  assert.equal(['relay-constant', 'relay-timed', 'relay-memory', 'relay'].map(rulesOf), [3, 2, 1, 0]);
});

relays('shows a table of workloads, and one of rows, contenders side by side', () => {
  const spread = { median: 2.5, least: 2, most: 3 };
  const quantiles = { mean: 1, p50: 1, p90: 1, p99: 1 };
  const result = (workload: string, rows: number, contender: string): RelayResult => {
    return {
      ...{ model: 'tales', workload, rows, contender, loop: 'closed' as const, requests: 8, slots: 64, decodeMs: 1 },
      ...{ seconds: spread, requestsPerSecond: spread, goodPerSecond: spread, attainment: spread },
      ...{ tokensPerSecond: spread },
      ...{ ttft: quantiles, itl: quantiles, tpot: quantiles, e2e: quantiles, targets: { ttftMs: null, itlMs: 1 } },
      ...{ idle: { share: 0.5, pad: 0.5, dead: 0, empty: 0, stall: 0 }, padTokens: 1, deadTokens: 0, emptyRows: 0 },
      ...{ stallMs: 0, movedSlots: 0, peakSlots: 1, steps: 1, preemptions: 0 },
    };
  };
  const few = [result('chat', 8, 'a'), result('chat', 8, 'b'), result('code', 8, 'a'), result('chat', 16, 'b')];
  const text = relayTables(few);
  assert.match(text, /Seconds to finish, 8 rows\nworkload +a +b\nchat +2\.50 +2\.50\ncode +2\.50\n/);
  assert.match(text, /Output tokens\/s by rows, chat\nrows +a +b\n8 +3 +3\n16 +3\n/);
});

relays.run();
