import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const build = suite('scripts/build.mjs');
const script = fileURLToPath(new URL('../scripts/build.mjs', import.meta.url));
const tools = mkdtempSync(join(tmpdir(), 'baton-build-'));
build.after(() => rmSync(tools, { recursive: true }));

build('says what is missing, and what it is called elsewhere', () => {
  symlinkSync(process.execPath, join(tools, 'node'));
  const env = { ...process.env, PATH: tools, CXX: '' };
  const { status, stderr } = spawnSync(process.execPath, [script, '--sanitize=address'], { env, encoding: 'utf8' });
  assert.is(status, 1);
  assert.match(stderr, /^build: CMake, Ninja or make, a C\+\+ compiler not found/);
  for (const system of ['Debian', 'Fedora', 'macOS']) assert.match(stderr, system);
  assert.is(stderr.includes('    at '), false, 'no stack');
});

build('refuses flags it does not know', () => {
  const { status, stderr } = spawnSync(process.execPath, [script, '--sanitise=address'], { encoding: 'utf8' });
  assert.is(status, 1);
  assert.match(stderr, /--sanitise/);
});

build.run();
