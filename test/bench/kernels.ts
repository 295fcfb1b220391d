import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BENCHES } from '../../src/bench/benches.ts';
import { resultOf, textOf } from '../../src/bench/kernels.ts';
import { countCases, type OpsRecord, runOps } from '../../src/bench/ops.ts';
import { UsageError } from '../../src/flags.ts';

const experiment = suite('Experiment kernels');

const folder = fileURLToPath(new URL('../..', import.meta.url));
// One that was built of these sources: an older one knows no sweeps.
const program = ['Release', 'Ops', 'Emulator']
  .map((name) => join(folder, 'build', name, 'ops'))
  .find((path) => existsSync(path) && spawnSync(path, ['list'], { encoding: 'utf8' }).stdout.includes(' sweep '));

/** What `ops bench --json` wrote of two points of a line and one case on none, with round figures. */
const SAMPLE: OpsRecord = {
  device: { name: 'cpu:amx', hardware: 'a processor, amx, 2 threads' },
  ceilings: {
    gigabytesPerSecond: 20,
    copiedGigabytesPerSecond: 16,
    gigaflopsPerSecond: { f32: 400, bf16: 6000, int8: 12000 },
  },
  results: [
    {
      ...{ op: 'matmul', case: 'small qkv bf16, 1 token', device: 'cpu:amx', type: 'bf16', microseconds: 50 },
      ...{ gigabytesPerSecond: 18, gigaflopsPerSecond: 18, bandwidthShare: 0.9, computeShare: 0.003 },
      ...{ ratioToLibrary: null, line: 'small qkv bf16', against: 'tokens', x: 1 },
    },
    {
      ...{ op: 'matmul', case: 'small qkv bf16, 512 tokens', device: 'cpu:amx', type: 'bf16', microseconds: 500 },
      ...{ gigabytesPerSecond: 4, gigaflopsPerSecond: 1800, bandwidthShare: 0.2, computeShare: 0.3 },
      ...{ ratioToLibrary: 1.25, line: 'small qkv bf16', against: 'tokens', x: 512 },
    },
    {
      ...{ op: 'select_sampled', case: '15, 9 tokens', device: 'cpu:amx', type: 'f32', microseconds: 0.5 },
      ...{ gigabytesPerSecond: 2, gigaflopsPerSecond: 0, bandwidthShare: null, computeShare: null, ratioToLibrary: null },
    },
  ],
};

experiment('keeps the shares, the line and the ratio to a library, and leaves out what a case does not have', () => {
  const [first, second, third] = SAMPLE.results.map(resultOf);
  assert.equal([first!.bandwidthShare, first!.computeShare], [0.9, 0.003]);
  assert.equal([first!.line, first!.against, first!.x, first!.type], ['small qkv bf16', 'tokens', 1, 'bf16']);
  assert.equal([first!.ratioToLibrary, second!.ratioToLibrary], [undefined, 1.25]);
  assert.equal(['line' in third!, third!.bandwidthShare], [false, null]);
});

experiment('shows each line once, with the ceiling that binds at each point, and names what is far from it', () => {
  const text = textOf({ record: SAMPLE, failures: [], leftOut: 3 });
  assert.match(text, /20\.0 GB\/s read, 16\.0 GB\/s copied, 400 GFLOP\/s f32, 6000 GFLOP\/s bf16, 12000 GFLOP\/s int8/);
  assert.match(text, /^matmul against tokens +1 +512$/m);
  assert.match(text, /^small qkv bf16 +50 90m +500 30c$/m);
  assert.match(text, /^select_sampled +15, 9 tokens +0\.50$/m);
  assert.match(text, /^1 of less than 40 % .*:\n {2}matmul small qkv bf16, 512 tokens: 500 30c$/m);
  assert.match(text, /^3 cases left out/m);
});

experiment('says what failed', () => {
  assert.match(textOf({ record: SAMPLE, failures: ['sample  all  INTERNAL: no'], leftOut: 0 }), /^sample {2}all {2}INTERNAL: no$/m);
});

