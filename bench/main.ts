// npm run bench -- NAME [options]: runs bench/NAME.ts, which prints a table and, with --out FILE.json, writes its figures.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && !['main.ts', 'shapes.ts', 'record.ts', 'real-run.ts'].includes(file))
  .map((file) => file.slice(0, -3));
const [name = ''] = process.argv.splice(2, 1);

if (names.includes(name)) {
  const file = join(folder, `${name}.ts`);
  process.argv[1] = file; // what a result file names as its command
  await import(pathToFileURL(file).href);
} else {
  console.error(`usage: npm run bench -- ${names.join(' | ')} [options]`);
  process.exitCode = 2;
}
