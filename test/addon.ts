import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addonPath, BUILD_TOOLS, findAddon, loadAddon, openAddon } from '../src/addon.ts';
import { EngineError } from '../src/errors.ts';

const addon = suite('addon');
const home = mkdtempSync(join(tmpdir(), 'baton-addon-'));
chmodSync(home, 0o755);
addon.after(() => rmSync(home, { recursive: true }));

const platform = `${process.platform}-${process.arch}`;
const elf = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
if (!elf) console.log(`SKIP damaged addons: they are for Linux on x64 and arm64, this is ${platform}`);
const damaged = elf ? addon : addon.skip;

let folders = 0;

/** A package folder with these files. */
function makePackage(files: Readonly<Record<string, string | Buffer>>): string {
  const folder = `${join(home, String(folders++))}/`;
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

const PREBUILD = `prebuilds/${platform}/baton.node`;
const BUILD = 'build/Release/baton.node';

function missing(folder: string, ...messages: (string | RegExp)[]): void {
  assert.throws(
    () => openAddon(folder),
    (error: EngineError) => {
      assert.is(error.code, 'ADDON_MISSING');
      for (const message of messages) assert.match(error.message, message);
      return true;
    },
  );
}

addon('is loaded once, and says its version and commit', () => {
  assert.is(loadAddon(), loadAddon());
  assert.match(loadAddon().version, /^\d+\.\d+\.\d+/);
  assert.match(loadAddon().commit, /^([0-9a-f]{7,}|unknown)$/);
  assert.match(addonPath(), /\.node$/);
  assert.is(findAddon().addon, loadAddon());
});

addon('tells what the processor can do', () => {
  const { isas, cores, model } = loadAddon().cpu();
  assert.is(isas.at(-1), 'scalar');
  assert.ok(cores >= 1);
  assert.ok(model.length > 0);
});

addon('is found among the prebuilds, behind a build', () => {
  const folder = makePackage({ [PREBUILD]: readFileSync(addonPath()) });
  const { path, source } = openAddon(folder);
  assert.equal([path, source], [join(folder, PREBUILD), 'prebuild']);
  mkdirSync(join(folder, 'build/Release'), { recursive: true });
  copyFileSync(addonPath(), join(folder, BUILD));
  const built = openAddon(folder);
  assert.equal([built.path, built.source], [join(folder, BUILD), 'build']);
});

addon('is found first where BATON_LLM_PREBUILD says, also by a path that is not absolute', () => {
  const bytes = readFileSync(addonPath());
  const folder = makePackage({ [PREBUILD]: bytes, 'package.json': '{ "name": "baton-llm" }' });
  const other = makePackage({ [BUILD]: bytes });
  const before = process.env['BATON_LLM_PREBUILD'];
  const cwd = process.cwd();
  try {
    process.chdir(other);
    for (const place of [other, '.']) {
      process.env['BATON_LLM_PREBUILD'] = place;
      const { path, source } = openAddon(folder);
      assert.equal([path, source], [join(other, BUILD), 'BATON_LLM_PREBUILD']);
    }
    process.env['BATON_LLM_PREBUILD'] = join(other, 'nowhere');
    missing(folder, `found no ${join(other, 'nowhere')}/build/Release/*.node`);
  } finally {
    process.chdir(cwd);
    if (before === undefined) delete process.env['BATON_LLM_PREBUILD'];
    else process.env['BATON_LLM_PREBUILD'] = before;
  }
});

addon('that is not there: the error says where it was looked for, what was there, and how to build it', () => {
  const folder = makePackage({ 'prebuilds/aix-ppc64/baton.node': '', 'prebuilds/sunos-x64/baton.node': '' });
  missing(
    folder,
    `expected a native addon for ${platform}`,
    `${folder}build/Release/*.node`,
    `${folder}prebuilds/${platform}/*.node`,
    `(in ${folder}prebuilds: aix-ppc64, sunos-x64)`,
    'npx baton build',
    BUILD_TOOLS,
  );
  missing(makePackage({}), /prebuilds: nothing\)/);
  for (const system of ['Debian', 'Fedora', 'macOS']) assert.match(BUILD_TOOLS, system);
});

