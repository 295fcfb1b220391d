// The script and styles of the report's page, each one file with everything it needs: what `baton report` puts into it.

import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const page = fileURLToPath(new URL('../src/report/page', import.meta.url));

/** Writes main.js and page.css to a folder. */
export function buildPage(folder) {
  return build({
    entryPoints: [join(page, 'main.ts'), join(page, 'page.css')],
    outdir: folder,
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'inline',
    logLevel: 'warning',
  });
}
