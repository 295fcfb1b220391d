// Deletes every barrier and every wait of the CUDA backend in turn, and sees whether the tests of its ops notice:
//
//   node scripts/mutate.mjs [--shard 1/4] [--only TEXT] [--out DIR] [--compiler g++]
//
// All mutants are one program: every `__syncthreads();` becomes `{ if (mutant(7)) __syncthreads(); }`, and an
// environment variable says which of them is deleted. It is built twice on the emulator, plainly and with ThreadSanitizer. A first
// run tells which cases come past which mutant; each mutant then runs some of its own, under one schedule after another
// until one notices: a wrong answer, a fault of the emulator, a hang, a data race. A mutant that nothing can notice
// carries its reason in the source, as `// survives: why` on the same line or the one above; any other that survives
// is a failure.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    shard: { type: 'string', default: '1/1' },
    only: { type: 'string', default: '' },
    out: { type: 'string', default: 'build/mutate' },
    compiler: { type: 'string', default: 'g++' },
  },
});
const [, shard, shards] = /^(\d+)\/(\d+)$/.exec(options.shard)?.map(Number) ?? [];
if (!(shard >= 1 && shard <= shards)) throw new Error(`--shard: expected 1/4 or the like, got ${options.shard}`);

const JOBS = Math.min(availableParallelism(), 4);
const TREE = join(options.out, 'native');
/** Wrappers of single instructions, and what measures the device: nothing there is a barrier of an op. */
const LEFT_ALONE = ['mma.cuh', 'hopper.cuh', 'ceiling.cu'];
const BARRIER = new RegExp(
  String.raw`\b(?:__syncthreads\(\)|__syncwarp\([^;()]*\)|(?:copy_async_wait|products_wait)<[^;]*>\(\)|` +
    String.raw`products_fence\(\)|tiles_fence\(\)|barrier_init_fence\(\)|barrier_wait\([^;]*\)|` +
    String.raw`(?:(?:CUDA_CHECK|check)\()?cuda(?:Stream|Event|Device)(?:Synchronize|WaitEvent)\([^;]*\));`,
  'g',
);
/** Both of the backend's ways to multiply and to attend, and how a plain run and a race check are scheduled, the likeliest first. */
const DEVICES = ['cuda-emu', 'cuda-emu:8.0'];
const PLAIN = [['forward', 'deferred'], ['reverse', 'eager'], ['random', 'deferred']];
const RACES = [['forward', 'eager']];
const PLAIN_SECONDS = 3; // of cases, under one schedule
const RACE_SECONDS = 0.15; // of cases, as long as they take without the race check
const HANG_SECONDS = 120;

function filesOf(folder, pattern, recursive = false) {
  return readdirSync(folder, { recursive }).filter((file) => pattern.test(file)).map((file) => join(folder, file));
}

/** Rewrites the copy of the sources; the mutants, each with its place. */
function mutate() {
  rmSync(TREE, { recursive: true, force: true });
  cpSync('native', TREE, { recursive: true });
  const mutants = [];
  for (const path of filesOf(join(TREE, 'cuda'), /\.(cu|cuh|cpp|h)$/)) {
    if (LEFT_ALONE.includes(basename(path))) continue;
    const lines = readFileSync(path, 'utf8').split('\n');
    const changed = lines.map((line, i) => {
      const comment = line.indexOf('//');
      return line.replace(BARRIER, (statement, offset) => {
        if (comment >= 0 && offset > comment) return statement;
        const reason = /\/\/ survives: (.*)/.exec(line)?.[1] ?? /^\s*\/\/ survives: (.*)/.exec(lines[i - 1] ?? '')?.[1];
        const id = mutants.push({ file: basename(path), line: i + 1, statement: statement.slice(0, -1), reason });
        return `{ if (::baton::mutant(${id})) ${statement} }`;
      });
    });
    writeFileSync(path, changed.join('\n'));
  }
  // Not counted under the race check, which would take the count for a race of its own.
  writeFileSync(
    join(options.out, 'mutant.h'),
    `#pragma once
namespace baton {
extern int deleted;
extern unsigned long reached[${mutants.length + 1}];
inline bool mutant(int id) {
#if !defined(__SANITIZE_THREAD__)
  reached[id]++;
#endif
  return id != deleted;
}
}
`,
  );
  writeFileSync(
    join(TREE, 'ops', 'mutant.cpp'),
    `#include <cstdio>
#include <cstdlib>
namespace baton {
unsigned long reached[${mutants.length + 1}];
struct Report {
  ~Report() {
    for (int id = 1; id <= ${mutants.length}; id++) if (reached[id]) printf("reached %d %lu\\n", id, reached[id]);
  }
} report;
int deleted = getenv("BATON_MUTANT") ? atoi(getenv("BATON_MUTANT")) : 0;
}
`,
  );
  return mutants;
}

