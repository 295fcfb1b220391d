import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bench, readInteger, readIntegers, readNames, readNumbers, tableOf } from '../../src/bench/bench.ts';
import { UsageError } from '../../src/flags.ts';
import { runBench } from './fake/run.ts';

const benches = suite('bench');

const flags = { rows: { type: 'number', value: 'N', help: 'how many' } } as const;
const counting = bench({
  name: 'counting',
  summary: 'counts rows',
  about: 'Takes no time.',
  flags,
  async run({ rows = 0 }, onProgress) {
    onProgress(0.5, 'half');
    const failures = rows > 100 ? [`too many: ${rows}`] : [];
    return { seed: 7, results: [{ rows, list: [1, 2.5, -3e-7] }], text: `rows ${rows}\n`, failures };
  },
});

benches('prints a text for people, and writes a record that says where it comes from', async () => {
  const { code, stdout, record } = await runBench(counting, ['--rows', '3']);
  assert.equal([code, stdout], [0, 'rows 3\n']);
  const { experiment, seed, command, results, date } = record;
  assert.equal([experiment, seed, results], ['counting', 7, [{ rows: 3, list: [1, 2.5, -3e-7] }]]);
  assert.match(command, /^baton bench counting --rows 3 --out /);
  assert.match(date, /^\d{4}-\d\d-\d\d$/);
  assert.ok(record.commit.length > 0 && record.machine.length > 0);
});

benches('prints the same record and nothing else with --json', async () => {
  const { stdout, record } = await runBench(counting, ['--rows', '3', '--json']);
  assert.equal(JSON.parse(stdout), record);
});

benches('tells failures on stderr with exit code 1, and keeps the results', async () => {
  const { code, stderr, record } = await runBench(counting, ['--rows', '101']);
  assert.equal([code, stderr, record.results.length], [1, 'baton: too many: 101\n', 1]);
});

benches('tells its progress', async () => {
  const seen: [number, string][] = [];
  const { write } = process.stdout;
  process.stdout.write = () => true;
  try {
    await counting.run([], (share, note) => void seen.push([share, note]));
  } finally {
    process.stdout.write = write;
  }
  assert.equal(seen, [[0.5, 'half']]);
});

benches('explains its own flags and those of all', () => {
  assert.match(counting.help, /^Usage: baton bench counting \[options\]\n\nTakes no time\.\n/);
  const names = ['rows N', 'out FILE.json', 'json', 'help'];
  for (const name of names) assert.match(counting.help, new RegExp(`--${name}\\b`));
});

benches('names a command so that a shell takes it back', async () => {
  const odd = bench({ ...parts, flags: { name: { type: 'text', help: '' } } });
  const { record } = await runBench(odd, ['--name', "it's two words"]);
  assert.match(record.command, /--name 'it'\\''s two words' --out/);
});
const parts = { name: 'odd', summary: '', about: '', run: async () => ({ results: [], text: '' }) };

benches('refuses unknown flags, names and numbers out of range', async () => {
  const refused = async (run: () => unknown, message: RegExp) => {
    try {
      await run();
    } catch (error) {
      assert.instance(error, UsageError);
      assert.match((error as Error).message, message);
      return;
    }
    assert.unreachable(String(message));
  };
  await refused(() => counting.run(['--row', '3']), /unknown option --row; did you mean --rows\?/);
  const known = ['static', 'relay'];
  const names = /--contenders: expected static, relay, got "rely"; did you mean relay\?/;
  await refused(() => readNames('contenders', 'static,rely', known), names);
  await refused(() => readNames('contenders', '', known), /got ""/);
  await refused(() => readIntegers('rows', '4,x', 1, 64), /--rows: expected numbers from 1 to 64, got "x"/);
  await refused(() => readIntegers('rows', '4,', 1, 64), /got ""/);
  await refused(() => readIntegers('rows', '65', 1, 64), /got "65"/);
  await refused(() => readIntegers('rows', '1.5', 1, 64), /expected an integer from 1 to 64, got 1.5/);
  await refused(() => readNumbers('rates', '0', 0.5, 9), /expected numbers from 0.5 to 9, got "0"/);
  await refused(() => readInteger('seed', NaN, 0, 9), /--seed: expected an integer from 0 to 9, got NaN/);
  assert.equal(readNames('contenders', 'relay,static', known), ['relay', 'static']);
  assert.equal(readIntegers('rows', '1,64', 1, 64), [1, 64]);
});

benches('sets numbers to the right and words to the left', () => {
  assert.is(tableOf([['name', 'x'], ['a', 1], ['longer', 10]]), 'name     x\na        1\nlonger  10\n');
});

benches.run();
