// Tables of docs/ against the code they describe.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
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

docs('every link between the pages leads somewhere', () => {
  for (const page of [
    'README.md',
    'CONTRIBUTING.md',
    'docs/benchmarks.md',
    'docs/benchmarks-report.md',
    'docs/design.md',
    'docs/errors.md',
    'docs/env.md',
    'docs/install.md',
    'docs/models.md',
    'docs/simulator.md',
  ]) {
    for (const [, target] of read(page).matchAll(/\]\(((?!https?:)[^)#]+)\)/g)) {
      const folder = page.startsWith('docs/') ? 'docs/' : '';
      assert.ok(existsSync(`${root}${folder}${target}`), `${page}: ${target}`);
    }
  }
});

docs.run();
