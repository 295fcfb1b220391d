import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bundledPackages, pageOf } from './fake/page.ts';
import { kernelRecord, peerRecord, relayRecord, scaleRecord } from './fake/records.ts';

const document = suite('Document');

const MOST_BYTES = 1e6;
const whole = pageOf(relayRecord(), kernelRecord(), peerRecord(), scaleRecord());

function headings(page: string): string[] {
  return [...page.matchAll(/<h2>([^<]*)<\/h2>/g)].map(([, text]) => text ?? '');
}

document('is one file of at most a megabyte, with nothing to load', () => {
  assert.ok(Buffer.byteLength(whole) <= MOST_BYTES, `${Buffer.byteLength(whole)} bytes`);
  assert.not.match(whole, /<(link|img|script|iframe)[^>]*(src|href)="(?!data:)/);
  assert.not.match(whole, /@import|url\((?!["']?#)/);
});

document('allows the scripts and styles it has, by hash, and nothing else', () => {
  const policy = /Content-Security-Policy" content="([^"]*)"/.exec(whole)![1]!.replaceAll('&#39;', "'");
  assert.match(policy, /^default-src 'none'; /);
  assert.not.match(policy, /unsafe|https?:|\*/);
  const inline = [...whole.matchAll(/<(script|style)>(.*?)<\/\1>/gs)].map(([, , text]) => text ?? '');
  assert.is(inline.length, 3);
  for (const text of inline) {
    assert.ok(policy.includes(`'sha256-${createHash('sha256').update(text).digest('base64')}'`));
  }
});

document('names whose work it holds', () => {
  const packages = bundledPackages();
  assert.ok(packages.includes('@observablehq/plot'));
  const others = packages.filter((name) => !/^(@observablehq\/plot|isoformat|d3-[a-z-]+)$/.test(name));
  assert.equal(others, [], 'THIRD-PARTY-NOTICES.md and the notice in scripts/page.mjs are about these packages only');
  assert.match(whole, /\/\*! Charts: Observable Plot/);
});

document('shows every section that the files have figures for', () => {
  assert.equal(headings(whole), [
    ...[
      'Rows over time',
      'Time to finish',
      'Throughput by batch size',
      'Idle computation',
      'Memory',
      'Latency',
      'Capacity',
    ],
    ...['Other engines', 'The same function', 'Kernels', 'Scale', 'What it would save', 'Sources'],
  ]);
});

document('leaves out the others, and says which command makes them', () => {
  const page = pageOf(scaleRecord());
  assert.equal(headings(page), ['Scale', 'Not in these files', 'Sources']);
  for (const command of [
    'relay --tables',
    'relay --timelines',
    'relay --memory',
    'relay --capacity',
    'peers',
    'peers --agreement',
    'kernels',
  ]) {
    assert.ok(page.includes(`<code>baton bench ${command} --out`), command);
  }
});

document('has where each figure comes from: file, commit, date, machine, seed and command', () => {
  const { commit, date, machine, command, seed } = relayRecord();
  const [first] = /<ul class="headlines">.*?<\/li>/s.exec(whole)!;
  for (const fact of ['0-relay.json', commit, date, machine, command, `<dd>${seed}</dd>`])
    assert.ok(first.includes(fact), fact);
});

document('shows what files hold as text, whatever it is', () => {
  const hostile = `</script><script>alert(1)</script><img src=x onerror="alert(1)">`;
  const record = relayRecord();
  const results = record.results.map((one) => ({ ...one, model: hostile, workload: hostile }));
  const page = pageOf({ ...record, command: hostile, machine: hostile, results });
  assert.not.match(page, /<img|<script>alert/);
  assert.match(page, /&lt;img src=x/);
});

document('shows results that failed as such', () => {
  const record = relayRecord();
  const [first, ...others] = record.results;
  const page = pageOf({ ...record, results: [{ ...first!, error: 'no answer to play in 5 ms\nand more' }, ...others] });
  assert.match(page, /Rounds that failed are left out:.*no answer to play in 5 ms<\/code>/s);
});

document.run();
