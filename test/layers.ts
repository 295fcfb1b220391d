// The arrows of docs/design.md, over every import of src/ and every include of native/.

import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

type Sources = ReadonlyMap<string, string>; // path from the root of the repository, text

/** What each part of src/ may import besides itself. A part is a folder, or a file of src/ itself. */
const LEAVES = ['native', 'errors', 'env'];
const PARTS = [...LEAVES, 'loop', 'text', 'model', 'options', 'flags', 'addon'];
const SRC_ARROWS: Readonly<Record<string, readonly string[]>> = {
  native: [],
  errors: [],
  env: ['errors'],
  loop: LEAVES,
  text: LEAVES,
  model: LEAVES,
  options: LEAVES,
  flags: ['options'],
  addon: LEAVES,
  kernels: [...LEAVES, 'addon'],
  simulator: ['native', 'errors', 'loop'],
  engine: PARTS,
  index: [...PARTS, 'engine'],
  server: [...PARTS, 'engine', 'index'],
  bench: [...PARTS, 'engine', 'kernels', 'simulator'],
  report: [...LEAVES, 'flags', 'bench'],
  cli: [...PARTS, 'engine', 'index', 'kernels', 'server', 'bench', 'report'],
};

/** What each part of native/ may include besides itself. */
const NATIVE_ARROWS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  cpu: ['core'],
  cuda: ['core'],
  emulator: ['core', 'cuda'],
  ops: ['core', 'cpu', 'cuda', 'emulator'],
  binding: ['core', 'cpu', 'cuda', 'emulator'], // it makes the backend that the caller asked for
  addon: ['binding'],
};

