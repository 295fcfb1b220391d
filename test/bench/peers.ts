// Timeout: 300 s
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { compare } from '../../src/bench/agreement.ts';
import { open as openBaton } from '../../src/bench/contenders/baton.ts';
import { findNodeLlama, open as openNodeLlama, PEERS } from '../../src/bench/contenders/node-llama-cpp.ts';
import { open as openTransformers } from '../../src/bench/contenders/transformers.ts';
import { writeGguf } from '../../src/bench/gguf-writer.ts';
import { PEER_CONTENDERS } from '../../src/bench/peer-contenders.ts';
import { makePeerRequests, PEER_CONTEXT, type PeerRound, shortened } from '../../src/bench/peer-requests.ts';
import { peers, peersTable, wrongCounts } from '../../src/bench/peers.ts';
import type { AgreementResult, PeerResult } from '../../src/bench/results.ts';
import { UsageError } from '../../src/flags.ts';
import { TALES } from '../../src/model/tales.ts';
import { TOP_LOGPROBS } from '../../src/native.ts';
import { runBench } from './fake/run.ts';

const benchPeers = suite('bench peers');
const root = mkdtempSync(join(tmpdir(), 'baton-peers-test-'));
benchPeers.after(() => rmSync(root, { recursive: true, force: true }));

benchPeers('requests are those of their seed, with logarithms of lengths spread evenly around 128 and 64', () => {
  const requests = makePeerRequests(7, 2000, 1000);
  assert.equal(makePeerRequests(7, 2000, 1000), requests);
  assert.not.equal(makePeerRequests(8, 3, 1000), requests.slice(0, 3));
  const prompts = requests.map(({ prompt }) => prompt.length);
  const outputs = requests.map(({ outputTokens }) => outputTokens);
  assert.equal([Math.min(...prompts), Math.max(...prompts), Math.min(...outputs), Math.max(...outputs)], [64, 256, 32, 128]);
  assert.is(PEER_CONTEXT, 256 + 128);
  for (const [lengths, middle] of [[prompts, 128], [outputs, 64]] as const) {
    const below = lengths.filter((length) => length < middle).length / lengths.length;
    assert.ok(Math.abs(below - 0.5) < 0.05, `${below} below ${middle}`);
  }
  const tokens = requests.flatMap(({ prompt }) => prompt);
  assert.ok(tokens.every((token) => Number.isInteger(token) && token >= 0 && token < 1000));
  assert.ok(new Set(tokens).size === 1000);
});

benchPeers('requests can be shortened, and none becomes longer', () => {
  const [first, ...rest] = shortened([{ prompt: [1, 2, 3], outputTokens: 5 }, { prompt: [4], outputTokens: 1 }], 1, 2, 3);
  assert.equal([first, rest], [{ prompt: [1, 2], outputTokens: 3 }, []]);
  assert.equal(shortened([{ prompt: [4], outputTokens: 1 }], 9, 2, 3), [{ prompt: [4], outputTokens: 1 }]);
});

const requests = shortened(makePeerRequests(1, 5, 2048), 5, 40, 12).map((one, i) => ({ ...one, outputTokens: 3 + 2 * i }));

function checkRound({ ms, ttftMs, outputTokens }: PeerRound): void {
  assert.equal(outputTokens, [3, 5, 7, 9, 11]);
  assert.is(ttftMs.length, 5);
  assert.ok(ttftMs.every((time) => time > 0 && time <= ms), `${ttftMs.join()} of ${ms}`);
}

benchPeers('baton does the work it is given, in every round', async () => {
  const options = { device: 'cpu', weights: 'int8', maxContext: PEER_CONTEXT } as const;
  const contender = await openBaton({ model: TALES, threads: 1, concurrency: 2, requests, options });
  try {
    for (let round = 0; round < 2; round++) checkRound(await contender.play());
  } finally {
    await contender.close();
  }
});

benchPeers('baton takes the memory of its requests and no more, as others may need the rest of the device', async () => {
  const work = { model: TALES, device: 'cuda', concurrency: 2, requests, context: PEER_CONTEXT, kvBytes: 12345, from: root };
  const variant = { format: 'bf16', threads: 1 };
  const { options } = await PEER_CONTENDERS.baton.setting({ ...work, gguf: () => Promise.reject() }, variant);
  assert.is(options.kvBytes, 12345);
});

