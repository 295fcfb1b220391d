// The script and styles of the report's page, each one file with everything it needs: what `baton report` puts into it.

import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Goes with every page, as its licences ask. */
const NOTICE = `/*! Charts: Observable Plot, (c) 2020-2025 Observable, Inc.; D3, (c) 2010-2026 Mike Bostock;
isoformat, (c) 2021 Mike Bostock (ISC); ColorBrewer's colours (Apache-2.0), parts of GeographicLib (MIT):
THIRD-PARTY-NOTICES.md of baton-llm */`;

const page = fileURLToPath(new URL('../src/report/page', import.meta.url));

/** Writes main.js and page.css to a folder; answers with what esbuild says of them. */
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
    metafile: true,
    logLevel: 'warning',
  });
}
