// npm run test:sanitize [pattern]: the tests that reach native code, on an addon built with AddressSanitizer and
// UndefinedBehaviorSanitizer. Any finding ends the test's process, and so fails its file.

import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Files of test/ that load the addon; leak.ts measures the process, of which the sanitizer makes something else. */
const NATIVE_TESTS = '^(native/(?!leak)|golden/stories)|^model/(mutations|native)';
const TIMEOUT_SECONDS = 300;

const root = fileURLToPath(new URL('..', import.meta.url));

function run(args, env = process.env) {
  return spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env }).status;
}

if (run(['scripts/build.mjs', '--sanitize=address']) !== 0) {
  console.log('0 passed, 1 failed, 0 skipped');
  process.exit(1);
}

// Where the loader looks, in the folder that BATON_LLM_PREBUILD names.
const home = join(root, 'build', 'Sanitize', 'home');
const place = join(home, 'build', 'Release');
mkdirSync(place, { recursive: true });
cpSync(join(root, 'build', 'Sanitize', 'Release', 'baton.node'), join(place, 'baton.node'));

const library = (name) => execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
const status = run(
  ['--import', 'tsx', 'test/run.ts', process.argv[2] ?? NATIVE_TESTS, '--alone', `--timeout-s=${TIMEOUT_SECONDS}`],
  {
    ...process.env,
    BATON_LLM_PREBUILD: home,
    // libstdc++ too: the sanitizer wraps __cxa_throw and must find it when node starts.
    LD_PRELOAD: `${library('libasan.so')} ${library('libstdc++.so')}`,
    // Node itself leaves memory to the system when it exits.
    ASAN_OPTIONS: 'detect_leaks=0:halt_on_error=1:detect_stack_use_after_return=1',
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
  },
);
process.exitCode = status ?? 1;
