// The CUDA backend end to end, run by the emulator. Needs an addon built against it (npm run test:emulator); the native
// cases of every operation are run by the same script.
//
// Timeout: 900 s

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../src/addon.ts';
import { Engine, type EngineError } from '../../src/index.ts';
import { DRAWN, GREEDY } from '../../src/native.ts';
import type { Addon, NativeEngine } from '../../src/native.ts';
import type { Answers, GoldenCase } from '../fake/golden.ts';
import { firstDifference, followAll, largestGap, withEngine } from '../fake/golden.ts';
import { makePlan, makeResult, start, talesLoad, type PlanParts } from './fake/tales.ts';

/** What only a build against the emulator exports. */
interface Emulator {
  configure(options: { order: string; async: string; seed: number; capability: number }): void;
  stats(): { readonly grids: number; readonly allocations: number; readonly pinnedAllocations: number };
  /** The next call that allocates, or else launches, copies or waits, fails with this cudaError_t. */
  failNext(code: number): void;
}

const OUT_OF_MEMORY = 2;
const ILLEGAL_ADDRESS = 700;
const PLAIN = { order: 'forward', async: 'eager', seed: 1, capability: 9 };
const STORIES = fileURLToPath(new URL('../../../shared/models/stories260K/', import.meta.url));
const TALES = fileURLToPath(new URL('../../models/tales/', import.meta.url));
const TOKENS = 64;
const PROMPT = [0, 1415, 327, 574, 260, 501, 406, 311, 260];

const emulated = suite('cuda-emu');
const addon = loadAddon();
const { emulator } = addon as Addon & { emulator?: Emulator };

/** Both products: mma.sync, and wgmma with TMA. */
const CAPABILITIES = [8, 9];

interface Recorded {
  readonly cases: readonly {
    readonly promptTokens: readonly number[];
    readonly tokens: readonly number[];
    readonly firstLogits: GoldenCase['first'];
  }[];
}

interface RecordedTales {
  readonly items: readonly {
    readonly prompt_ids: readonly number[];
    readonly continuation_ids: readonly number[];
    readonly top5_last_prompt_position: GoldenCase['first'];
  }[];
}

async function answersOf(folder: string, cases: readonly GoldenCase[], weights: 'f32' | 'bf16' | 'int8'): Promise<Answers[]> {
  const kv = weights === 'f32' ? 'f32' : 'bf16';
  return withEngine(folder, { device: 'cuda-emu', weights, kv, rows: 8, maxContext: 256 }, async (engine) => {
    assert.match(engine.stats().model.device, /^cuda-emu:0$/);
    return followAll(engine, cases);
  });
}

/**
 * A prompt in chunks, then tokens fed back by the device, in a row that moves: everything it said, bit for bit.
 * `ahead`: steps are asked for before the last has ended.
 */
async function play(engine: NativeEngine, company: number, ahead = false): Promise<string[]> {
  const sampling = { ...GREEDY, temperature: 0.9, topP: 0.95, repetitionPenalty: 1.1, seed: 11, logprobs: 3 };
  const others = Array.from({ length: company }, (_, i) => i + 1);
  const steps: Promise<string[]>[] = [];
  const ask = async (parts: PlanParts, row?: number) => {
    const result = makeResult(8);
    const step = engine.step(makePlan(parts), result).then(() => {
      if (row === undefined) return [];
      const top = [...result.topTokens.slice(20 * row, 20 * row + 3)];
      return [[result.sampled[row], result.logprobs[row], ...top].join(' ')];
    });
    steps.push(step);
    if (!ahead) await step;
  };
  await ask({ runs: [[-1, 0, 3, 0, 5]], tokens: PROMPT.slice(0, 5) });
  const begun = {
    starts: [start(0, PROMPT, sampling), ...others.map((row) => start(row, [row, 7]))],
    runs: [[0, 0, 3, 5, 4], ...others.map((row) => [row, 64 * row, 0, 0, 2])],
    tokens: [...PROMPT.slice(5), ...others.flatMap((row) => [row, 7])],
  };
  await ask(begun, 0);
  for (let step = 0; step < 5; step++) {
    const runs = [[0, 0, 3, 9 + step, 1], ...others.map((row) => [row, 64 * row, 0, 2 + step, 1])];
    await ask({ runs, tokens: runs.map(() => DRAWN) }, 0);
  }
  await ask({ moves: [[0, 512, 20]], rowMoves: [[0, 7]], runs: [[7, 512, 3, 14, 1]], tokens: [DRAWN] }, 7);
  // Slots behind masked ones shift by less than their number, onto themselves.
  await ask({ moves: [[515, 513, 15]], runs: [[7, 512, 1, 15, 1]], tokens: [DRAWN] }, 7);
  await ask({ moves: [[513, engine.slots + 7, 16]] }); // parked, and back elsewhere
  await ask({ moves: [[engine.slots + 7, 578, 16]], runs: [[7, 576, 2, 16, 1]], tokens: [DRAWN] }, 7);
  return (await Promise.all(steps)).flat();
}