benchPeers('fewer tokens than were asked for are told, with the request', () => {
  const round = { ms: 1, ttftMs: [], outputTokens: [3, 5, 7, 9, 11] };
  assert.is(wrongCounts([round, round], requests), undefined);
  const short = { ...round, outputTokens: [3, 5, 6, 9, 11] };
  assert.is(wrongCounts([round, short], requests), 'request 2: expected 7 tokens, got 6');
  assert.is(wrongCounts([{ ...round, outputTokens: [] }], requests), 'request 0: expected 3 tokens, got 0');
});

benchPeers('the experiment tries the threads, plays as many rounds as it was told, and its record adds up', async () => {
  const args = ['--models', 'tales', '--concurrency', '2,3', '--requests', '4', '--rounds', '2', '--contenders', 'baton'];
  const { code, stdout, stderr, record } = await runBench<PeerResult>(peers, [...args, '--threads', '1,2', '--seed', '3']);
  assert.equal([code, stderr], [0, '']);
  assert.equal([record.experiment, record.seed], ['peers', 3]);
  const settings = record.results.map(({ weights, format, concurrency }) => [weights, format, concurrency]);
  assert.equal(settings, [
    ['16 bit', 'bf16', 2],
    ['16 bit', 'bf16', 3],
    ['8 bit', 'int8', 2],
    ['8 bit', 'int8', 3],
  ]);
  const made = makePeerRequests(3, 4, 2048);
  for (const one of record.results) {
    assert.equal([one.model, one.contender, one.requests], ['tales', 'baton', 4]);
    assert.ok([1, 2].includes(one.threads));
    assert.is(one.promptTokens, made.reduce((sum, { prompt }) => sum + prompt.length, 0));
    assert.is(one.outputTokens, made.reduce((sum, { outputTokens }) => sum + outputTokens, 0));
    const near = (value: number, expected: number) => assert.ok(Math.abs(value / expected - 1) < 1e-9, `${value} ${expected}`);
    near(one.tokensPerSecond.most * one.seconds.least, one.promptTokens + one.outputTokens);
    near(one.outputTokensPerSecond.most * one.seconds.least, one.outputTokens);
    assert.ok(0 < one.ttft!.p50 && one.ttft!.p50 <= one.ttft!.p99 && one.ttft!.p99 <= 1000 * one.seconds.most);
  }
  assert.match(stdout, /tales +16 bit +2 +baton +bf16/);
});

benchPeers('the table says how many times as quick ours is, in the same comparison and no other', () => {
  const result = (contender: string, concurrency: number, median: number): PeerResult => {
    const flat = { median, least: median, most: median };
    const same = { model: 'm', weights: '8 bit', format: 'q8_0', version: '1', threads: 1, requests: 1, promptTokens: 1, outputTokens: 1 };
    return { ...same, contender, concurrency, seconds: flat, tokensPerSecond: flat, outputTokensPerSecond: flat };
  };
  const results = [result('baton', 1, 100), result('other', 1, 80), result('baton', 4, 900), result('other', 4, 200)];
  const lines = peersTable([...results, result('other', 16, 7)]).split('\n');
  const ratios = lines.map((line) => /[\d.]+ ×$/.exec(line)?.[0] ?? '');
  assert.equal(ratios, ['', '', '1.25 ×', '', '4.50 ×', '', '']);
});

benchPeers('who is not installed is skipped loudly, with what to do, and the exit code says so', async () => {
  const small = ['--models', 'tales', '--weights', '16', '--concurrency', '1', '--requests', '1', '--rounds', '1', '--threads', '1'];
  const args = [...small, '--from', root, '--contenders', 'baton,best,generate'];
  const { code, stderr, record } = await runBench<PeerResult>(peers, args);
  assert.is(code, 1);
  assert.match(stderr, /skipped node-llama-cpp best: expected node-llama-cpp in .*npm install, or --from another folder\n/);
  assert.match(stderr, /skipped transformers generate: expected transformers_peer\.py in /);
  assert.equal(record.results.map(({ contender }) => contender), ['baton']);
  const error: unknown = await peers.run(['--agreement', '--from', root]).catch((one: unknown) => one);
  assert.instance(error, UsageError);
});

