// npm run check: types, the arrows of the house, and the format of native code.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const counts = { passed: 0, failed: 0, skipped: 0 };

function check(name, command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (error?.code === 'ENOENT') {
    counts.skipped++;
    console.log(`SKIP ${name}: ${command} is not installed`);
  } else if (status === 0) {
    counts.passed++;
    console.log(`ok   ${name}`);
  } else {
    counts.failed++;
    console.log(`FAIL ${name}`);
  }
}

const native = readdirSync(join(root, 'native'), { recursive: true })
  .filter((file) => /\.(h|inl|cuh|cpp|cu)$/.test(file))
  .map((file) => join('native', file));

check('types', process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json']);
check('types of the page', process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'src/report/page']);
check("types of the page's tests", process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'test/report/page']);
check('layers', process.execPath, ['--import', 'tsx', 'test/layers.ts']);
check('format', 'clang-format', ['--dry-run', '--Werror', ...native]);

console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
