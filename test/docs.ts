// Tables of docs/ against the code they describe.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ERROR_CODES } from '../src/errors.ts';
import { FAMILIES } from '../src/model/families.ts';

const docs = suite('docs');
const root = fileURLToPath(new URL('../', import.meta.url));
const read = (path: string) => readFileSync(`${root}${path}`, 'utf8');

/** What stands in backticks in the first column of a page's tables. */
function firstColumn(page: string): string[] {
  return [...read(page).matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name ?? '').sort();
}

docs('docs/errors.md has every code and no other', () => {
  assert.equal(firstColumn('docs/errors.md'), [...ERROR_CODES].sort());
});

docs('docs/models.md has every architecture', () => {
  const rows = firstColumn('docs/models.md').filter((name) => name.endsWith('ForCausalLM'));
  assert.equal(rows, [...FAMILIES.keys()].sort());
});

docs('docs/env.md has every variable and no other', () => {
  const variables = new Set(read('src/env.ts').match(/\b(BATON|NO)_[A-Z_]+\b/g));
  assert.ok(variables.size > 0);
  assert.equal(firstColumn('docs/env.md'), [...variables].sort());
});

docs('no native code throws a code that is not in the table', () => {
  const codes = new Set<string>(ERROR_CODES);
  const files = readdirSync(`${root}native`, { recursive: true, encoding: 'utf8' }).filter((file) =>
    /\.(cpp|h|inl)$/.test(file),
  );
  const thrown = files.flatMap((file) => read(`native/${file}`).match(/(?<=")[A-Z]+_[A-Z_]+(?=")/g) ?? []);
  assert.ok(thrown.includes('MODEL_FORMAT'));
  assert.equal(
    [...new Set(thrown)].filter((code) => !codes.has(code)),
    [],
  );
});

const PAGES = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(`${root}docs`).map((name) => `docs/${name}`),
];

/** Where the links of a page lead within the repository, and to which heading. */
function linksOf(page: string): { readonly path: string; readonly heading: string }[] {
  return [...read(page).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)/g)].map(([, target = '', heading = '']) => {
    return { path: target === '' ? page : posix.join(posix.dirname(page), target), heading };
  });
}

/** What a link to a heading of the page says behind its `#`. */
function anchorsOf(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, title = '']) => {
    return title.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-');
  });
}

docs('every link between the pages leads somewhere', () => {
  assert.ok(PAGES.length > 10);
  for (const page of PAGES) {
    for (const { path, heading } of linksOf(page)) {
      assert.ok(existsSync(`${root}${path}`), `${page}: ${path}`);
      if (heading !== '') assert.ok(anchorsOf(path).includes(heading), `${page}: ${path}#${heading}`);
    }
  }
});

docs('every file of results is linked from a page', () => {
  const linked = new Set(PAGES.flatMap((page) => linksOf(page).map(({ path }) => path)));
  const files = readdirSync(`${root}bench/results`).map((name) => `bench/results/${name}`);
  assert.ok(files.length > 10);
  assert.equal(files.filter((file) => !linked.has(file)), []);
});

docs.run();