/** What only one part may name: a pattern in the text, and where it may stand. */
const PRIVATE: readonly [RegExp, RegExp, string][] = [
  [/\bprocess\.env\b/, /^src\/env\.ts$/, 'only src/env.ts reads process.env'],
  [/['"](node:)?(http|https|http2)['"]/, /^src\/server\//, 'only src/server sees HTTP'],
  [
    /#include\s*<(napi|node_api)\.h>/,
    /^native\/(binding\/|addon\.cpp$)/,
    'only native/binding and addon.cpp include <napi.h>',
  ],
  [
    /#include\s*<(cuda|cublas|cuda_\w+|cuda_runtime\w*)(\.h|Lt\.h)?>/,
    /^native\/(cuda|emulator)\//,
    'only native/cuda includes CUDA, and the emulator',
  ],
];

const FORBIDDEN_WORDS = ['utils', 'util', 'helpers', 'helper', 'common', 'manager', 'misc', 'handler'];

/** Targets of a file's imports or includes, as paths from the root. */
function targets(path: string, text: string): string[] {
  if (path.startsWith('native/')) {
    return [...text.matchAll(/^\s*#include\s*"([^"]+)"/gm)].map(([, target]) => `native/${target}`);
  }
  const imports = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']*)'/g);
  return [...imports].map(([, target]) => posix.join(posix.dirname(path), target ?? ''));
}

/** "src/loop/loop.ts" is in the part "loop", "native/addon.cpp" in the part "addon". */
function partOf(path: string): string {
  return (path.split('/')[1] ?? '').replace(/\.\w+$/, '');
}

function findFaults(sources: Sources): string[] {
  const faults: string[] = [];
  for (const [path, text] of sources) {
    const part = partOf(path);
    const arrows = path.startsWith('src/') ? SRC_ARROWS : NATIVE_ARROWS;
    const allowed = arrows[part];
    if (allowed === undefined) faults.push(`${path}: ${part} has no place in the house`);
    for (const target of targets(path, text)) {
      const other = partOf(target);
      if (!sources.has(target)) faults.push(`${path}: ${target} does not exist`);
      else if (other !== part && allowed?.includes(other) === false)
        faults.push(`${path}: ${part} may not import ${other}`);
    }
    for (const [pattern, where, law] of PRIVATE) {
      if (pattern.test(text) && !where.test(path)) faults.push(`${path}: ${law}`);
    }
    const words = posix.basename(path).replace(/\..*$/, '').split(/[-_]/);
    for (const word of words) {
      if (FORBIDDEN_WORDS.includes(word)) faults.push(`${path}: "${word}" says nothing`);
    }
  }
  return [...faults, ...findCycles(sources)];
}

function findCycles(sources: Sources): string[] {
  const cycles: string[] = [];
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) cycles.push(`cycle: ${[...trail.slice(trail.indexOf(path)), path].join(' → ')}`);
    else if (!finished.has(path)) {
      for (const target of targets(path, sources.get(path) ?? '')) visit(target, [...trail, path]);
    }
    finished.add(path);
  };
  for (const path of sources.keys()) visit(path, []);
  return cycles;
}

function readSources(): Sources {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const sources = new Map<string, string>();
  for (const folder of ['src', 'native']) {
    for (const entry of readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' })) {
      const path = `${folder}/${entry.replaceAll('\\', '/')}`;
      if (/\.(ts|h|inl|cuh|cpp|cu)$/.test(path)) sources.set(path, readFileSync(`${root}/${path}`, 'utf8'));
    }
  }
  return sources;
}

const layers = suite('layers');

layers('the arrows of the house hold', () => {
  const sources = readSources();
  assert.ok(sources.size > 20, `${sources.size} files`);
  assert.equal(findFaults(sources), []);
});

/** Each planted fault must be found, or the test above proves nothing. */
const PLANTED: readonly [string, Readonly<Record<string, string>>, RegExp][] = [
  [
    'loop imports text',
    { 'src/loop/a.ts': "import { b } from '../text/b.ts';", 'src/text/b.ts': '' },
    /loop may not import text/,
  ],
  [
    'text imports loop',
    { 'src/text/a.ts': "import type { b } from '../loop/b.ts';", 'src/loop/b.ts': '' },
    /text may not import loop/,
  ],
  [
    'model imports the engine',
    { 'src/model/a.ts': "await import('../engine.ts')", 'src/engine.ts': '' },
    /model may not import engine/,
  ],
  [
    'the simulator imports the engine',
    { 'src/simulator/a.ts': "import '../engine.ts';", 'src/engine.ts': '' },
    /simulator may not import engine/,
  ],
  ['an export counts', { 'src/errors.ts': "export * from './env.ts';", 'src/env.ts': '' }, /errors may not import env/],
  ['a file that is not there', { 'src/engine.ts': "import './gone.ts';" }, /gone.ts does not exist/],
  ['a part without a place', { 'src/tools/a.ts': '' }, /tools has no place/],
  ['the environment', { 'src/engine.ts': "process.env['X']" }, /only src\/env.ts/],
  ['HTTP', { 'src/cli/main.ts': "import { createServer } from 'node:http';" }, /only src\/server/],
  ['N-API in the core', { 'native/core/a.h': '#include <napi.h>' }, /only native\/binding and/],
  ['CUDA outside cuda', { 'native/core/a.h': '#include <cuda_runtime.h>' }, /only native\/cuda/],
  ['core includes cpu', { 'native/core/a.h': '#include "cpu/b.h"', 'native/cpu/b.h': '' }, /core may not import cpu/],
  [
    'cpu includes binding',
    { 'native/cpu/a.h': '#include "binding/b.h"', 'native/binding/b.h': '' },
    /cpu may not import binding/,
  ],
  ['a name that says nothing', { 'src/text/string-utils.ts': '' }, /"utils" says nothing/],
  [
    'a cycle',
    {
      'src/loop/a.ts': "import './b.ts';",
      'src/loop/b.ts': "import { c } from './c.ts';",
      'src/loop/c.ts': "import './a.ts';",
    },
    /cycle: src\/loop\/a.ts → src\/loop\/b.ts → src\/loop\/c.ts → src\/loop\/a.ts/,
  ],
];

for (const [name, files, expected] of PLANTED) {
  layers(`finds ${name}`, () => assert.match(findFaults(new Map(Object.entries(files))).join('\n'), expected));
}

layers('finds nothing where nothing is', () => {
  const files = {
    'src/engine.ts': "import { a } from './loop/a.ts';",
    'src/loop/a.ts': "import '../errors.ts';",
    'src/errors.ts': '',
  };
  assert.equal(findFaults(new Map(Object.entries(files))), []);
});

layers.run();