const small = (changes: object = {}) =>
  talesLoad({ device: 'cuda-emu', isa: 'auto', rows: 8, slots: 640, hostSlots: 64, stepTokens: 32, kv: 'bf16', ...changes });

if (emulator === undefined) {
  const reason = 'the addon is not built against the emulator';
  console.log(`SKIP the CUDA backend end to end: ${reason}`);
  emulated.skip(reason, () => {});
} else {
  emulated.after.each(() => emulator.configure(PLAIN));

  emulated('is named, and tells its capability', async () => {
    for (const capability of CAPABILITIES) {
      emulator.configure({ ...PLAIN, capability });
      assert.equal(addon.cuda().devices.map(({ name, capability: own }) => [name, own]), [['cuda-emu:0', `${capability}.0`]]);
      const engine = await addon.load(small());
      assert.equal([engine.device, engine.isa], ['cuda-emu:0', `sm_${capability}0`]);
      await engine.close();
    }
    assert.ok(addon.cudaFreeBytes('cuda-emu:0') > 0);
  });

  if (existsSync(STORIES)) {
    const recorded = JSON.parse(readFileSync(`${STORIES}golden.json`, 'utf8')) as Recorded;
    const cases = recorded.cases.map(({ promptTokens, tokens, firstLogits }) => {
      return { prompt: promptTokens, tokens: tokens.slice(0, TOKENS), first: firstLogits };
    });
    emulated(`stories260K: ${TOKENS} greedy tokens are the recorded ones in f32`, async () => {
      const answers = await answersOf(`${STORIES}hf`, cases, 'f32');
      for (const [i, { steps, detours }] of answers.entries()) {
        assert.equal(detours, [], `case ${i}`);
        assert.equal(steps.map(({ token }) => token), cases[i]?.tokens);
      }
      assert.ok(firstDifference(answers, cases) <= 0.0002);
    });
    for (const capability of CAPABILITIES) {
      emulated(`stories260K: bf16 goes another way only where it was close, on sm_${capability}0`, async () => {
        emulator.configure({ ...PLAIN, capability });
        const answers = await answersOf(`${STORIES}hf`, cases.slice(0, 4), 'bf16');
        const gap = largestGap(answers);
        const detours = answers.reduce((sum, one) => sum + one.detours.length, 0);
        console.log(`stories260K bf16, sm_${capability}0: ${detours} of ${4 * TOKENS} steps differ, by at most ${gap} nats`);
        assert.ok(gap <= 0.15, `preferred by ${gap}`);
      });
    }
  } else {
    console.log('SKIP stories260K: ../shared/models/stories260K is not here');
    emulated.skip('stories260K', () => {});
  }

  // The tolerances of test/golden/tales.ts.
  for (const [weights, mostGap, mostFirst] of [['f32', 0.0001, 0.0001], ['bf16', 0.04, 0.08], ['int8', 0.25, 0.35]] as const) {
    for (const capability of weights === 'f32' ? [8] : CAPABILITIES) {
      emulated(`tales: ${weights} says what is recorded, within the tolerance, on sm_${capability}0`, async () => {
        emulator.configure({ ...PLAIN, capability });
        const { items } = JSON.parse(readFileSync(`${TALES}golden.json`, 'utf8')) as RecordedTales;
        const cases = items.slice(0, 4).map((item) => {
          const { prompt_ids: prompt, continuation_ids: tokens, top5_last_prompt_position: first } = item;
          return { prompt, tokens: tokens.slice(0, 24), first };
        });
        const answers = await answersOf(TALES, cases, weights);
        assert.ok(largestGap(answers) <= mostGap, `preferred by ${largestGap(answers)}`);
        assert.ok(firstDifference(answers, cases) <= mostFirst, `logits behind the prompt: ${firstDifference(answers, cases)}`);
      });
    }
  }

  emulated('gives the same bits with recorded steps and without, in company, and in every order of threads', async () => {
    for (const weights of ['bf16', 'int8']) {
      for (const capability of CAPABILITIES) {
        const said = new Set<string>();
        for (const [order, async, graphs, company, checkLaunches] of [
          ['forward', 'eager', false, 0, true],
          ['forward', 'eager', true, 0, false],
          ['reverse', 'deferred', true, 6, false],
          ['random', 'deferred', false, 3, false],
          ['random', 'eager', true, 5, false],
        ] as const) {
          emulator.configure({ order, async, seed: 3, capability });
          const engine = await addon.load(small({ weights, graphs, checkLaunches }));
          said.add((await play(engine, company)).join('\n'));
          said.add((await play(engine, company, true)).join('\n')); // the next step asked for before the last has ended
          await engine.close();
        }
        assert.is(said.size, 1, [...said].join('\n\n'));
      }
    }
  });

  emulated('says what was asked for when memory is short, and gives back what it took', async () => {
    const before = emulator.stats();
    const refused = await addon.load(small({ slots: 64 * 2 ** 20 })).catch((error: EngineError) => error);
    assert.match(String(refused), /keys: asked the GPU for \d+ MiB, but only \d+ MiB of its \d+ MiB are free/);
    assert.is((refused as EngineError).code, 'OUT_OF_MEMORY');
    emulator.failNext(OUT_OF_MEMORY);
    const failed = await addon.load(small()).catch((error: EngineError) => error);
    assert.is((failed as EngineError).code, 'OUT_OF_MEMORY');
    const engine = await addon.load(small());
    assert.ok(emulator.stats().allocations > before.allocations);
    await engine.close();
    const { allocations, pinnedAllocations } = emulator.stats();
    assert.equal([allocations, pinnedAllocations], [before.allocations, before.pinnedAllocations]);
  });

  emulated('refuses devices that are not there, and those that are too old', async () => {
    for (const device of ['cuda-emu:1', 'cuda', 'cuda:0', 'cuda-emu:x']) {
      const error = await addon.load(small({ device })).catch((cause: EngineError) => cause);
      assert.is((error as EngineError).code, 'DEVICE_UNAVAILABLE', device);
    }
    emulator.configure({ ...PLAIN, capability: 7 });
    const error = await addon.load(small()).catch((cause: EngineError) => cause);
    assert.match(String(error), /expected compute capability 8\.0 or later, got 7\.0/);
  });

  emulated('serves two engines at once', async () => {
    const engines = await Promise.all([addon.load(small()), addon.load(small({ graphs: false }))]);
    const [one, other] = await Promise.all(engines.map((engine) => play(engine, 2)));
    assert.equal(one, other);
    await Promise.all(engines.map((engine) => engine.close()));
  });

  // Last: a device that is lost stays so.
  emulated('ends every request when the device is lost', async () => {
    const engine = await Engine.load(TALES, { device: 'cuda-emu', rows: 2, maxContext: 64 });
    const lost = (promise: Promise<unknown>) => promise.then(() => 'done', (error: EngineError) => error.code);
    const requests = [1, 2, 3].map((seed) => lost(engine.complete({ prompt: 'Once', maxTokens: 40, seed })));
    emulator.failNext(ILLEGAL_ADDRESS);
    assert.equal(await Promise.all(requests), ['DEVICE_LOST', 'DEVICE_LOST', 'DEVICE_LOST']);
    assert.not.equal(await lost(engine.complete({ prompt: 'Once', maxTokens: 1 })), 'done');
    await engine.close();
  });
}

emulated.run();