async function refuses(args: readonly string[], why: RegExp): Promise<void> {
  try {
    await BENCHES['kernels']!.run(args);
  } catch (error) {
    assert.instance(error, UsageError);
    assert.match((error as Error).message, why);
    return;
  }
  assert.unreachable(`${args.join(' ')} was taken`);
}

experiment('refuses devices and numbers that are none, and unknown flags', async () => {
  await refuses(['--devices', 'cpu:mmx'], /--devices: expected .*cpu:scalar.*, got "cpu:mmx"/);
  await refuses(['--rounds', '0'], /--rounds: expected an integer from 1 to 1000, got 0/);
  await refuses(['--threads', '1.5'], /--threads: expected an integer/);
  await refuses(['--seed=-1'], /--seed: expected an integer/);
  await refuses(['--round', '4'], /unknown option --round; did you mean --rounds/);
});

experiment('wants a program that is there', async () => {
  try {
    await BENCHES['kernels']!.run(['--program', '/nowhere/ops']);
    assert.unreachable('it ran');
  } catch (error) {
    assert.is((error as { code?: string }).code, 'INVALID_OPTION');
    assert.match((error as Error).message, /--program: expected an executable, got \/nowhere\/ops/);
  }
});

if (program === undefined) {
  const reason = 'no build/Release/ops of these sources: cmake --build build/Release --target ops';
  console.log(`SKIP real runs: ${reason}`);
  experiment.skip(reason, () => {});
} else {
  const QUICK = ['--device', 'cpu', '--quick', '--repeats', '1', '--seed', '1', '--threads', '1'];

  experiment('times two ops for real: bytes and operations are those of the cases, whatever the clock said', async () => {
    const bytes = new Map<string, number>();
    for (const op of ['convert', 'matmul']) {
      const heard: string[] = [];
      const { record, failures } = await runOps(program, [...QUICK, '--op', op], (line) => heard.push(line));
      const cases = await countCases(program, ['--op', op], 'quick');
      assert.equal(failures, []);
      assert.is(heard.length, record.results.length);
      assert.ok(record.results.length > 0 && record.results.length <= cases, `${record.results.length} of ${cases}`);
      for (const one of record.results) {
        const moved = one.gigabytesPerSecond * one.microseconds * 1e3;
        assert.ok(moved >= 1 && Math.abs(moved - Math.round(moved)) < 1e-4 * moved, `${one.case}: ${moved} bytes`);
        bytes.set(`${op} ${one.case}`, moved);
        if (one.bandwidthShare !== null) {
          const ceiling = one.gigabytesPerSecond / one.bandwidthShare;
          const { gigabytesPerSecond } = record.ceilings;
          // The share has four places.
          const error = gigabytesPerSecond * (0.00005 / one.bandwidthShare + 1e-5);
          assert.ok(Math.abs(ceiling - gigabytesPerSecond) <= error, `${one.case}: ${ceiling}, ${gigabytesPerSecond}`);
        }
      }
    }
    // 64 floats in, 64 bf16 out.
    assert.ok(Math.abs(bytes.get('convert 64 bf16, 21 tokens')! - 21 * 64 * 6) < 1, `${bytes.get('convert 64 bf16, 21 tokens')}`);
  });

  experiment('has a sweep for every op that it promises, and none of it in ops test', async () => {
    const sweeps = ['attention_decode', 'attention_prefill', 'kv_embed', 'kv_pad', 'kv_compact', 'kv_park'];
    for (const op of [...sweeps, 'matmul', 'matmul_add', 'matmul_swiglu', 'rms_norm', 'kv_append', 'sample']) {
      assert.ok((await countCases(program, ['--op', op], 'sweep')) >= 4, op);
    }
    const test = readFileSync(join(folder, 'native/ops/test.cpp'), 'utf8');
    assert.not.match(test, /Use::sweep/);
  });

  experiment('passes on what the program complains of', async () => {
    try {
      await runOps(program, [...QUICK, '--op', 'no_such_op'], () => {});
      assert.unreachable('it ran');
    } catch (error) {
      assert.match((error as Error).message, /no case matches/);
    }
  });
}

experiment.run();