/** A way to break the addon, and what is said of it. */
const DAMAGES: readonly [string, (bytes: Buffer) => Buffer, RegExp][] = [
  ['is a text', () => Buffer.from('no addon'), /it is damaged: expected an ELF file, got 8 bytes of something else/],
  ['is empty', () => Buffer.alloc(0), /it is damaged: expected an ELF file, got 0 bytes/],
  ['is cut off', (bytes) => bytes.subarray(0, bytes.length - 1), /it is damaged: expected \d+ bytes, got \d+/],
  ['is half there', (bytes) => bytes.subarray(0, bytes.length >> 1), /it is damaged: expected \d+ bytes, got \d+/],
  [
    'is for another processor',
    (bytes) => {
      bytes.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18);
      return bytes;
    },
    new RegExp(`it is for ${process.arch === 'x64' ? 'arm64' : 'x64'}, and this Node for ${process.arch}`),
  ],
];
for (const [name, damage, message] of DAMAGES) {
  damaged(`that ${name}: the error says so, and what to do where it was built and where it was installed`, () => {
    const bytes = damage(readFileSync(addonPath()));
    const built = makePackage({ [BUILD]: bytes });
    missing(built, message, `${built}${BUILD} (build)`, 'run `npx baton build` again, or remove the folder `build`');
    const installed = makePackage({ [PREBUILD]: bytes });
    missing(installed, message, '(prebuild)', 'remove the package from node_modules and install it again');
  });
}

/** The hash that the loader compares before the name of a version. */
function hashOf(name: string): number {
  let hash = 0;
  for (const letter of Buffer.from(name)) {
    hash = ((hash << 4) + letter) >>> 0;
    const high = (hash & 0xf0000000) >>> 0;
    hash = (hash ^ (high >>> 24)) & ~high;
  }
  return hash >>> 0;
}

damaged('that needs a newer glibc: the error says which, and which is there', () => {
  const bytes = readFileSync(addonPath());
  const [from, to] = ['GLIBC_2.34', 'GLIBC_9.99'].map((name) => {
    const hash = Buffer.alloc(4);
    hash.writeUInt32LE(hashOf(name));
    return hash;
  });
  assert.ok(from && to);
  const at = bytes.indexOf(from, bytes.indexOf('\0GLIBC_2.34\0'));
  assert.ok(at > 0);
  to.copy(bytes, at);
  bytes.write('GLIBC_9.99', bytes.indexOf('\0GLIBC_2.34\0') + 1);
  const reason = /it needs glibc 9\.99, and this system has 2\.\d+ \(/;
  missing(makePackage({ [PREBUILD]: bytes }), reason, 'npx baton build', BUILD_TOOLS);
});

damaged('that needs a library which is not there: the error repeats what the system says', () => {
  const bytes = readFileSync(addonPath());
  bytes.write('libm.so.9', bytes.indexOf('\0libm.so.6\0') + 1);
  const reason = /does not load: libm\.so\.9: cannot open shared object file/;
  missing(makePackage({ [PREBUILD]: bytes }), reason, 'npx baton build');
});

const SOURCE = JSON.stringify(new URL('../src/addon.ts', import.meta.url));

/** Opens a package in a process of its own, and prints the error. */
function openIn(folder: string, before = ''): string {
  return `import(${SOURCE}).then(({ openAddon }) => {
    ${before}
    try { openAddon(${JSON.stringify(folder)}); } catch ({ code, message }) { console.log(code, message); }
  });`;
}

damaged('that may not be read: the error says who must be let', () => {
  const folder = makePackage({ [PREBUILD]: readFileSync(addonPath()) });
  chmodSync(join(folder, PREBUILD), 0o000);
  // Root may read everything, so it becomes another user first.
  const script = openIn(folder, 'if (process.getuid() === 0) process.seteuid(65534);');
  const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', '-e', script], { encoding: 'utf8' });
  assert.match(stdout, /^ADDON_MISSING .*EACCES: permission denied/, stderr);
  assert.match(stdout, 'let this user read it (chmod a+r) and enter the folders above it');
});

const MOUNT = ['-rm', 'sh', '-c', 'mount -t tmpfs -o noexec none "$0" && cd "$1" && shift && exec "$@"'];
const mounts = elf && spawnSync('unshare', [...MOUNT, home, tmpdir(), 'true']).status === 0;
if (!mounts) console.log('SKIP an addon on a file system mounted noexec: this user may not mount one');
(mounts ? addon : addon.skip)('that lies where nothing may be executed: the error says so', () => {
  const folder = makePackage({});
  const script = `
    const { cpSync } = require('node:fs');
    cpSync(${JSON.stringify(addonPath())}, ${JSON.stringify(join(folder, PREBUILD))});
    ${openIn(folder)}`;
  const args = [...MOUNT, folder, process.cwd(), process.execPath, '--import', 'tsx', '-e', script];
  const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
  assert.match(stdout, /^ADDON_MISSING .*failed to map segment from shared object/, stderr);
  assert.match(stdout, 'install on a file system that is not mounted noexec');
});

addon.run();
