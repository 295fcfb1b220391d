// npm run bench -- NAME [options]: an experiment of src/bench, as `baton bench NAME`, or the script bench/NAME.ts.
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { BENCHES } from '../src/bench/benches.ts';

const folder = dirname(fileURLToPath(import.meta.url));
const scripts = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && !['main.ts', 'real-run.ts'].includes(file))
  .map((file) => file.slice(0, -3));
const [name = ''] = process.argv.slice(2);

if (Object.hasOwn(BENCHES, name)) {
  process.argv.splice(2, 0, 'bench');
  await import('../src/cli/main.ts');
} else if (scripts.includes(name)) {
  const file = join(folder, `${name}.ts`);
  process.argv.splice(1, 2, file);
  await import(pathToFileURL(file).href);
} else {
  console.error(`usage: npm run bench -- ${[...Object.keys(BENCHES), ...scripts].join(' | ')} [options]`);
  process.exitCode = 2;
}
