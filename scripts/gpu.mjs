// npm run gpu: everything that a GPU has to show, gathered into one JSON, with a short table last.
//
// On a GPU host without network, with the folder that `npm run bundle` made, one line does it all:
//
//   sh bundle/run --out results
//
//   --out FOLDER      where DATE-COMMIT-GPU.json and gpu.log go, and what g and h find as `baton bench` writes it, for
//                     `baton report`; default build/gpu
//   --seconds 520     for everything; a phase gets its share of what is left, so that what one saves the next ones have
//   --phases a,c,e    a environment  b ceilings  c conformance  d sanitizer  e end to end  f kernels  g policies
//                     h contenders; default all
//   --device cuda:0   default cuda
//   --seed 1
//   --rebuild         compile there even where the binaries that were brought run
//   --smoke           tiny, and by default on the CPU: to test this program where there is no GPU
//
// Each phase is passed, failed, skipped (it says why) or cut (by the time, with what it had). A phase that fails stops
// no other. Exit code 1 if one did, 2 for wrong usage. The card's settings are never touched.

import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** In order, with the seconds of each where all of them run. */
const PHASES = {
  a: { name: 'environment', seconds: 10, run: environment },
  b: { name: 'ceilings', seconds: 10, run: ceilings },
  c: { name: 'conformance', seconds: 60, run: conformance },
  d: { name: 'sanitizer', seconds: 80, run: sanitizer },
  e: { name: 'end-to-end', seconds: 50, run: endToEnd },
  f: { name: 'kernels', seconds: 60, run: kernels },
  g: { name: 'policies', seconds: 110, run: (limit) => experiments('relay', limit) },
  h: { name: 'contenders', seconds: 140, run: contenders },
};
const REBUILD_SHARE = 1 / 2; // of all the time, where the binaries that were brought do not run
const GRACE_SECONDS = 5; // that a program with a limit of its own gets to come to an end
const CUDA = '/usr/local/cuda/bin'; // where its tools usually are, if not in PATH
/** What nvidia-smi is asked. */
const FACTS =
  'name driver_version compute_cap memory.total memory.used clocks.sm clocks.max.sm clocks.mem clocks.max.mem ' +
  'power.limit temperature.gpu ecc.mode.current mig.mode.current';

/** Versions, and the cuBLASLt that PyTorch brought: what our products are held against where torch_bar.py runs. */
const PYTHON_FACTS = `import torch, transformers
library = [line.split()[-1] for line in open("/proc/self/maps") if "/libcublasLt.so" in line]
print(torch.__version__, transformers.__version__, *library[:1])`;

const root = fileURLToPath(new URL('..', import.meta.url));
const values = readFlags();
const { smoke, seed } = values;
const device = values.device ?? (smoke ? 'cpu' : 'cuda');
const onGpu = device.startsWith('cuda') && !device.startsWith('cuda-emu');
const seconds = Number(values.seconds ?? (smoke ? 110 : 520));
const chosen = values.phases.split(',');
const out = resolve(values.out);
const log = join(out, 'gpu.log');
const work = mkdtempSync(join(tmpdir(), 'baton-gpu-'));
const opsPath = join(root, 'build', 'Release', 'ops');
const addonPath = join(root, 'build', 'Release', 'baton.node');
const packed = join(root, 'bundle.json'); // only in a bundle: the commit, and when it was packed
const begin = performance.now();
let end = begin + 1000 * (seconds - GRACE_SECONDS);
let stopProgram; // ends the program that runs now
const secondsLeft = () => (end - performance.now()) / 1000;

/** The command line, checked. Ends the program where it is wrong. */
function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        out: { type: 'string', default: join(root, 'build', 'gpu') },
        seconds: { type: 'string' },
        phases: { type: 'string', default: Object.keys(PHASES).join() },
        device: { type: 'string' },
        seed: { type: 'string', default: '1' },
        rebuild: { type: 'boolean', default: false },
        smoke: { type: 'boolean', default: false },
      },
    });
    const { phases: keys, seconds: limit = '1', seed: number } = values;
    if (!keys.split(',').every((key) => Object.hasOwn(PHASES, key)))
      throw new Error(`--phases: expected letters from a to h, got ${keys}`);
    if (!(Number(limit) > 0)) throw new Error(`--seconds: expected a number above 0, got ${limit}`);
    if (!/^\d{1,9}$/.test(number)) throw new Error(`--seed: expected an integer from 0, got ${number}`);
    return values;
  } catch (error) {
    console.error(`gpu: ${error.message}`);
    process.exit(2);
  }
}

