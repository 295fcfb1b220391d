// Timeout: 300 s
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../src/addon.ts';
import { withoutControls } from '../src/cli/command.ts';
import { readFlags, toOptions, UsageError } from '../src/flags.ts';
import { drawPicture, LivePicture } from '../src/cli/picture.ts';
import { heavyTail } from '../src/cli/workload.ts';
import { Engine } from '../src/engine.ts';
import type { StepRecord } from '../src/loop/loop.ts';
import { TALES } from './fake/tokenizers.ts';
import { scaleRecord } from './report/fake/records.ts';

const cli = suite('Command line');

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'baton-cli-'));
cli.after(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `baton` without a terminal, with `input` on stdin. */
function baton(args: readonly string[], input = '', environment: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { ...process.env, ...environment };
    const child = spawn(process.execPath, ['--import', 'tsx', MAIN, ...args], { env });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('close', (code) => resolve({ code, stdout, stderr }));
    child.stdin.on('error', () => {}); // it may end before it has read everything
    child.stdin.end(input);
  });
}

cli('explains itself, each command, and its version', async () => {
  const commands = ['demo', 'generate', 'chat', 'info', 'bench', 'report', 'build'];
  const benches = ['relay', 'scale'].map((name) => ['bench', name, '--help']);
  for (const args of [['--help'], ['help'], ...commands.map((name) => [name, '--help']), ...benches]) {
    const { code, stdout, stderr } = await baton(args);
    assert.equal([code, stderr], [0, '']);
    assert.match(stdout, /^(baton:|Usage: baton )/);
  }
  assert.match((await baton(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

cli('answers wrong usage with exit code 2, on stderr alone', async () => {
  const wrong: readonly [string[], RegExp][] = [
    [[], /Usage: baton COMMAND/],
    [['generat'], /unknown command "generat"; did you mean generate\?/],
    [['generate', '--promt', 'x'], /unknown option --promt; did you mean --prompt\?/],
    [['generate'], /expected --prompt or --prompts, got neither/],
    [['generate', '--prompt', 'x', '--prompts', 'y'], /got both/],
    [['generate', '--prompt', 'x', '--max-tokens', 'many'], /--max-tokens: expected a number, got "many"/],
    [['generate', '--prompt', 'x', '--rows', '0'], /rows: expected an integer from 1 to 1024, got 0/],
    [['generate', '--prompt', 'x', 'y'], /argument 'y'/],
    [['generate', '--prompts', join(folder, 'none')], /expected a file that can be read/],
    [['demo', '--requests', '0'], /--requests: expected an integer from 1/],
    [['demo', '--policy', 'static'], /unknown option --policy/],
    [['bench'], /expected .*relay.*, got nothing/],
    [['bench', 'rely'], /unknown command "rely"; did you mean relay\?\n/],
    [['bench', 'relay', '--row', '4'], /unknown option --row; did you mean --rows\?/],
    [['bench', 'relay', '--workloads', 'chatt'], /--workloads: expected uniform, .*got "chatt"; did you mean chat\?/],
    [['bench', 'scale', '--lines', 'tick,tock'], /--lines: expected tick, context, arena, requests, got "tock"/],
    [['report'], /expected files of results, got none/],
    [['report', join(folder, 'none.json')], /none\.json: expected a file that can be read/],
    [['report', '--ot', 'x'], /unknown option --ot; did you mean --out\?/],
    [['build', '--cuda', 'maybe'], /--cuda: expected auto, on or off, got "maybe"/],
  ];
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await baton(args);
    assert.equal([code, stdout], [2, ''], args.join(' '));
    assert.match(stderr, message);
    assert.not.match(stderr, /\n {4}at /, 'no stack');
  }
});

cli('says which line of a file of prompts is wrong', async () => {
  const path = join(folder, 'wrong.jsonl');
  const check = async (text: string, message: RegExp) => {
    writeFileSync(path, text);
    const { code, stderr } = await baton(['generate', '--prompts', path]);
    assert.is(code, 2);
    assert.match(stderr, message);
  };
  await check('"fine"\n{', /line 2: expected JSON/);
  await check('\n7', /line 2: expected a text or an object/);
});

cli('makes a page of files of results, in a folder that is not there yet', async () => {
  const record = join(folder, 'scale.json');
  writeFileSync(record, JSON.stringify(scaleRecord()));
  const page = join(folder, 'pages', 'report.html');
  const { code, stdout, stderr } = await baton(['report', record, '--out', page]);
  assert.equal([code, stderr], [0, '']);
  assert.match(stdout, /report\.html: \d+ KiB\n$/);
  assert.match(readFileSync(page, 'utf8'), /^<!doctype html>[^]*scale\.json[^]*<\/html>\n$/);
});

cli('fails with exit code 1 where there is no model, and shows the stack only when debugging', async () => {
  const args = ['generate', '--prompt', 'x', '--model', join(folder, 'none')];
  const { code, stdout, stderr } = await baton(args);
  assert.equal([code, stdout], [1, '']);
  assert.match(stderr, /^baton: .*\(MODEL_NOT_FOUND\)\n$/);
  assert.match((await baton(args, '', { BATON_DEBUG: '1' })).stderr, /\n {4}at /);
});

cli('reads flags into options of the library', () => {
  const flags = {
    'max-tokens': { type: 'number', help: '' },
    stop: { type: 'texts', help: '' },
    'ignore-eos': { type: 'switch', help: '' },
    prompt: { type: 'text', help: '' },
  } as const;
  const args = ['--max-tokens', '1e2', '--stop', 'a', '--stop', 'b', '--ignore-eos', '--prompt=--x'];
  const values = readFlags(args, flags);
  assert.equal(toOptions(values, flags), { maxTokens: 100, stop: ['a', 'b'], ignoreEos: true, prompt: '--x' });
  assert.equal(toOptions(readFlags([], flags), flags), {});
  assert.throws(() => readFlags(['--max-tokens='], flags), (error: unknown) => error instanceof UsageError);
  assert.throws(() => readFlags(['--prompt'], flags), (error: unknown) => error instanceof UsageError);
});

cli('makes the same requests from the same seed, of very different lengths', () => {
  assert.equal(heavyTail(50, 7), heavyTail(50, 7));
  assert.not.equal(heavyTail(50, 7), heavyTail(50, 8));
  const lengths = heavyTail(1000, 7).map(({ maxTokens = 0 }) => maxTokens).sort((a, b) => a - b);
  const [p10 = 0, p50 = 0, p90 = 0] = [lengths[100], lengths[500], lengths[900]];
  assert.ok(p50 > 35 && p50 < 45 && p90 / p50 > 3.5 && p50 / p10 > 3.5, `${p10} ${p50} ${p90}`);
});

function record(ms: number, rows: number[]): StepRecord {
  return { step: 0, ms, rows: Int32Array.from(rows), chunkTokens: 0 };
}

cli('draws a sign per request, finished rows hatched, empty rows dotted, steps as long as they took', () => {
  const records = [record(10, [0, 1]), record(20, [0, -3]), record(10, [2, -1])];
  const style = { columns: 5, msPerColumn: 10, color: false };
  assert.equal(drawPicture(records, 2, style), ['AAAC ', 'B░░· ']);
  assert.equal(drawPicture(records, 2, { ...style, columns: 2, msPerColumn: 15 }), ['AA', 'B░']);
  assert.equal(drawPicture([], 1, style), ['     ']);
});

cli('draws in colour, one per request, and resets it at the end of each line', () => {
  const records = [record(20, [0]), record(10, [17]), record(10, [-2])];
  const [line = ''] = drawPicture(records, 1, { columns: 4, msPerColumn: 10, color: true });
  assert.is(line.replace(/\x1b\[[0-9;]*m/g, ''), '███░');
  const colors = [...line.matchAll(/38;5;(\d+)/g)].map(([, color]) => color);
  assert.is(colors.length, 3);
  assert.is.not(colors[0], colors[1]);
  assert.is(colors[0], colors[2]);
  assert.ok(line.endsWith('\x1b[0m'));
});

cli('keeps control characters of a model away from the terminal', () => {
  assert.is(withoutControls('a\x1b[2Jb\x07\r\n\tc\x9bd'), 'a\uFFFD[2Jb\uFFFD\uFFFD\n\tc\uFFFDd');
});

cli('redraws a growing picture in place, in longer columns when the line is full', () => {
  const written: string[] = [];
  const write = (text: string) => written.push(text);
  const picture = new LivePicture({ rows: 2, columns: 10, color: false, msPerColumn: 1, write });
  for (let i = 0; i < 40; i++) picture.add(record(10, [i % 3, -1]));
  picture.draw();
  assert.is(picture.msPerColumn, 64);
  assert.ok(written.length > 2 && written.length < 10);
  assert.not.match(written[0] ?? '', /\x1b\[\d+A/);
  for (const frame of written.slice(1)) assert.match(frame, /^\x1b\[2A\r/);
});

function addonProblem(): string | undefined {
  try {
    loadAddon();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const problem = addonProblem();
if (problem !== undefined) console.log(`SKIP commands that need the addon: ${problem}`);
const native = problem === undefined ? cli : cli.skip;

const SAMPLED = ['--max-tokens', '30', '--temperature', '0.8', '--top-p', '0.95', '--seed', '7'];
const SAMPLING = { maxTokens: 30, temperature: 0.8, topP: 0.95, seed: 7 };

native('generates what the library generates, as text and as JSON', async () => {
  await using engine = await Engine.load(TALES);
  const expected = await engine.complete({ prompt: 'Once upon a time', ...SAMPLING });
  const args = ['generate', '--prompt', 'Once upon a time', ...SAMPLED];
  const plain = await baton(args);
  assert.equal([plain.code, plain.stdout, plain.stderr], [0, `${expected.text}\n`, '']);

  const { code, stdout } = await baton([...args, '--json']);
  assert.is(code, 0);
  const document = JSON.parse(stdout) as typeof expected;
  assert.equal({ ...document, timings: null }, { ...expected, timings: null });
  assert.equal(Object.keys(document.timings), ['queuedMs', 'ttftMs', 'totalMs']);
});

native('runs a file of prompts through the batch, answers in order, with errors in their place', async () => {
  const path = join(folder, 'prompts.jsonl');
  const own = [{ prompt: 'Once' }, { prompt: 'The fox', maxTokens: 60 }, null, { prompt: 'A king', seed: 9 }];
  const prompts = own.map((options) => options ?? { prompt: 'x', maxTokens: 100_000 });
  writeFileSync(path, `"Once"\n${prompts.slice(1).map((prompt) => JSON.stringify(prompt)).join('\n')}\n\n`);
  const args = ['generate', '--prompts', path, ...SAMPLED, '--rows', '2'];
  const { code, stdout } = await baton(args);
  assert.is(code, 1, 'one of them failed');
  const answers = stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.is(answers.length, 4);
  assert.is((answers[2]?.['error'] as { code: string }).code, 'TOO_LONG');

  await using engine = await Engine.load(TALES);
  for (const [i, options] of own.entries()) {
    if (options === null) continue;
    assert.is(answers[i]?.['text'], (await engine.complete({ ...SAMPLING, ...options })).text);
  }
  const list = JSON.parse((await baton([...args, '--json'])).stdout) as Record<string, unknown>[];
  assert.equal(list.map(({ text }) => text), answers.map(({ text }) => text));
});

native('chats line by line, remembers the conversation, forgets it on /reset', async () => {
  const args = ['chat', '--json', ...SAMPLED];
  const { code, stdout } = await baton(args, 'Once upon a time\nand then\n/reset\nOnce upon a time\n');
  assert.is(code, 0);
  const { turns } = JSON.parse(stdout) as { turns: { user: string; text: string; usage: { promptTokens: number } }[] };
  assert.equal(turns.map(({ user }) => user), ['Once upon a time', 'and then', 'Once upon a time']);
  assert.ok((turns[1]?.usage.promptTokens ?? 0) > (turns[0]?.usage.promptTokens ?? 0) + 20);
  assert.is(turns[2]?.text, turns[0]?.text);
  const plain = await baton(['chat', ...SAMPLED], 'Once upon a time\n/exit\nnever\n');
  assert.equal([plain.code, plain.stdout], [0, `${turns[0]?.text}\n`]);
});

native('forgets the oldest turns when the context is full', async () => {
  const line = 'Tell me of the king and of his three daughters, and of the wolf.\n';
  const args = ['chat', '--json', '--max-context', '128', '--max-tokens', '40', '--ignore-eos', '--seed', '1'];
  const { code, stdout } = await baton(args, line.repeat(4));
  assert.is(code, 0);
  const { turns } = JSON.parse(stdout) as { turns: { usage: { promptTokens: number } }[] };
  assert.is(turns.length, 4);
  assert.ok(turns.every(({ usage }) => usage.promptTokens <= 88));
});

native('goes on chatting after a turn that cannot be answered', async () => {
  const args = ['chat', '--json', '--max-context', '64', '--max-tokens', '5', '--seed', '1'];
  const { code, stdout, stderr } = await baton(args, `${'and then '.repeat(100)}\nOnce\n`);
  assert.is(code, 0);
  assert.match(stderr, /expected/);
  const { turns } = JSON.parse(stdout) as { turns: { user: string }[] };
  assert.equal(turns.map(({ user }) => user), ['Once']);
});

native('refuses wrong options before the first turn of a chat', async () => {
  const { code, stdout, stderr } = await baton(['chat', '--temperature', '5'], 'Once\n');
  assert.equal([code, stdout], [2, '']);
  assert.match(stderr, /temperature: expected a number from 0 to 2, got 5/);
});

cli('says what is missing to build the addon, and what it is called elsewhere', async () => {
  const { code, stdout, stderr } = await baton(['build', '--out', folder], '', { PATH: folder, CXX: '' });
  assert.equal([code, stdout], [1, '']);
  assert.match(stderr, /^baton: CMake, Ninja or make, a C\+\+ compiler not found/);
  for (const system of ['Debian', 'Fedora', 'macOS']) assert.match(stderr, system);
});

native('tells what is there', async () => {
  const { code, stdout } = await baton(['info']);
  assert.is(code, 0);
  for (const word of ['baton', 'addon', 'cpu', 'cuda', 'memory']) assert.match(stdout, new RegExp(`^${word} `, 'm'));
  const asJson = (await baton(['info', '--json'])).stdout;
  const document = JSON.parse(asJson) as {
    addon: { path: string; source: string };
    devices: { isas: string[] }[];
  };
  assert.match(document.addon.path, /\.node$/);
  assert.match(document.addon.source, /^(build|prebuild|BATON_LLM_PREBUILD)$/);
  assert.ok((document.devices[0]?.isas.length ?? 0) > 0);
});

native('demonstrates: pictures, tales and a table as plain lines, and every tale as it is alone', async () => {
  const { code, stdout } = await baton(['demo', '--requests', '12', '--rows', '4']);
  assert.is(code, 0, stdout);
  assert.not.match(stdout, /\x1b/);
  for (const policy of ['static', 'relay']) {
    assert.match(stdout, new RegExp(`^${policy}: rows × time\n([A-Za-z0-9░· ]+\n){4}`, 'm'));
    assert.match(stdout, new RegExp(`^${policy} +[\\d.]+ +\\d+ +[\\d.]+ %.* identical$`, 'm'));
  }
});

native('demonstrates as one JSON document', async () => {
  const { code, stdout } = await baton(['demo', '--requests', '12', '--rows', '4', '--json']);
  assert.is(code, 0);
  const document = JSON.parse(stdout) as { results: Record<string, unknown>[] } & Record<string, unknown>;
  assert.equal(Object.keys(document), ['commit', 'machine', 'device', 'model', 'seed', 'results']);
  assert.equal([document['device'], document['model'], document['seed']], ['cpu', 'tales', 7]);
  assert.equal(document.results.map(({ policy }) => policy), ['static', 'relay']);
  const names = ['policy', 'workload', 'rows', 'requests', 'seconds', 'requestsPerSecond', 'outputTokensPerSecond'];
  for (const result of document.results) {
    assert.equal(Object.keys(result), [...names, 'idle', 'ttftMs', 'itlMs', 'e2eMs', 'kv', 'identical']);
    assert.is(result['identical'], true);
    assert.equal(Object.keys(result['ttftMs'] as object), ['mean', 'p50', 'p90', 'p99']);
  }
  const [first, second] = document.results.map(({ idle }) => (idle as { share: number }).share);
  assert.ok((second ?? 1) < (first ?? 0), 'relay wastes less than static');
});

native('runs an experiment and prints one record as JSON', async () => {
  const { code, stdout } = await baton(['bench', 'scale', '--quick', '--lines', 'requests', '--requests', '50', '--json']);
  assert.is(code, 0);
  const document = JSON.parse(stdout) as { experiment: string; command: string; results: { x: number }[] };
  assert.equal([document.experiment, document.results.map(({ x }) => x)], ['scale', [50]]);
  assert.is(document.command, 'baton bench scale --quick --lines requests --requests 50 --json');
});

cli('gives the same tokens however often requests are preempted', async () => {
  const path = join(folder, 'preempted.jsonl');
  writeFileSync(path, ['"Once upon a time"', '"There was a king who"', '"The fox"'].join('\n'));
  const args = ['generate', '--prompts', path, '--max-tokens', '40', '--seed', '7', '--json'];
  const [plain, preempted] = await Promise.all([baton(args), baton(args, '', { BATON_PREEMPT_EVERY: '3', BATON_TRACE: '1' })]);
  assert.equal([plain.code, preempted.code], [0, 0]);
  assert.match(preempted.stderr, /preemptions [1-9]/);
  const tokens = ({ stdout }: Outcome) => (JSON.parse(stdout) as { tokens: number[] }[]).map((one) => one.tokens);
  assert.is(tokens(plain).length, 3);
  assert.equal(tokens(preempted), tokens(plain));
});

cli.run();