/** Runs a program; its output up to the first line that `stop` likes. */
function run(command, args, { env = {}, stop = () => false, seconds = 600 } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let ended = '';
    const end = (why) => {
      ended ||= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => end('hangs'), seconds * 1000);
    const take = (chunk) => {
      output += chunk;
      if (stop(output)) end('stopped');
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ output, code, signal, ended });
    });
  });
}

/** Calls work(item) for all items, JOBS at a time. */
async function forEach(items, work) {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: JOBS }, async () => {
      while (queue.length > 0) await work(queue.shift());
    }),
  );
}

/** Builds ops; objects whose sources are what they were are kept. */
async function build(name, sanitizer) {
  const folder = join(options.out, name);
  mkdirSync(folder, { recursive: true });
  const headers = createHash('sha256');
  const headerFiles = [...filesOf(TREE, /\.(h|cuh|inl)$/, true).sort(), join(options.out, 'mutant.h')];
  for (const path of headerFiles) headers.update(readFileSync(path));
  const common = headers.digest('hex');
  const objects = [];
  const stale = [];
  const parts = { core: /\.cpp$/, cpu: /\.cpp$/, cuda: /\.(cpp|cu)$/, emulator: /\.cpp$/, ops: /\.cpp$/ };
  const sources = Object.entries(parts).flatMap(([part, pattern]) => {
    return filesOf(join(TREE, part), pattern).map((path) => [part, path]);
  });
  for (const [part, path] of sources) {
    const flags = ['-std=c++20', '-O1', '-ffp-contract=off', '-w', `-I${TREE}`, `-I${TREE}/emulator/include`];
    flags.push('-DBATON_EMULATOR', '-include', join(options.out, 'mutant.h'));
    if (part !== 'core' && part !== 'cpu') flags.push(...sanitizer);
    if (sanitizer.length > 0) flags.push('-g1');
    const hash = createHash('sha256').update(common).update(readFileSync(path)).update(flags.join(' '));
    const object = join(folder, `${hash.digest('hex').slice(0, 24)}.o`);
    objects.push(object);
    if (!existsSync(object)) stale.push([...flags, '-x', 'c++', '-c', path, '-o', object]);
  }
  await forEach(stale, async (args) => {
    const { code, output } = await run(options.compiler, args);
    if (code !== 0) throw new Error(output);
  });
  const program = join(folder, 'ops');
  const { code, output } = await run(options.compiler, [...objects, ...sanitizer, '-pthread', '-o', program]);
  if (code !== 0) throw new Error(output);
  return program;
}

/** What `program` says of one op's cases with one mutant deleted; undefined if nothing. */
async function notices(program, id, { device, op, cases }, [order, async]) {
  const args = ['test', '--quick', '--seed', '1', '--device', device, '--op', op];
  args.push('--schedule', order, '--async', async);
  for (const name of cases) args.push('--case', name);
  const { output, code, signal, ended } = await run(program, args, {
    env: { BATON_MUTANT: String(id), TSAN_OPTIONS: 'halt_on_error=1:exitcode=66' },
    stop: (text) => /^FAIL .*\n/m.test(text),
    seconds: HANG_SECONDS,
  });
  if (ended === 'hangs') return `${op} hangs`;
  const line = /^FAIL (.*)/m.exec(output) ?? /^(?:emulator: .*|SUMMARY: .*)/m.exec(output);
  if (line) return line[0];
  return code === 0 ? undefined : `${op} ends with ${signal ?? code}: ${output.trim().split('\n').at(-1)}`;
}

/** Cases that come past a mutant and take no longer than `seconds` together: the quickest of each op, if `broad`; then in
 * turn the one that does most often for its time, and the one that does so most often. */
