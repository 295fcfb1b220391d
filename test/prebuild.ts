// Every fault that scripts/prebuild.mjs looks for, in a copy of the addon that was given it.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Elf, readElf } from '../scripts/elf.mjs';
import { addonPath } from '../src/addon.ts';

const prebuild = suite('scripts/prebuild.mjs');
const script = fileURLToPath(new URL('../scripts/prebuild.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'baton-prebuild-'));
prebuild.after(() => rmSync(folder, { recursive: true }));

const target = `${process.platform}-${process.arch}`;
const here = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
if (!here) console.log(`SKIP prebuild: it is for Linux on x64 and arm64, this is ${target}`);

const DT_NULL = 0;
const DT_NEEDED = 1;
const DT_TEXTREL = 22;
const DT_BIND_NOW = 24;
const DT_RUNPATH = 29;
const DT_FLAGS = 30;
const DT_FLAGS_1 = 0x6ffffffb;

/** What the script says of a file. */
function look(bytes: Buffer, name: string) {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const { status, stdout } = spawnSync(process.execPath, [script, `--check=${path}`, `--target=${target}`], {
    encoding: 'utf8',
  });
  return { status, faults: stdout.split('\n').filter((line) => line.startsWith('FAIL')) };
}

/** The entry becomes another one. The table's end may be used so: another end follows it. */
function retag(bytes: Buffer, elf: Elf, from: number, to: number, value: number): void {
  const entry = elf.dynamic.find(({ tag }) => tag === from);
  const last = elf.dynamic.at(-1);
  assert.ok(last);
  const at = entry?.at ?? last.at + 16;
  assert.ok(entry !== undefined || from === DT_NULL, `no entry ${from}`);
  bytes.writeBigUInt64LE(BigInt(to), at);
  bytes.writeBigUInt64LE(BigInt(value), at + 8);
}

function replaceText(bytes: Buffer, from: string, to: string): void {
  const at = bytes.indexOf(`\0${from}\0`) + 1;
  assert.ok(at > 0 && from.length === to.length, from);
  bytes.write(to, at);
}

// Where the C++ runtime is no archive or glibc is newer, a build is good for this machine alone.
const { faults } = here ? look(readFileSync(addonPath()), 'good.node') : { faults: [] };
for (const fault of faults) console.log(`SKIP prebuild: the addon that was built here may not be published: ${fault}`);
const check = here && faults.length === 0 ? prebuild : prebuild.skip;

const FAULTS: readonly [string, (bytes: Buffer, elf: Elf) => void, RegExp][] = [
  [
    'a glibc that is too new',
    (bytes) => replaceText(bytes, 'GLIBC_2.34', 'GLIBC_2.35'),
    /needs a glibc newer than 2\.34: GLIBC_2\.35$/,
  ],
  [
    "symbols that are not glibc's",
    (bytes) => replaceText(bytes, 'GLIBC_2.34', 'GLIBCXX_34'),
    /needs symbols that are not glibc's: GLIBCXX_34$/,
  ],
  [
    'a library besides glibc',
    (bytes) => replaceText(bytes, 'libm.so.6', 'libz.so.6'),
    /needs libraries besides glibc: .*libz\.so\.6/,
  ],
  [
    'a folder of its own to look for libraries in',
    (bytes, elf) => {
      const library = elf.dynamic.find(({ tag }) => tag === DT_NEEDED); // any text will do
      retag(bytes, elf, DT_NULL, DT_RUNPATH, library?.value ?? 0);
    },
    /looks for libraries in folders of its own: lib/,
  ],
  [
    'an executable stack',
    (bytes, { stackAt = 0 }) => bytes.writeUInt32LE(7, stackAt + 4),
    /asks for an executable stack/,
  ],
  [
    'a stack that nothing is said of, which would be executable',
    (bytes, { stackAt = 0 }) => bytes.writeUInt32LE(0, stackAt),
    /asks for an executable stack/,
  ],
  [
    'functions that are bound when they are called',
    (bytes, elf) => {
      for (const tag of [DT_FLAGS, DT_FLAGS_1, DT_BIND_NOW]) {
        if (elf.dynamic.some((entry) => entry.tag === tag)) retag(bytes, elf, tag, 0x6ffffef0, 0);
      }
    },
    /no BIND_NOW/,
  ],
  [
    'tables that stay writable',
    (bytes) => {
      const headers = Number(bytes.readBigUInt64LE(32));
      for (let i = 0; i < bytes.readUInt16LE(56); i++) {
        if (bytes.readUInt32LE(headers + i * 56) === 0x6474e552) bytes.writeUInt32LE(0, headers + i * 56);
      }
    },
    /no RELRO/,
  ],
  [
    'code that is written to',
    (bytes, elf) => retag(bytes, elf, DT_NULL, DT_TEXTREL, 0),
    /has relocations in its code/,
  ],
  [
    'a symbol that others would find',
    (bytes, { symbolsAt }) => bytes.writeUInt16LE(1, symbolsAt + 24 + 6),
    /expected to export napi_register_module_v1, node_api_module_get_api_version_v1 alone, got \w+, /,
  ],
  ['a program', (bytes) => bytes.writeUInt16LE(2, 16), /is no shared library/],
  ['another processor', (bytes) => bytes.writeUInt16LE(8, 18), /is for machine 8, not for/],
  ['a text', (bytes) => bytes.write('#!/bin/sh\n'), /expected a 64-bit little-endian ELF file/],
];
for (const [name, damage, message] of FAULTS) {
  check(`finds ${name}, and nothing else`, () => {
    const bytes = readFileSync(addonPath());
    damage(bytes, readElf(bytes));
    const { status, faults } = look(bytes, 'bad.node');
    assert.is(status, 1);
    assert.is(faults.length, 1, faults.join('\n'));
    assert.match(faults[0] ?? '', message);
  });
}

prebuild('refuses a target that it does not know', () => {
  const { status, stderr } = spawnSync(process.execPath, [script, '--target=linux-riscv64'], { encoding: 'utf8' });
  assert.is(status, 1);
  assert.match(stderr, /expected linux-x64 or linux-arm64.*, got linux-riscv64/);
});

prebuild.run();
