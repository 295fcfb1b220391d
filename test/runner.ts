// The runner itself: what would pass unseen without it must fail.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const runner = suite('run.ts');
const home = mkdtempSync(join(tmpdir(), 'baton-runner-'));
runner.after(() => rmSync(home, { recursive: true, force: true }));

const HEAD = `import { suite } from ${JSON.stringify(import.meta.resolve('uvu'))}; const it = suite('it');`;
const PASSING = `${HEAD} it('a', () => {}); it('b', () => {}); it.run();`;

let folders = 0;

/** Runs the runner over test files of these names and texts. */
function run(files: Readonly<Record<string, string>>, ...args: string[]) {
  const root = join(home, String(folders++));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(root, name, '..'), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const script = fileURLToPath(new URL('run.ts', import.meta.url));
  const { status, stdout } = spawnSync(process.execPath, ['--import', 'tsx', script, '--root', root, ...args], {
    encoding: 'utf8',
  });
  const lastLine = stdout.trimEnd().split('\n').at(-1);
  return { status, stdout, lastLine };
}

function fails(text: string, lastLine: string, message: RegExp, ...args: string[]): void {
  const outcome = run({ 'good.ts': PASSING, 'bad.ts': text }, ...args);
  assert.is(outcome.lastLine, lastLine, outcome.stdout);
  assert.is(outcome.status, 1);
  assert.match(outcome.stdout, message);
}

runner('adds up the tests of all files, and leaves out fake/', () => {
  const { status, lastLine } = run({ 'a.ts': PASSING, 'deep/er/b.ts': PASSING, 'fake/c.ts': 'throw new Error();' });
  assert.is(lastLine, '4 passed, 0 failed, 0 skipped');
  assert.is(status, 0);
});

runner('shows a failing test with its output', () => {
  const text = `${HEAD} it('a', () => {}); it('b', () => { throw new Error('broken as planned'); }); it.run();`;
  fails(text, '3 passed, 1 failed, 0 skipped', /FAIL bad\.ts[^]*broken as planned/);
});

runner('fails a file that forgot run()', () => {
  fails(`${HEAD} it('a', () => {});`, '2 passed, 1 failed, 0 skipped', /no tests ran: is run\(\) missing\?/);
});

runner('fails a file that dies, however it had gone before', () => {
  const dying = `${HEAD} it('a', () => process.kill(process.pid, 'SIGSEGV')); it.run();`;
  fails(dying, '2 passed, 1 failed, 0 skipped', /ended by SIGSEGV/);
  const late = `${PASSING} process.on('exit', () => process.kill(process.pid, 'SIGKILL'));`;
  fails(late, '4 passed, 1 failed, 0 skipped', /ended by SIGKILL/);
});

runner('fails a file that does not end', () => {
  const text = `${PASSING} setInterval(() => {}, 1000);`;
  fails(text, '4 passed, 1 failed, 0 skipped', /not ended after 10 s/, '--timeout-s=10');
});

runner('shows why a test was skipped', () => {
  const text = `${HEAD} console.log('SKIP b: no such machine'); it('a', () => {}); it.skip('b'); it.run();`;
  const { status, stdout, lastLine } = run({ 'a.ts': text });
  assert.is(lastLine, '1 passed, 0 failed, 1 skipped');
  assert.match(stdout, /^ {5}SKIP b: no such machine$/m);
  assert.is(status, 0);
});

runner('runs the files that match, and fails if none does', () => {
  const files = { 'a.ts': PASSING, 'b.ts': 'throw new Error();' };
  assert.is(run(files, '^a').lastLine, '2 passed, 0 failed, 0 skipped');
  const none = run(files, 'nowhere');
  assert.is(none.lastLine, '0 passed, 1 failed, 0 skipped');
  assert.is(none.status, 1);
});

runner.run();
