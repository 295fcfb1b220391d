// npm run bundle: build/bundle, a folder that measures on a GPU host without network, without Node, and without us.
//
//   sh build/bundle/run --out results      unpacks once and runs scripts/gpu.mjs, whose head lists the options
//
// In it: the script `run`, and one archive of Node, the addon and `ops`, compiled JavaScript with the packages it
// needs, the models, and the native sources to build again where the binaries do not run. Needs tar, strip and xz here;
// there, tar and either xz or python3.
//
//   --out FOLDER      default build/bundle
//   --store           takes what is built, and does not compress it: for tests

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const MOST_BYTES = 60 * 2 ** 20;
/** Programs to compile, with everything they import. */
const ENTRIES = [
  'src/cli/main.ts',
  'src/bench/contender-process.ts',
  ...readdirSync(new URL('../src/bench/contenders', import.meta.url)).map((name) => `src/bench/contenders/${name}`),
  'test/law.ts',
  'bench/gpu/end-to-end.ts',
];
/** Of the packages: those that run there, and those that the addon is compiled with. Theirs come along. */
const PACKAGES = [
  '@huggingface/jinja',
  '@huggingface/tokenizers',
  'node-gyp-build',
  'uvu',
  'node-addon-api',
  'node-api-headers',
];
const SCRIPTS = ['scripts/gpu.mjs', 'bench/gpu/torch_bar.py', 'bench/peers/transformers_peer.py'];
const SOURCES = ['native', 'CMakeLists.txt', 'package.json', 'LICENSE', 'models', ...SCRIPTS];
const MADE = ['run', 'bundle.tar', 'bundle.tar.xz', 'staging', 'proof']; // all that ever lies in the folder
const STORIES = 'shared/models/stories260K';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'build', 'bundle') },
    store: { type: 'boolean', default: false },
  },
});
const out = resolve(values.out);
const staging = join(out, 'staging'); // as it is unpacked: the package, with shared/ beside it
const home = join(staging, 'baton');
const archive = values.store ? 'bundle.tar' : 'bundle.tar.xz';

/** A bundle that could not be made, and why. */
class BundleError extends Error {}

function run(command, args, options = {}) {
  const { status, error, stdout } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    ...options,
  });
  if (error?.code === 'ENOENT') throw new BundleError(`${command} is not installed`);
  if (status !== 0) throw new BundleError(`${command} ${args[0]} failed${stdout ? `:\n${stdout}` : ''}`);
  return stdout;
}

/** The addon, if it is stale, and `ops`. */
function build() {
  run(process.execPath, ['scripts/build.mjs', '--if-stale']);
  run('cmake', ['--build', 'build/Release', '--target', 'ops', '--parallel', String(availableParallelism())]);
}

function copy(name, filter) {
  cpSync(join(root, name), join(home, name), { recursive: true, filter });
}

function copyBinary(from, to) {
  mkdirSync(join(to, '..'), { recursive: true });
  run('strip', ['--strip-unneeded', '-o', to, from]);
}

/** src, bench and test keep their places, so that every path from one to another holds. */
function compile() {
  const config = join(staging, 'tsconfig.json');
  const compilerOptions = {
    noEmit: false,
    rootDir: root,
    outDir: home,
    typeRoots: [join(root, 'node_modules/@types')],
  };
  const files = ENTRIES.map((entry) => join(root, entry));
  writeFileSync(config, JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, files, include: [] }));
  run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', config]);
  rmSync(config);
}

function copyPackages() {
  const waiting = [...PACKAGES];
  for (const name of waiting) {
    const folder = `node_modules/${name}`;
    copy(folder, (path) => !/\.(map|ts|md|lib|def)$/.test(path));
    const { dependencies = {} } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    waiting.push(...Object.keys(dependencies).filter((other) => !waiting.includes(other)));
  }
}

function commit() {
  const ask = (...args) => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim();
  const head = ask('rev-parse', '--short=12', 'HEAD');
  if (!head) return 'unknown';
  return ask('status', '--porcelain') === '' ? head : `${head}-changed`;
}

