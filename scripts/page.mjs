// The script and styles of the report's page, each one file with everything it needs: what `baton report` puts into it.

import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Goes with every page, as its licences ask. */
const NOTICE = `/*! Charts: Observable Plot, (c) Observable, Inc.; D3 and isoformat, (c) Mike Bostock (ISC); d3-ease, (c) Robert Penner
(BSD-3-Clause); interval-tree-1d and binary-search-bounds, (c) Mikola Lysenko (MIT). Texts: THIRD-PARTY-NOTICES.md of baton-llm. */`;

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
    banner: { js: NOTICE },
    legalComments: 'inline',
    logLevel: 'warning',
  });
}
