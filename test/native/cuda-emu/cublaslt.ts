// cuBLASLt as an option, with a library that stands in for it and refuses what the real one does not promise to accept.
// Needs an addon built against the emulator, and the target `libraries` (npm run test:emulator).
//
// Timeout: 300 s

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../src/addon.ts';
import { Engine, type EngineError } from '../../../src/index.ts';
import { GREEDY } from '../../../src/native.ts';
import type { Addon, NativeEngine, NativeLoad } from '../../../src/native.ts';
import { makePlan, makeResult, start, TALES, talesLoad } from '../fake/tales.ts';

/** What only a build against the emulator exports; see cuda-emu.ts. */
interface Emulator {
  stats(): { readonly allocations: number };
  failNext(code: number): void;
}

const OUT_OF_MEMORY = 2;
const LIBRARY_TOKENS = 256; // from which on a step is the library's: kLibraryTokens of native/cuda/backend.h
const FOLDER = process.env['BATON_LLM_PREBUILD'] ?? '';

const cublasLt = suite('cuBLASLt');
const { emulator, load } = loadAddon() as Addon & { emulator?: Emulator };

/** The library: sound, or with one of its flaws. */
const library = (flaw = '') => join(FOLDER, 'build', 'Release', `cublaslt${flaw}.so`);

function small(changes: Partial<NativeLoad> = {}): Promise<NativeEngine> {
  const sizes = { rows: LIBRARY_TOKENS, slots: 64 * LIBRARY_TOKENS, stepTokens: LIBRARY_TOKENS + 64, context: 512 };
  return load(talesLoad({ device: 'cuda-emu', kv: 'bf16', cublasLt: library(), ...sizes, ...changes }));
}

const prompt = (tokens: number) => Array.from({ length: tokens }, (_, i) => (7 * i) % 2048);

/** A prompt's last token's likeliest successors, with their log-probabilities. */
async function prefill(engine: NativeEngine, tokens: number): Promise<[number, number][]> {
  const result = makeResult(LIBRARY_TOKENS);
  const starts = [start(0, prompt(tokens), { ...GREEDY, logprobs: 20 })];
  await engine.step(makePlan({ starts, runs: [[0, 0, 0, 0, tokens]], tokens: prompt(tokens) }), result);
  return Array.from({ length: 20 }, (_, i) => [result.topTokens[i]!, result.topLogprobs[i]!]);
}

/** A step of so many rows that decode. */
async function decode(engine: NativeEngine, rows: number): Promise<void> {
  const all = Array.from({ length: rows }, (_, row) => row);
  const starts = all.map((row) => start(row, [row]));
  await engine.step(makePlan({ starts, runs: all.map((row) => [row, 64 * row, 0, 0, 1]), tokens: all }), makeResult(LIBRARY_TOKENS));
}