function bytesOf(path) {
  if (!statSync(path).isDirectory()) return statSync(path).size;
  return readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0);
}

/** The folder is named for what is in it: unpacked once, however often it is run, and never an older one. */
function script(digest) {
  const python = 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)';
  const unxz = `if command -v xz >/dev/null; then xz -dc "$archive"; else python3 -c '${python}' "$archive"; fi`;
  return `#!/bin/sh
# Unpacks what lies beside this file, once, and measures: sh run --out results (options: head of scripts/gpu.mjs)
set -eu
archive=$(cd "$(dirname "$0")" && pwd)/${archive}
home=\${TMPDIR:-/tmp}/baton-${digest}
if [ ! -e "$home/whole" ]; then
  rm -rf "$home"
  mkdir -p "$home"
  { ${values.store ? 'cat "$archive"' : unxz}; } | tar -xf - -C "$home"
  : > "$home/whole"
fi
exec "$home/baton/bin/node" "$home/baton/scripts/gpu.mjs" "$@"
`;
}

function pack() {
  const file = join(out, archive);
  const tar = [
    '-C',
    staging,
    '--sort=name',
    '--owner=0',
    '--group=0',
    '-cf',
    values.store ? file : file.slice(0, -3),
    '.',
  ];
  run('tar', tar);
  // A window wide enough to see that addon and ops hold the same kernels.
  if (!values.store) run('xz', ['--lzma2=preset=6,dict=64MiB', file.slice(0, -3)]);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 12);
  writeFileSync(join(out, 'run'), script(digest), { mode: 0o755 });
  return statSync(file).size + statSync(join(out, 'run')).size;
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1).padStart(7)} MiB`;
}

/** Unpacked and started as it will be there, but for the device. */
function prove() {
  const folder = join(out, 'proof');
  const phases = ['--smoke', '--phases', 'a', '--out', join(folder, 'results')];
  mkdirSync(folder);
  try {
    const env = { PATH: '/usr/bin:/bin', TMPDIR: folder };
    const answer = run('sh', [join(out, 'run'), ...phases], { env, cwd: folder });
    console.log(`it runs: ${answer.trim().split('\n')[0]}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

try {
  if (!values.store) build();
  if (!existsSync(join(root, 'build/Release/baton.node'))) throw new BundleError('expected the addon: npm run build');
  for (const name of MADE) rmSync(join(out, name), { recursive: true, force: true });
  mkdirSync(home, { recursive: true });
  copyBinary(process.execPath, join(home, 'bin/node'));
  copyBinary(join(root, 'build/Release/baton.node'), join(home, 'build/Release/baton.node'));
  const ops = join(root, 'build/Release/ops');
  if (existsSync(ops)) copyBinary(ops, join(home, 'build/Release/ops'));
  else console.log('without ops: build/Release/ops is not there');
  for (const name of SOURCES) copy(name);
  copyPackages();
  compile();
  const stories = join(root, '..', STORIES);
  if (existsSync(stories)) cpSync(stories, join(staging, STORIES), { recursive: true });
  else console.log(`without stories260K: ../${STORIES} is not there`);
  const packed = { commit: commit(), date: new Date().toISOString(), node: process.version };
  writeFileSync(join(home, 'bundle.json'), JSON.stringify(packed));

  for (const name of readdirSync(home).sort()) console.log(`${megabytes(bytesOf(join(home, name)))}  ${name}`);
  console.log(`${megabytes(bytesOf(staging))}  unpacked`);
  const bytes = pack();
  rmSync(staging, { recursive: true });
  console.log(`${megabytes(bytes)}  ${out}`);
  if (!values.store && bytes > MOST_BYTES) throw new BundleError(`expected at most ${megabytes(MOST_BYTES).trim()}`);
  prove();
} catch (error) {
  if (!(error instanceof BundleError)) throw error;
  console.error(`bundle: ${error.message}`);
  process.exitCode = 1;
}