benchPeers('a contender that cannot be opened is told with its reason, and the others are measured', async () => {
  const from = join(root, 'broken');
  mkdirSync(join(from, 'node_modules', 'node-llama-cpp', 'dist'), { recursive: true });
  writeFileSync(join(from, 'node_modules', 'node-llama-cpp', 'package.json'), '{ "version": "0.0.1", "type": "module" }');
  writeFileSync(join(from, 'node_modules', 'node-llama-cpp', 'dist', 'index.js'), 'throw new Error("no such build");');
  const small = ['--models', 'tales', '--weights', '16', '--concurrency', '1', '--requests', '1', '--rounds', '1', '--threads', '1'];
  const { code, stderr, record } = await runBench<PeerResult>(peers, [...small, '--from', from, '--contenders', 'best,baton']);
  assert.is(code, 1);
  assert.match(stderr, /tales, 16 bit, 1 at a time: node-llama-cpp best: Error: no such build/);
  assert.equal(record.results.map(({ contender }) => contender), ['baton']);
});

for (const [args, message] of [
  [['--weights', '4'], /--weights: expected 32, 16, 8, got "4"/],
  [['--contenders', 'evalute'], /--contenders: .* got "evalute"; did you mean evaluate\?/],
  [['--concurrency', '0'], /--concurrency: expected .* from 1 to 1024, got "?0/],
  [['--rounds', '0'], /--rounds: expected an integer from 1/],
  [['--device', 'tpu'], /--device: expected cpu, cuda, got "tpu"/],
  [['--seed', '0.5'], /--seed: expected an integer from 0/],
  [['--models', 'nobody', '--contenders', 'baton'], /expected tales, .* got nobody/],
] as const) {
  benchPeers(`refuses ${args.join(' ')}`, async () => {
    const error: unknown = await peers.run(args).catch((one: unknown) => one);
    assert.instance(error, UsageError);
    assert.match((error as Error).message, message);
  });
}

// Agreement

/** Two positions; the likeliest tokens are 0, 1, …, and each is half as likely as the one before. */
function ours() {
  const tokens = Int32Array.from({ length: 2 * TOP_LOGPROBS }, (_, i) => i % TOP_LOGPROBS);
  return { tokens, logprobs: Float32Array.from(tokens, (token) => -1 - token * Math.log(2)) };
}

benchPeers('two that say the same agree at every position', () => {
  const { logprobs } = ours();
  const theirs = { logprobs, likeliest: Int32Array.of(0, 0), likeliestLogprobs: Float32Array.of(-1, -1) };
  const none = { largestDifference: 0, meanDifference: 0, largestPreference: 0 };
  assert.equal(compare(ours(), theirs), { positions: 2, top1: 1, ...none });
});

benchPeers('another likeliest token is counted, and how much it was preferred', () => {
  const logprobs = ours().logprobs.slice();
  logprobs[TOP_LOGPROBS] = -1.5; // ours is −1
  const theirs = { logprobs, likeliest: Int32Array.of(0, 77), likeliestLogprobs: Float32Array.of(-1, -1.25) };
  const expected = { largestDifference: 0.5, meanDifference: 0.5 / (2 * TOP_LOGPROBS), largestPreference: 0.25 };
  assert.equal(compare(ours(), theirs), { positions: 2, top1: 0.5, ...expected });
});

benchPeers('what is no number is no agreement', () => {
  const logprobs = ours().logprobs.slice();
  logprobs[3] = NaN;
  const theirs = { logprobs, likeliest: Int32Array.of(0, 0), likeliestLogprobs: Float32Array.of(-1, -1) };
  assert.ok(Number.isNaN(compare(ours(), theirs).largestDifference));
});

// node-llama-cpp, where it is installed

const installed = findNodeLlama(PEERS) !== undefined;

/** A test that needs node-llama-cpp. */
function withPeer(name: string, test: () => Promise<void>): void {
  if (installed) benchPeers(name, test);
  else {
    console.log(`SKIP ${name}: node-llama-cpp is not installed in bench/peers`);
    benchPeers.skip(name);
  }
}

for (const mode of ['evaluate', 'lockstep'] as const) {
  withPeer(`node-llama-cpp does the work it is given, in every round: ${mode}`, async () => {
    const model = join(root, 'tales.gguf');
    await writeGguf(TALES, model, 'q8_0');
    const context = PEER_CONTEXT + 8;
    const contender = await openNodeLlama({ model, threads: 1, concurrency: 2, requests, from: PEERS, mode, context });
    try {
      for (let round = 0; round < 2; round++) checkRound(await contender.play());
    } finally {
      await contender.close();
    }
  });
}

withPeer('node-llama-cpp computes what we compute: tales, along 2,112 positions', async () => {
  const { code, stderr, record } = await runBench<AgreementResult>(peers, ['--agreement']);
  assert.equal([code, stderr], [0, '']);
  const [f32, bits16, bits8] = record.results;
  assert.equal([f32!.weights, bits16!.weights, bits8!.weights], ['32 bit', '16 bit', '8 bit']);
  assert.ok(f32!.positions >= 2000);
  // Measured on an x64 machine with AMX, 2026-11: 1 and 0.00003; 0.995 and 0.064; 0.986 and 0.45.
  assert.ok(f32!.top1 >= 0.999 && f32!.largestDifference < 0.0002, JSON.stringify(f32));
  assert.ok(bits16!.top1 >= 0.99 && bits16!.largestDifference < 0.2, JSON.stringify(bits16));
  assert.ok(bits8!.top1 >= 0.95 && bits8!.largestDifference < 1.5, JSON.stringify(bits8));
});

withPeer('node-llama-cpp computes what we compute: scaled rotations, biases, norms of q and k', async () => {
  const models = ['tiny-llama', 'tiny-qwen2', 'tiny-qwen3'];
  const args = ['--agreement', '--models', models.join(), '--weights', '32'];
  const { code, stderr, record } = await runBench<AgreementResult>(peers, args);
  assert.equal([code, stderr], [0, '']);
  assert.equal(record.results.map(({ model }) => model), models.map((name) => `${name} (synthetic)`));
  for (const one of record.results) {
    // Measured likewise: 1 and 0.000005.
    assert.ok(one.top1 >= 0.999 && one.largestDifference < 0.0001, JSON.stringify(one));
  }
});

const shared = fileURLToPath(new URL('../../../shared/models/stories260K/hf/', import.meta.url));
const stories = 'node-llama-cpp computes what we compute: stories260K, along 2,112 positions';
if (existsSync(shared)) {
  withPeer(stories, async () => {
    const args = ['--agreement', '--models', shared, '--weights', '32,16'];
    const { code, stderr, record } = await runBench<AgreementResult>(peers, args);
    assert.equal([code, stderr], [0, '']);
    const [f32, bits16] = record.results;
    // Measured likewise: 1 and 0.00005; 0.993 and 0.36.
    assert.ok(f32!.top1 >= 0.999 && f32!.largestDifference < 0.0005, JSON.stringify(f32));
    assert.ok(bits16!.top1 >= 0.99 && bits16!.largestDifference < 1, JSON.stringify(bits16));
  });
} else {
  console.log(`SKIP ${stories}: ../shared/models/stories260K is not here`);
  benchPeers.skip(stories);
}

// transformers: the script is not run, only how it is spoken to

const python = spawnSync('python3', ['--version']).status === 0;

function withPython(name: string, test: () => Promise<void>): void {
  if (python) benchPeers(name, test);
  else {
    console.log(`SKIP ${name}: python3 is not here`);
    benchPeers.skip(name);
  }
}

function fakeScript(name: string, text: string): string {
  const from = join(root, name);
  mkdirSync(from);
  writeFileSync(join(from, 'transformers_peer.py'), text);
  return from;
}

const FAKE = `import json, sys
setting = json.loads(sys.stdin.readline())
assert setting["mode"] == "generate" and len(setting["warmUp"]) == 2 and "from" not in setting
print(json.dumps({"version": "fake"}), flush=True)
for line in sys.stdin:
    counts = [one["outputTokens"] for one in setting["requests"]]
    print(json.dumps({"ms": 5, "ttftMs": [1] * len(counts), "outputTokens": counts}), flush=True)
`;

const asked = { model: 'm', device: 'cuda', threads: 1, concurrency: 2, context: 64, requests, mode: 'generate' } as const;

withPython('transformers is told the setting once, and then asked for round after round', async () => {
  const contender = await openTransformers({ ...asked, from: fakeScript('fake', FAKE) });
  for (let round = 0; round < 2; round++) checkRound(await contender.play());
  await contender.close();
});

withPython('a script that ends is an error', async () => {
  const from = fakeScript('ending', 'import sys; sys.stdin.readline(); sys.exit(3)');
  const error: unknown = await openTransformers({ ...asked, from }).catch((one: unknown) => one);
  assert.match((error as Error).message, /transformers_peer\.py ended with exit code 3/);
});

withPython('the script is Python', async () => {
  const compile = 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")';
  const { status, stderr } = spawnSync('python3', ['-c', compile, join(PEERS, 'transformers_peer.py')], { encoding: 'utf8' });
  assert.equal([status, stderr], [0, '']);
});

benchPeers.run();
