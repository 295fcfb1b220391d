import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../src/flags.ts';
import { collect, readEvidence } from '../../src/report/evidence.ts';
import { kernelRecord, peerRecord, relayRecord, scaleRecord } from './fake/records.ts';

const evidence = suite('Evidence');

const written = (record: object, file = 'results/relay.json') => ({ file, content: JSON.stringify(record) });

/** A relay record whose first result is other than it should be. */
function damaged(change: (first: Record<string, unknown>) => void): { file: string; content: string } {
  const record = JSON.parse(JSON.stringify(relayRecord())) as { results: Record<string, unknown>[] };
  change(record.results[0]!);
  return written(record);
}

function refuses(files: Parameters<typeof collect>[0], message: RegExp): void {
  try {
    collect(files);
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    assert.match(error.message, message);
    return;
  }
  assert.unreachable(`expected ${message}`);
}

evidence('reads every experiment, whole, and knows where each figure is from', () => {
  const records = [relayRecord(), kernelRecord(), peerRecord(), scaleRecord()];
  const read = collect(records.map((record, i) => written(record, `results/${i}.json`)));
  assert.equal(
    read.sources.map(({ id, file, experiment }) => [id, file, experiment]),
    [
      [1, '0.json', 'relay'],
      [2, '1.json', 'kernels'],
      [3, '2.json', 'peers'],
      [4, '3.json', 'scale'],
    ],
  );
  const { seed: _, command } = records[1]!;
  assert.equal([read.sources[1]!.seed, read.sources[1]!.command], [undefined, command]);
  assert.equal(read.relay[0]!.results, records[0]!.results);
  assert.equal(read.kernels[0]!.results, records[1]!.results);
  assert.equal([...read.peers[0]!.results, ...read.agreement[0]!.results], records[2]!.results);
  assert.equal(read.scale[0]!.results, records[3]!.results);
  assert.is(read.agreement[0]!.source, read.sources[2]);
});

evidence('keeps files of the same experiment apart', () => {
  const read = collect([written(relayRecord(), 'a.json'), written(relayRecord(), 'b.json')]);
  assert.equal(
    read.relay.map(({ source }) => source.id),
    [1, 2],
  );
});

evidence('leaves out what a newer version has written besides', () => {
  const read = collect([
    damaged((first) => Object.assign(first, { later: 1, seconds: { median: 1, least: 1, most: 1, n: 3 } })),
  ]);
  const first = read.relay[0]!.results[0]!;
  assert.is('later' in first, false);
  assert.equal(first.seconds, { median: 1, least: 1, most: 1 });
});

evidence('reads null, which NaN is written as, as a figure that is not there', () => {
  const read = collect([damaged((first) => Object.assign(first, { decodeMs: null }))]);
  assert.ok(Number.isNaN(read.relay[0]!.results[0]!.decodeMs));
});

evidence('refuses what is no record of results, and says where and why', () => {
  refuses([{ file: 'a/b.json', content: '{' }], /^a\/b\.json: expected JSON/);
  refuses([{ file: 'b.json', content: '[]' }], /^b\.json: expected an object, got \[\]/);
  refuses(
    [written({ ...relayRecord(), experiment: 'policies' })],
    /experiment: expected relay or kernels .*, got "policies"/,
  );
  const { experiment: _, ...older } = relayRecord();
  refuses([written(older)], /^results\/relay\.json: experiment: expected .*, got nothing/);
  refuses([written({ ...relayRecord(), results: {} })], /results: expected a list, got {}/);
  refuses([written({ ...relayRecord(), seed: 'x' })], /seed: expected a number, got "x"/);
});

evidence('refuses a wrong field of a result, with its path', () => {
  refuses([damaged((first) => delete first['seconds'])], /results\[0\]\.seconds: expected an object, got nothing/);
  refuses(
    [damaged((first) => (first['seconds'] = { median: 'x' }))],
    /results\[0\]\.seconds\.median: expected a number, got "x"/,
  );
  refuses([damaged((first) => (first['loop'] = 'ajar'))], /results\[0\]\.loop: expected closed or open, got "ajar"/);
  refuses(
    [damaged((first) => (first['model'] = 'm'.repeat(99)) && (first['rows'] = 'm'.repeat(99)))],
    /rows: .* got "m+…$/,
  );
});

evidence('refuses curves whose lists differ in length', () => {
  const memory = { ms: [1, 2], used: [1], padding: [0, 0], free: [0, 0] };
  refuses(
    [damaged((first) => (first['memory'] = memory))],
    /memory\.used: expected as many entries as ms has, 2, got 1/,
  );
  const timeline = { ms: [1], rows: [[0], [1]], chunkTokens: [0] };
  refuses([damaged((first) => (first['timeline'] = timeline))], /timeline\.rows: expected as many .*, 1, got 2/);
});

evidence('refuses a file that is not there', () => {
  assert.throws(
    () => readEvidence([join(tmpdir(), 'none', 'none.json')]),
    /none\.json: expected a file that can be read/,
  );
});

evidence.run();
