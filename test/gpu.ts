// Timeout: 180 s
// npm run gpu and npm run bundle, as far as a machine without a GPU can tell: phases, results, exit codes, and that a
// bundle needs nothing but a shell and tar.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

interface Phase {
  readonly status: string;
  readonly seconds: number;
  readonly note: string;
  readonly reason?: string;
  readonly data?: {
    readonly checks?: readonly object[];
    readonly results?: readonly Readonly<Record<string, unknown>>[];
  };
}

interface GpuRecord {
  readonly phases: Readonly<Record<string, Phase>>;
  readonly [fact: string]: unknown;
}

const NAMES = [
  'environment',
  'ceilings',
  'conformance',
  'sanitizer',
  'end-to-end',
  'kernels',
  'policies',
  'contenders',
];
const TOOLS = ['sh', 'tar', 'dirname', 'mkdir', 'rm', 'cat'];

const gpu = suite('scripts/gpu.mjs');
const home = mkdtempSync(join(tmpdir(), 'baton-gpu-test-'));
gpu.after(() => rmSync(home, { recursive: true }));
const script = (name: string) => fileURLToPath(new URL(`../scripts/${name}`, import.meta.url));

let runs = 0;

/** Runs the program with results in a folder of its own. */
function run(
  args: readonly string[],
  command: readonly [string, ...string[]] = [process.execPath, script('gpu.mjs')],
  env = process.env,
) {
  const out = join(home, `results-${runs++}`);
  const [program, ...before] = command;
  const { status, stdout, stderr } = spawnSync(program, [...before, '--smoke', ...args, '--out', out], {
    encoding: 'utf8',
    env,
  });
  const file = existsSync(out) ? readdirSync(out).find((name) => name.endsWith('.json')) : undefined;
  const text = file === undefined ? '{"phases":{}}' : readFileSync(join(out, file), 'utf8');
  return { status, stdout, stderr, file, record: JSON.parse(text) as GpuRecord };
}

gpu('gathers every phase in one file, and ends with a table', () => {
  const { status, stdout, file, record } = run([]);
  assert.is(status, 0, stdout);
  assert.equal(Object.keys(record.phases), NAMES);
  for (const fact of ['commit', 'date', 'machine', 'gpu', 'driver', 'device', 'seed', 'seconds', 'command']) {
    assert.ok(fact in record, fact);
  }
  for (const [name, { status, seconds, reason }] of Object.entries(record.phases)) {
    assert.match(status, /^(passed|cut|skipped)$/, `${name}: ${reason}`);
    assert.ok(seconds >= 0, name);
    if (status === 'skipped') assert.ok(reason, name);
  }
  assert.is(record.phases['environment']?.status, 'passed');
  assert.ok((record.phases['end-to-end']?.data?.checks?.length ?? 0) > 0);
  const { results = [] } = record.phases['policies']?.data ?? {};
  assert.equal(
    results.map(({ model, contender }) => `${model} ${contender}`),
    ['tiny-llama (synthetic) static', 'tiny-llama (synthetic) relay'],
  );
  for (const fact of ['tokensPerSecond', 'idle', 'ttft', 'itl']) assert.ok(fact in (results[0] ?? {}), fact);
  assert.ok(stdout.trim().endsWith(file ?? ''), 'the last line names the file');
});

gpu('goes on behind a phase that fails, and ends with exit code 1', () => {
  const { status, stdout, record } = run(['--device', 'cuda:63', '--phases', 'g,a']);
  assert.is(status, 1, stdout);
  assert.equal(Object.keys(record.phases), ['policies', 'environment']);
  assert.is(record.phases['policies']?.status, 'failed');
  assert.ok(record.phases['policies']?.reason);
  assert.ok(record.phases['environment']?.status);
});

gpu('skips what there is no time for', () => {
  const { status, record } = run(['--seconds', '1', '--phases', 'a,g']);
  assert.is(status, 0);
  for (const { status, reason } of Object.values(record.phases))
    assert.equal([status, reason], ['skipped', 'the time is over']);
});

gpu('refuses what it does not know', () => {
  for (const args of [['--phases', 'a,z'], ['--seconds', 'soon'], ['--seed', '-1'], ['--reset']]) {
    const { status, stderr } = run(args);
    assert.is(status, 2, args.join(' '));
    assert.match(stderr, /^gpu: /);
  }
});

gpu('runs from a bundle with nothing but a shell and tar', () => {
  const bundle = join(home, 'bundle');
  const made = spawnSync(process.execPath, [script('bundle.mjs'), '--store', '--out', bundle], { encoding: 'utf8' });
  assert.is(made.status, 0, made.stderr);
  assert.match(made.stdout, /^it runs: a environment +passed/m);
  assert.equal(readdirSync(bundle).sort(), ['bundle.tar', 'run']);

  const tools = join(home, 'tools');
  mkdirSync(tools);
  for (const name of TOOLS)
    symlinkSync(spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim(), join(tools, name));
  const env = { PATH: tools, TMPDIR: home };
  const { status, stdout, record } = run(['--phases', 'a,e,g'], ['sh', join(bundle, 'run')], env);
  assert.is(status, 0, stdout);
  for (const [name, phase] of Object.entries(record.phases)) assert.match(phase.status, /^(passed|cut)$/, name);
  assert.is.not(record['commit'], 'unknown');
});

gpu.run();
