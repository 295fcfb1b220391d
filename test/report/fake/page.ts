// Pages as `baton report` writes them, with the script and styles as they are in the sources now.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BenchRecord } from '../../../src/bench/record.ts';
import { documentOf } from '../../../src/report/document.ts';
import { collect } from '../../../src/report/evidence.ts';

interface Bundle {
  readonly inputs: Readonly<Record<string, { readonly bytesInOutput: number }>>;
}

const folder = mkdtempSync(join(tmpdir(), 'baton-report-'));
process.on('exit', () => rmSync(folder, { recursive: true }));

const { buildPage } = (await import(new URL('../../../scripts/page.mjs', import.meta.url).href)) as {
  buildPage(folder: string): Promise<{ readonly metafile: { readonly outputs: Readonly<Record<string, Bundle>> } }>;
};
const { metafile } = await buildPage(folder);
const read = (name: string) => readFileSync(join(folder, name), 'utf8');
const assets = { script: read('main.js'), style: read('page.css') };

/** Packages that the page's script holds something of. */
export function bundledPackages(): string[] {
  const inputs = Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs));
  const held = inputs.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path);
  return [...new Set(held.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []))];
}

export function pageOf(...records: readonly BenchRecord[]): string {
  const files = records.map((record, i) => ({
    file: `${i}-${record.experiment}.json`,
    content: JSON.stringify(record),
  }));
  return documentOf(collect(files), assets);
}

/** Writes a page to a file, and says its address. */
export function serve(name: string, page: string): string {
  const file = join(folder, name);
  writeFileSync(file, page);
  return pathToFileURL(file).href;
}