/** What cannot be done here, and why: neither passed nor failed. */
class Skip extends Error {}

// Programs

/**
 * Runs a program until it ends or its time is over, in a process group of its own. What it prints goes to the log.
 * A program that is not there is no exception: its code is null.
 */
function start(command, args, limit) {
  const env = { ...process.env, PATH: [dirname(process.execPath), process.env.PATH, CUDA].join(delimiter) };
  appendFileSync(log, `\n$ ${[command, ...args].join(' ')}\n`);
  return new Promise((done) => {
    const program = spawn(command, args, { cwd: root, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let cut = false;
    stopProgram = () => {
      cut = true;
      try {
        process.kill(-program.pid, 'SIGKILL');
      } catch {
        // it has just ended by itself
      }
    };
    const timer = setTimeout(stopProgram, 1000 * Math.max(0.1, limit));
    const take = (chunk) => {
      output += chunk;
      appendFileSync(log, chunk);
    };
    program.stdout.setEncoding('utf8').on('data', take);
    program.stderr.setEncoding('utf8').on('data', take);
    const finish = (code, missing) => {
      clearTimeout(timer);
      stopProgram = undefined;
      done({ code, output, cut, missing });
    };
    program.on('error', () => finish(null, true));
    program.on('close', (code) => finish(code, false));
  });
}

/** What a program prints, or undefined if it is not there or fails. */
async function ask(command, ...args) {
  const { code, output } = await start(command, args, Math.min(20, secondsLeft()));
  return code === 0 ? output.trim() : undefined;
}

function lastLine(output) {
  return output.trim().split('\n').at(-1) ?? '';
}

/** A program that writes its results to --json and keeps a limit of its own: its outcome, and what it wrote. */
async function startJson(command, args, limit) {
  const json = join(work, `${Math.random().toString(36).slice(2)}.json`);
  const outcome = await start(command, [...args, '--json', json], limit + GRACE_SECONDS);
  const written = existsSync(json) ? readFileSync(json, 'utf8') : '';
  return { ...outcome, json, data: written === '' ? undefined : JSON.parse(written) };
}

async function ops(verb, args, limit) {
  if (!existsSync(opsPath)) throw new Skip('build/Release/ops is not there');
  const given = [
    verb,
    '--device',
    device,
    '--seed',
    seed,
    '--seconds',
    String(Math.max(1, Math.floor(limit))),
    ...args,
  ];
  return startJson(opsPath, given, limit);
}

/** What Node is told to run a module: compiled in a bundle, through tsx in a checkout. */
function nodeArgs(module) {
  const compiled = join(root, `${module}.js`);
  return existsSync(compiled) ? [compiled] : ['--import', 'tsx', join(root, `${module}.ts`)];
}

// Phases: each answers with a note for the table, what failed if anything did, its data, and lines of figures

async function environment() {
  const nvcc = await ask('nvcc', '--version');
  const python = await ask('python3', '-c', PYTHON_FACTS);
  const [torch, transformers, torchLibrary] = python === undefined ? [] : lastLine(python).split(' ');
  const data = {
    gpu,
    nvcc: nvcc && /release (\S+),/.exec(nvcc)?.[1],
    torch,
    transformers,
    torchLibrary,
    glibc: process.report.getReport().header.glibcVersionRuntime,
    node: process.version,
    rebuilt: false,
    ...(await binaries()),
  };
  if ((values.rebuild || (!data.runs && onGpu === (gpu !== undefined))) && existsSync(packed)) {
    const problem = await rebuild();
    if (problem !== undefined)
      return { note: `the binaries were to be built here: ${data.reason ?? 'asked for'}`, problem, data };
    Object.assign(data, { reason: undefined, ...(await binaries()), rebuilt: true });
  }
  const facts = {
    driver: gpu?.driver_version,
    nvcc: data.nvcc,
    torch,
    transformers,
    glibc: data.glibc,
    node: data.node,
  };
  const known = Object.entries(facts).filter(([, version]) => version !== undefined);
  const note = [gpu?.name ?? device, ...known.map((fact) => fact.join(' ')), ...(data.rebuilt ? ['rebuilt'] : [])].join(
    ', ',
  );
  return { note, problem: data.runs ? undefined : data.reason, data };
}

/** Whether addon and ops run here and, if asked for a GPU, find one; and what the addon says of itself. */
async function binaries() {
  const load = `const { version, commit, cuda } = require(${JSON.stringify(addonPath)});
    console.log(JSON.stringify({ version, commit, cuda: cuda?.() ?? { devices: [], reason: 'no CUDA in it' } }));`;
  const loaded = await start(process.execPath, ['-e', load], 20);
  if (loaded.code !== 0)
    return { runs: false, reason: /^Error: .*$/m.exec(loaded.output)?.[0] ?? lastLine(loaded.output) };
  const addon = JSON.parse(lastLine(loaded.output));
  if (onGpu && addon.cuda.devices.length === 0) return { runs: false, reason: `addon: ${addon.cuda.reason}`, addon };
  const listed = existsSync(opsPath) ? await start(opsPath, ['list'], 20) : { code: 0 };
  if (listed.code !== 0) return { runs: false, reason: `ops: ${lastLine(listed.output)}`, addon };
  return { runs: true, addon };
}

/** Compiles addon and ops with this machine's own compilers; what went wrong, if anything did. */
async function rebuild() {
  const limit = secondsLeft() * REBUILD_SHARE;
  const folder = join(root, 'build', 'Rebuild');
  const release = dirname(addonPath);
  const configured = await start(
    'cmake',
    [
      ...['-S', root, '-B', folder, '-DCMAKE_BUILD_TYPE=Release', `-DBATON_CUDA=${onGpu ? 'ON' : 'OFF'}`],
      ...[`-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${release}`, `-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=${release}`],
    ],
    limit,
  );
  if (configured.missing) return 'cmake is not there';
  if (configured.cut) return `cmake: not ended after ${limit.toFixed(0)} s`;
  if (configured.code !== 0) return `cmake: ${firstError(configured.output)}`;
  const targets = ['--target', 'baton', 'ops', '--parallel', String(availableParallelism())];
  const built = await start('cmake', ['--build', folder, ...targets], limit);
  if (built.cut) return `cmake --build: not ended after ${limit.toFixed(0)} s`;
  return built.code === 0 ? undefined : `cmake --build: ${firstError(built.output)}`;
}

function firstError(output) {
  return output.match(/^.*\berror\b.*$/im)?.[0] ?? lastLine(output);
}

/** A bench measures them first, whatever its cases are. */
async function ceilings(limit) {
  const { data, output } = await ops('bench', ['--op', 'convert', '--quick'], limit);
  if (data?.ceilings === undefined) throw new Error(lastLine(output));
  const figures = Object.entries(data.ceilings).map(([name, value]) => `${name}: ${show(value)}`);
  return { note: `${figures.length} measured`, data: data.ceilings, figures };
}

const COUNTS = /^\d+ passed, \d+ failed, \d+ skipped$/m; // the last line of ops test

async function conformance(limit) {
  const { output, code, cut } = await ops('test', smoke ? ['--quick'] : [], limit);
  const counts = COUNTS.exec(output)?.[0];
  if (counts === undefined && !cut) throw new Error(lastLine(output));
  const failures = output.match(/^FAIL .*$/gm) ?? [];
  const failed = failures.length > 0 || (code !== 0 && !cut);
  const problem = failed ? failures.slice(0, 10).join('; ') || lastLine(output) : undefined;
  return { note: counts ?? `ended by force behind: ${lastLine(output)}`, problem, cut, data: { counts, failures } };
}

async function sanitizer(limit) {
  if (!onGpu) throw new Skip(`compute-sanitizer has nothing to look at on ${device}`);
  if (!existsSync(opsPath)) throw new Skip('build/Release/ops is not there');
  if ((await ask('compute-sanitizer', '--version')) === undefined)
    throw new Skip('compute-sanitizer does not run here');
  const until = performance.now() + 1000 * limit;
  const tools = ['memcheck', 'racecheck', 'synccheck'];
  const data = [];
  for (const [i, tool] of tools.entries()) {
    const share = Math.max(1, Math.floor((until - performance.now()) / 1000 / (tools.length - i)));
    const test = [opsPath, 'test', '--quick', '--device', device, '--seed', seed, '--seconds', String(share)];
    const args = ['--tool', tool, '--error-exitcode', '9', ...test];
    const { code, output, cut } = await start('compute-sanitizer', args, share + GRACE_SECONDS);
    const summary = /^=+ ((?:ERROR|RACECHECK) SUMMARY: .*)$/m.exec(output)?.[1] ?? lastLine(output);
    const verdict = cut ? 'not ended' : code === 0 ? 'clean' : 'FAILED';
    data.push({ tool, verdict, summary, counts: COUNTS.exec(output)?.[0] });
  }
  const failed = data.filter(({ verdict }) => verdict === 'FAILED');
  return {
    note: data.map(({ tool, verdict, counts }) => `${tool} ${verdict}${counts ? ` (${counts})` : ''}`).join(', '),
    problem: failed.map(({ tool, summary }) => `${tool}: ${summary}`).join('; ') || undefined,
    cut: data.some(({ verdict }) => verdict === 'not ended'),
    data,
  };
}

/** Failed if a check failed, cut if the time was over before the last. */
async function endToEnd(limit) {
  const given = ['--device', device, '--seed', seed, '--seconds', String(Math.max(1, Math.floor(limit)))];
  const some = smoke ? ['--schedules', '1', '--cases', '2'] : [];
  const args = [...nodeArgs('bench/gpu/end-to-end'), ...given, ...some];
  const { code, cut, output, data } = await startJson(process.execPath, args, limit);
  if (data === undefined) throw new Error(lastLine(output));
  const failed = data.checks.filter(({ ok }) => ok === false);
  const left = data.checks.filter(({ ok }) => ok === null).length;
  const passed = data.checks.length - failed.length - left;
  const killed = cut ? `, ended by force behind: ${lastLine(output)}` : '';
  const note = `${passed} passed, ${failed.length} failed, ${left} not tried${killed}`;
  let problem;
  if (failed.length > 0) problem = failed.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
  else if (code !== 0 && !cut) problem = lastLine(output);
  return { note, problem, cut: cut || left > 0, data };
}

/** Of each op the table has its longest case: the short ones measure launches. */
async function kernels(limit) {
  const args = smoke ? ['--quick'] : [];
  const library = phases.environment?.data?.torchLibrary;
  if (onGpu && library !== undefined) args.push('--cublaslt', library);
  const { data, output, code, cut } = await ops('bench', args, limit);
  if (data?.results === undefined) throw new Error(lastLine(output));
  const [, failed = '0', skipped = '0'] = /^\d+ timed, (\d+) failed, (\d+) skipped$/m.exec(output) ?? [];
  const longest = new Map();
  for (const result of data.results) {
    if (!(longest.get(result.op)?.microseconds >= result.microseconds)) longest.set(result.op, result);
  }
  const figures = [...longest].map(([op, { case: name, microseconds, shareOfCeiling, ceiling }]) => {
    const share = Number.isFinite(shareOfCeiling) ? `, ${(100 * shareOfCeiling).toFixed(1)} % of ${ceiling}` : '';
    return `${op}, ${name}: ${microseconds.toFixed(1)} µs${share}`;
  });
  const ratios = data.results.map(({ ratioToLibrary }) => ratioToLibrary).filter(Number.isFinite);
  ratios.sort((a, b) => a - b);
  if (ratios.length > 0) {
    const [least, middle, most] = [0, ratios.length >> 1, ratios.length - 1].map((i) => ratios[i].toFixed(2));
    figures.push(`${ratios.length} products take ${middle} x the time of ${data.library.name}, ${least} to ${most}`);
  } else if (onGpu) figures.push(`no library to compare products with: ${data.library.reason}`);
  const problem = Number(failed) > 0 || (code !== 0 && !cut) ? lastLine(output) : undefined;
  return { note: lastLine(output), problem, cut: cut || Number(skipped) > 0, data, figures };
}

/** Of `baton bench`, one command each: what has ended is in a file, whatever happens to the next. */
const EXPERIMENTS = smoke
  ? {
      relay: ['--model tiny-llama --workloads heavy-tail --contenders static,relay --rows 4 --requests 12 --rounds 1'],
      peers: ['--models tiny-llama --weights 16 --concurrency 2 --rounds 1 --contenders baton,generate,continuous'],
    }
  : {
      relay: [
        '--model Llama-3-8B --workloads heavy-tail --contenders static,orca,relay --rows 32 --context 1024 --rounds 1',
        '--model Llama-3-8B --workloads chat --contenders static,orca,relay --rows 32 --context 1024 --rounds 1',
        '--model Qwen2.5-0.5B --workloads heavy-tail --contenders static,orca,relay --rows 64 --context 1024 --rounds 2',
      ],
      peers: [
        '--models Llama-3.2-1B --weights 16 --concurrency 16 --seconds 10',
        '--models Llama-3.2-1B --weights 16 --concurrency 64 --seconds 10',
        '--models Llama-3.2-1B --weights 16 --concurrency 1 --seconds 10',
      ],
    };
const FIGURES = { relay: figureOfRelay, peers: figureOfPeer };

/** Runs each with its share of the time. One that fails is told, and the others go on. */
async function experiments(name, limit) {
  const until = performance.now() + 1000 * limit;
  const runs = EXPERIMENTS[name];
  const [results, problems] = [[], []];
  let cuts = 0;
  for (const [i, options] of runs.entries()) {
    const file = join(out, `${name}-${i + 1}.json`);
    rmSync(file, { force: true });
    const args = ['bench', name, '--device', device, '--seed', seed, '--out', file, ...options.split(' ')];
    const share = (until - performance.now()) / 1000 / (runs.length - i);
    const { code, cut, output } = await start(process.execPath, [...nodeArgs('src/cli/main'), ...args], share);
    if (cut) cuts++;
    else if (code !== 0) problems.push(lastLine(output));
    if (existsSync(file)) results.push(...JSON.parse(readFileSync(file, 'utf8')).results);
  }
  return {
    note: `${results.length} results, ${cuts} of ${runs.length} cut`,
    problem: problems.join('; ') || undefined,
    cut: cuts > 0,
    data: { results },
    figures: results.map(FIGURES[name]),
  };
}

function figureOfRelay({ model, workload, rows, contender, tokensPerSecond, idle, ttft, itl, decodeMs }) {
  const speed = `${tokensPerSecond.median.toFixed(0)} tok/s, idle ${(100 * idle.share).toFixed(1)} %`;
  const latency = `TTFT p50 ${ttft.p50.toFixed(0)} p99 ${ttft.p99.toFixed(0)} ms`;
  const gaps = `ITL p50 ${itl.p50.toFixed(2)} p99 ${itl.p99.toFixed(2)} ms, decode step ${decodeMs.toFixed(2)} ms`;
  return `${model} ${workload}, ${rows} rows, ${contender}: ${speed}, ${latency}, ${gaps}`;
}

function figureOfPeer({ model, concurrency, contender, version, tokensPerSecond }, _, all) {
  const speed = tokensPerSecond.median;
  const ours = all.find((one) => one.contender === 'baton' && one.concurrency === concurrency)?.tokensPerSecond.median;
  const ratio = ours > 0 && contender !== 'baton' ? `, baton is ${(ours / speed).toFixed(2)} x that` : '';
  return `${model}, ${concurrency} at a time, ${contender} ${version}: ${speed.toFixed(0)} tok/s${ratio}`;
}

/** PyTorch's own products and copy, then whole engines. */
async function contenders(limit) {
  const begun = performance.now();
  const found = await start('python3', ['-c', 'import torch, transformers; assert torch.cuda.is_available()'], limit);
  if (found.missing) throw new Skip('python3 is not there');
  if (found.code !== 0) throw new Skip(`python3 with torch, transformers and a GPU: ${lastLine(found.output)}`);
  const bar = await startJson('python3', [join(root, 'bench/gpu/torch_bar.py')], limit / 4);
  const peers = await experiments('peers', limit - (performance.now() - begun) / 1000 - GRACE_SECONDS);
  const products = (bar.data?.results ?? []).filter(({ gigaflopsPerSecond }) => gigaflopsPerSecond > 0);
  const best = Math.max(0, ...products.map(({ gigaflopsPerSecond }) => gigaflopsPerSecond));
  const copy = bar.data?.results.find(({ op }) => op === 'copy');
  const torch = `torch: copy ${copy?.gigabytesPerSecond.toFixed(0)} GB/s, product ${(best / 1e3).toFixed(0)} TFLOP/s`;
  const wrong = bar.code !== 0 && !bar.cut ? lastLine(bar.output) : undefined;
  return {
    note: `${peers.note}, ${products.length} products`,
    problem: [wrong, peers.problem].filter(Boolean).join('; ') || undefined,
    cut: bar.cut || peers.cut,
    data: { torch: bar.data, ...peers.data },
    figures: [...(copy ? [torch] : []), ...peers.figures],
  };
}

function show(value) {
  return typeof value === 'number'
    ? value.toPrecision(4)
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value);
}

// All of it

const lines = []; // of the table
const figures = [];
const phases = {};
let gpu;

async function runPhase(key, limit) {
  const { name, run } = PHASES[key];
  const started = performance.now();
  let status = 'passed';
  let outcome;
  try {
    if (limit <= 0) throw new Skip('the time is over');
    outcome = await run(limit);
    if (outcome.problem !== undefined) status = 'failed';
    else if (outcome.cut) status = 'cut';
  } catch (error) {
    status = error instanceof Skip ? 'skipped' : 'failed';
    outcome = { note: '', problem: error.message };
  }
  const took = (performance.now() - started) / 1000;
  const { note, problem, data } = outcome;
  phases[name] = { status, seconds: took, note, reason: problem, data };
  figures.push(...(outcome.figures ?? []));
  const said = [note, problem].filter(Boolean).join('; ').slice(0, 300);
  lines.push(`${key} ${name.padEnd(11)} ${status.padEnd(7)} ${took.toFixed(1).padStart(6)} s  ${said}`);
  console.log(lines.at(-1));
}

/** The folder's own record if it was packed, else the checkout's. */
async function commit() {
  if (existsSync(packed)) return JSON.parse(readFileSync(packed, 'utf8')).commit;
  const head = await ask('git', 'rev-parse', '--short=12', 'HEAD');
  if (head === undefined) return 'unknown';
  return (await ask('git', 'status', '--porcelain')) === '' ? head : `${head}-changed`;
}

/** What the driver says of the card and its state. */
async function readGpu() {
  const names = FACTS.split(' ');
  const answer = onGpu ? await ask('nvidia-smi', `--query-gpu=${names}`, '--format=csv,noheader,nounits') : undefined;
  if (answer === undefined) return undefined;
  const card = answer.split('\n')[Number(device.split(':')[1] ?? 0)]?.split(', ');
  return card && Object.fromEntries(names.map((name, i) => [name, card[i]]));
}

function write(header) {
  const memory = Math.round(totalmem() / 2 ** 30);
  const record = {
    ...header,
    machine: `${cpus()[0]?.model ?? process.arch}, ${availableParallelism()} cores, ${memory} GiB`,
    gpu: gpu?.name ?? null,
    driver: gpu?.driver_version ?? null,
    device,
    seed: Number(seed),
    smoke,
    seconds: (performance.now() - begin) / 1000,
    phases,
  };
  const name = [header.date, header.commit, gpu?.name ?? device].join('-').replace(/[^\w.-]+/g, '-');
  const file = join(out, `${name}.json`);
  writeFileSync(file, `${JSON.stringify(record)}\n`);
  return file;
}

/** Asked to stop: the program that runs is ended, what comes after it is skipped, and what is known is written. */
function stop() {
  end = performance.now();
  stopProgram?.();
}

process.on('SIGTERM', stop).on('SIGINT', stop);
mkdirSync(out, { recursive: true });
writeFileSync(log, '');
try {
  const command = `npm run gpu -- ${process.argv.slice(2).join(' ')}`.trim();
  gpu = await readGpu();
  const header = { commit: await commit(), date: new Date().toISOString().slice(0, 10), command };
  let file;
  for (const [i, key] of chosen.entries()) {
    const waiting = chosen.slice(i).reduce((sum, other) => sum + PHASES[other].seconds, 0);
    await runPhase(key, (secondsLeft() * PHASES[key].seconds) / waiting);
    file = write(header); // after every phase: whoever ends this program finds what is known
  }
  console.log(`\n${[...lines, '', ...figures].join('\n')}\n\n${file}`);
  process.exitCode = Object.values(phases).some(({ status }) => status === 'failed') ? 1 : 0;
} finally {
  rmSync(work, { recursive: true, force: true });
}