/** `ops` on the emulator, and what it said. */
function ops(command: string, args: readonly string[], env: object = {}): { readonly status: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync(join(FOLDER, 'ops'), [command, '--device', 'cuda-emu', '--quick', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  return { status, said: stdout + stderr };
}

async function failure(call: Promise<unknown>): Promise<EngineError> {
  return call.then(() => assert.unreachable('it did not fail'), (error: EngineError) => error) as Promise<EngineError>;
}

if (emulator === undefined || !existsSync(library())) {
  const reason = 'the addon is not built against the emulator';
  console.log(`SKIP cuBLASLt: ${reason}`);
  cublasLt.skip(reason, () => {});
} else {
  cublasLt('says of a long prompt what our own products say, within their rounding', async () => {
    const tokens = LIBRARY_TOKENS + 44;
    const engine = await small();
    await prefill(engine, LIBRARY_TOKENS); // another shape
    const answer = await prefill(engine, tokens);
    assert.equal(await prefill(engine, tokens), answer);
    await engine.close();
    const alone = await small({ cublasLt: '' });
    const own = await prefill(alone, tokens);
    await alone.close();

    const expected = new Map(own);
    let compared = 0;
    for (const [token, logprob] of answer) {
      if (!expected.has(token)) continue;
      compared++;
      assert.ok(Math.abs(logprob - expected.get(token)!) <= 0.04, `token ${token}: ${logprob}, not ${expected.get(token)}`);
    }
    assert.ok(compared >= 16, `${compared} of 20 in common`);
    assert.not.equal(answer, own, "the same bits: nothing was the library's");
  });

  cublasLt('gets steps of enough tokens only, in bf16 only, and none that is recorded', async () => {
    const refused = /cublaslt_failing\.so 13\.0\.1: cublasLtMatmul: this library fails/;
    const engine = await small({ cublasLt: library('_failing') });
    for (let step = 0; step < 2; step++) await decode(engine, LIBRARY_TOKENS); // as it is, then recorded
    await prefill(engine, LIBRARY_TOKENS - 1);
    const error = await failure(prefill(engine, LIBRARY_TOKENS));
    assert.is(error.code, 'INTERNAL');
    assert.match(error.message, refused);
    await prefill(engine, LIBRARY_TOKENS - 1);
    await engine.close();

    const unrecorded = await small({ cublasLt: library('_failing'), graphs: false });
    await decode(unrecorded, LIBRARY_TOKENS - 1);
    assert.match((await failure(decode(unrecorded, LIBRARY_TOKENS))).message, refused);
    await unrecorded.close();

    const int8 = await small({ cublasLt: library('_failing'), weights: 'int8' });
    await prefill(int8, LIBRARY_TOKENS);
    await int8.close();
  });

  cublasLt('says so when the library knows no algorithm', async () => {
    const engine = await small({ cublasLt: library('_clueless') });
    const error = await failure(prefill(engine, LIBRARY_TOKENS));
    assert.is(error.code, 'INTERNAL');
    assert.match(error.message, /cublaslt_clueless\.so 13\.0\.1: no algorithm for this shape/);
    await engine.close();
  });

  for (const [cause, path, message] of [
    ['missing', library('_missing'), /^cuBLASLt: \S+_missing\.so: cannot open shared object file/],
    ['no library', join(TALES, 'config.json'), /^cuBLASLt: \S+config\.json: (invalid ELF header|file too short)/],
    ['too old', library('_old'), /_old\.so: expected version 120000 or later, got 111103$/],
    ['incomplete', library('_partial'), /_partial\.so: expected a function cublasLtMatmul$/],
    ['dead', library('_dead'), /_dead\.so: cublasLtCreate: this library is dead$/],
  ] as const) {
    cublasLt(`fails the load when asked for a library that is ${cause}`, async () => {
      const { allocations } = emulator.stats();
      const error = await failure(small({ cublasLt: path }));
      assert.is(error.code, 'DEVICE_UNAVAILABLE');
      assert.match(error.message, message);
      assert.is(emulator.stats().allocations, allocations);
    });
  }

  cublasLt('says that there is no memory for its workspace', async () => {
    const { allocations } = emulator.stats();
    emulator.failNext(OUT_OF_MEMORY);
    const error = await failure(small());
    assert.is(error.code, 'OUT_OF_MEMORY');
    assert.match(error.message, /^cuBLASLt's workspace: asked the GPU for 33 MiB/);
    assert.is(emulator.stats().allocations, allocations);
  });

  cublasLt('is asked for by BATON_CUBLASLT, and no business of the CPU', async () => {
    process.env['BATON_CUBLASLT'] = library('_old');
    try {
      const error = await failure(Engine.load(TALES, { device: 'cuda-emu', rows: 1, maxContext: 64 }));
      assert.match(`${error.code} ${error.message}`, /^DEVICE_UNAVAILABLE cuBLASLt: .*_old\.so/);
      await (await Engine.load(TALES, { device: 'cpu', rows: 1, maxContext: 64 })).close();
    } finally {
      delete process.env['BATON_CUBLASLT'];
    }
  });

  cublasLt('is what the loader finds, the newest first, where no path is named', () => {
    const search = (newer: string, older: string) => {
      const home = mkdtempSync(join(tmpdir(), 'baton-loader-'));
      symlinkSync(newer, join(home, 'libcublasLt.so.13'));
      symlinkSync(older, join(home, 'libcublasLt.so.12'));
      const one = ['--op', 'matmul', '--case', '33 x 8 bf16*', '--schedule', 'forward', '--async', 'eager'];
      const answer = ops('test', [...one, '--cublaslt', 'auto'], { LD_LIBRARY_PATH: home });
      rmSync(home, { recursive: true });
      return answer;
    };
    const none = join(TALES, 'config.json');
    for (const [newer, older, name] of [[library(), library('_dead'), '13'], [none, library(), '12']] as const) {
      const { status, said } = search(newer, older);
      assert.is(status, 0, said);
      assert.match(said, new RegExp(`^products of bf16: libcublasLt.so.${name} 13\\.0\\.1$`, 'm'));
    }
    const { status, said } = search(none, none);
    assert.is(status, 1);
    assert.match(said, /DEVICE_UNAVAILABLE: cuBLASLt: \S*libcublasLt\.so\.13: .*; \S*libcublasLt\.so\.12: /);
  });

  cublasLt('is timed beside our own products of bf16 by ops bench', () => {
    const home = mkdtempSync(join(tmpdir(), 'baton-ops-'));
    const bench = (...args: string[]) => {
      const json = join(home, 'bench.json');
      const { status, said } = ops('bench', ['--op', 'matmul*', '--case', '33 x 8 *', '--json', json, ...args]);
      assert.is(status, 0, said);
      type Timed = Record<'microseconds' | 'libraryMicroseconds' | 'ratioToLibrary', number | null> & { case: string };
      return { said, ...(JSON.parse(readFileSync(json, 'utf8')) as { library: Record<'name' | 'reason', string>; results: Timed[] }) };
    };
    const compared = bench('--cublaslt', library());
    const name = `${library()} 13.0.1`;
    assert.equal(compared.library, { name, reason: '' });
    assert.ok(compared.said.includes(name));
    assert.is(compared.results.length, 9); // three ops of three types
    for (const { case: shape, microseconds, libraryMicroseconds, ratioToLibrary } of compared.results) {
      if (shape.includes('bf16')) {
        assert.ok(libraryMicroseconds! > 0);
        assert.ok(Math.abs(ratioToLibrary! - microseconds! / libraryMicroseconds!) <= 1e-3 * ratioToLibrary!);
      } else {
        assert.equal([libraryMicroseconds, ratioToLibrary], [null, null], shape);
      }
    }
    const without = bench('--cublaslt', library('_old'));
    const { reason, name: none } = without.library;
    assert.is(none, '');
    assert.match(reason, /_old\.so: expected version/);
    assert.ok(without.said.includes(`no library to compare with: ${reason}`));
    const unanswered = bench('--cublaslt', library('_clueless'));
    assert.match(unanswered.said, /^9 timed, 0 failed, 0 skipped$/m);
    for (const { results } of [without, unanswered, bench()]) {
      assert.ok(results.every(({ ratioToLibrary }) => ratioToLibrary === null));
    }
    rmSync(home, { recursive: true });
  });
}

cublasLt.run();