function some(cases, id, seconds, broad) {
  const slowestFirst = [...cases].sort((a, b) => b.seconds - a.seconds);
  const ofEachOp = broad ? [...new Map(slowestFirst.map((one) => [one.op, one])).values()] : [];
  const dense = [...cases].sort((a, b) => b.reached.get(id) / b.seconds - a.reached.get(id) / a.seconds);
  const often = [...cases].sort((a, b) => b.reached.get(id) - a.reached.get(id));
  const chosen = [];
  for (const one of [...ofEachOp, ...dense.flatMap((first, i) => [first, often[i]])]) {
    if (chosen.includes(one) || (chosen.length > 0 && one.seconds > seconds)) continue;
    chosen.push(one);
    seconds -= one.seconds;
  }
  return chosen;
}

/** Those cases by device and op. */
function together(cases) {
  const groups = new Map();
  for (const { device, op, name } of cases) {
    const key = `${device} ${op}`;
    if (!groups.has(key)) groups.set(key, { device, op, cases: [] });
    groups.get(key).cases.push(name);
  }
  return [...groups.values()];
}

/** Every quick case with the mutants it comes past and the seconds it takes. */
async function survey(program) {
  const { output } = await run(program, ['list']);
  const rows = output.split('\n').slice(1).map((line) => /^(\S+) +quick +\S+ +\S+ {2}(.*)$/.exec(line));
  const wanted = DEVICES.flatMap((device) => rows.filter(Boolean).map(([, op, name]) => ({ device, op, name })));
  const isOther = ({ op, name }) => /^(matmul|attention)/.test(op) && !name.endsWith('f32'); // than on the first device
  const cases = wanted.filter((one) => one.device === DEVICES[0] || isOther(one));
  await forEach(cases, async (one) => {
    const args = ['test', '--quick', '--seed', '1', '--device', one.device, '--op', one.op, '--case', one.name];
    const begin = performance.now();
    const { output: said, code } = await run(program, [...args, '--schedule', 'reverse', '--async', 'eager']);
    if (code !== 0) throw new Error(`nothing deleted, and yet:\n${said}`);
    one.seconds = (performance.now() - begin) / 1000;
    const lines = [...said.matchAll(/^reached (\d+) (\d+)$/gm)];
    one.reached = new Map(lines.map(([, id, times]) => [Number(id), Number(times)]));
  });
  return cases;
}

const begin = performance.now();
const spent = () => `${((performance.now() - begin) / 1000).toFixed(0)} s`;
mkdirSync(options.out, { recursive: true });
const mutants = mutate();
const plain = await build('plain', []);
const races = await build('thread', ['-fsanitize=thread']);
console.log(`${mutants.length} mutants built after ${spent()}`);
const cases = await survey(plain);
console.log(`${cases.length} cases surveyed after ${spent()}`);

const counts = { passed: 0, failed: 0, skipped: 0 };
const clean = new Map(); // cases under the race check without a mutant, by what they are
await forEach([...mutants.entries()], async ([index, mutant]) => {
  const id = index + 1;
  const place = `${mutant.file}:${mutant.line} ${mutant.statement}`;
  if (index % shards !== shard - 1 || !place.includes(options.only)) return;
  if (mutant.reason) {
    counts.skipped++;
    console.log(`skip ${place}: survives: ${mutant.reason}`);
    return;
  }
  const own = cases.filter((one) => one.reached.has(id));
  const ways = [
    ...PLAIN.map((schedule) => ({ program: plain, how: schedule.join(' '), schedule, seconds: PLAIN_SECONDS })),
    ...RACES.map((schedule) => ({ program: races, how: 'races', schedule, seconds: RACE_SECONDS })),
  ];
  for (const { program, how, schedule, seconds } of own.length > 0 ? ways : []) {
    for (const group of together(some(own, id, seconds, program === plain))) {
      const noticed = await notices(program, id, group, schedule);
      if (noticed === undefined) continue;
      const key = `${how} ${JSON.stringify(group)}`;
      if (program === races && !clean.has(key)) clean.set(key, notices(program, 0, group, schedule));
      const without = await clean.get(key);
      if (without !== undefined) throw new Error(`nothing deleted, and yet: ${without}`);
      counts.passed++;
      console.log(`ok   ${place}: ${how}: ${noticed.slice(0, 160)}`);
      return;
    }
  }
  counts.failed++;
  console.log(`FAIL ${place}: ${own.length > 0 ? `not noticed by ${own.length} cases` : 'no case comes past it'}`);
});
console.log(`after ${spent()}`);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
