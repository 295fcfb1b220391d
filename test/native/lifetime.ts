// Who frees what, and when: close, garbage collection, worker threads that end or are ended, the end of the process.
// Timeout: 300 s

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addonPath, loadAddon } from '../../src/addon.ts';
import type { NativeEngine } from '../../src/native.ts';
import { failure, loadTales, makePlan, makeResult, TALES, talesLoad } from './fake/tales.ts';

const lifetime = suite('lifetime');

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Threads of this process; −1 where the system does not say. */
function threadCount(): number {
  return process.platform === 'linux' ? readdirSync('/proc/self/task').length : -1;
}

/** No more threads than `count`: they end a little after they were told to. Fewer, if one of Node's own ended too. */
async function expectThreads(count: number): Promise<void> {
  for (let i = 0; threadCount() > count && i < 100; i++) await setTimeout(20);
  assert.ok(threadCount() <= count, `${threadCount()} threads, ${count} before`);
}

/** A step that takes a while: 200 tokens. */
function longStep(engine: NativeEngine, row = 0): Promise<void> {
  const plan = makePlan({ runs: [[row, row * 256, 0, 0, 200]], tokens: Array.from({ length: 200 }, (_, i) => i) });
  return engine.step(plan, makeResult());
}

lifetime.before(async () => void (await stat('.'))); // starts the threads of Node's own pool

lifetime('close ends the threads, twice is once, and a step afterwards says CLOSED', async () => {
  const before = threadCount();
  const engine = await loadTales();
  if (before !== -1) assert.ok(threadCount() > before);
  await Promise.all([engine.close(), engine.close()]);
  await engine.close();
  await expectThreads(before);
  assert.is((await failure(() => engine.step(makePlan(), makeResult()))).code, 'CLOSED');
});

lifetime('close waits for the running step and rejects those behind it, in order', async () => {
  const engine = await loadTales();
  const settled: string[] = [];
  const note = async (name: string, promise: Promise<void>) => {
    const { code } = await failure(() => promise);
    settled.push(`${name}: ${code}`);
  };
  const first = note('first', longStep(engine));
  await engine.step(makePlan(), makeResult()); // the first has been taken up, and has ended
  const all = [
    first,
    note('second', longStep(engine)),
    note('third', longStep(engine)),
    note('fourth', longStep(engine)),
  ];
  await setTimeout(5);
  all.push(note('close', engine.close()), note('fifth', longStep(engine)), note('close again', engine.close()));
  await Promise.all(all);
  assert.is(settled[0], 'first: no error');
  assert.equal(settled.slice(-2), ['close: no error', 'close again: no error']);
  assert.ok(settled.includes('fourth: CLOSED'), settled.join(', '));
  assert.ok(settled.includes('fifth: CLOSED'), settled.join(', '));
  const order = settled.filter((line) => /second|third|fourth/.test(line)).map((line) => line.split(':')[0]);
  assert.equal(order, ['second', 'third', 'fourth']);
});

lifetime('a forgotten engine is freed with its threads', async () => {
  const before = threadCount();
  let freed = 0;
  const registry = new FinalizationRegistry(() => freed++);
  for (let i = 0; i < 3; i++) registry.register(await loadTales(), i);
  for (let i = 0; freed < 3 && i < 100; i++) {
    gc();
    await setTimeout(10);
  }
  assert.is(freed, 3);
  await expectThreads(before);
});

lifetime('an engine whose step is under way is not freed, though nobody holds it', async () => {
  const stepping = loadTales().then((engine) => longStep(engine));
  for (let i = 0; i < 10; i++) {
    await setTimeout(2);
    gc();
  }
  await stepping;
});

lifetime('a failed load leaves no thread', async () => {
  const before = threadCount();
  const files = [`${TALES}config.json`];
  for (let i = 0; i < 5; i++) assert.is((await failure(() => loadTales({ files }))).code, 'MODEL_FORMAT');
  await expectThreads(before);
});

lifetime('methods of other objects, and engines that nobody loaded, are refused', async () => {
  const engine = await loadTales();
  const { step, close, constructor } = engine as unknown as Record<string, (...values: unknown[]) => unknown>;
  const device = new (loadAddon().kernels.Device)({ ...talesLoad(), slots: 64 });
  for (const receiver of [{}, undefined, device, Object.create(engine) as object]) {
    assert.not.equal((await failure(() => step!.call(receiver, makePlan(), makeResult()))).code, 'no error');
    assert.not.equal((await failure(() => close!.call(receiver))).code, 'no error');
  }
  assert.is((await failure(() => Reflect.construct(constructor!, []))).code, 'INVALID_ARGUMENT');
  assert.is((await failure(() => Reflect.construct(constructor!, [device]))).code, 'INVALID_ARGUMENT');
  device.close();
  await engine.close();
});

/** What a worker thread does with the addon. Plain JavaScript: it gets what it needs as data. */
const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { path, load, plan, result, what } = workerData;
  const addon = require(path);
  const say = (word) => parentPort.postMessage(word);
  const steps = (engine, n) => Promise.all(Array.from({ length: n }, () => engine.step(plan, result)));
  const actions = {
    async finish() { const engine = await addon.load(load); await steps(engine, 2); await engine.close(); },
    async leave() { const engine = await addon.load(load); await steps(engine, 2); globalThis.kept = engine; },
    async exit() { const engine = await addon.load(load); steps(engine, 5); process.exit(0); },
    async exitInProgress() { addon.load({ ...load, onProgress: (share) => { if (share > 0.3) process.exit(0); } }); },
    async throwInStep() { const engine = await addon.load(load); steps(engine, 5); throw new Error('as planned'); },
    async load() { for (;;) { say('busy'); await (await addon.load(load)).close(); } },
    async loadMany() { say('busy'); for (;;) await Promise.all([1, 2, 3].map(() => addon.load(load))); },
    async progress() { for (;;) await addon.load({ ...load, onProgress: () => say('busy') }); },
    async step() { const engine = await addon.load(load); say('busy'); for (;;) await engine.step(plan, result); },
    async queue() { const engine = await addon.load(load); say('busy'); for (;;) await steps(engine, 10); },
    async spin() { const engine = await addon.load(load); engine.step(plan, result); say('busy'); for (;;); },
    async close() {
      for (;;) {
        const engine = await addon.load(load);
        steps(engine, 3).catch(() => {});
        say('busy');
        await engine.close();
      }
    },
  };
  actions[what]().catch((error) => { if (what === 'throwInStep') throw error; say(String(error)); });
`;

function startWorker(what: string): Worker {
  const plan = makePlan({ runs: [[0, 0, 0, 0, 40]], tokens: Array.from({ length: 40 }, (_, i) => i) });
  const workerData = { path: addonPath(), load: talesLoad(), plan, result: makeResult(), what };
  return new Worker(WORKER, { eval: true, workerData });
}

function exitOf(worker: Worker): Promise<{ code: number; error: Error | undefined }> {
  let error: Error | undefined;
  worker.on('error', (thrown: Error) => (error = thrown));
  return new Promise((resolve) => worker.on('exit', (code) => resolve({ code, error })));
}

for (const what of ['finish', 'leave', 'exit', 'exitInProgress']) {
  lifetime(`a worker thread that ends by itself: ${what}`, async () => {
    const before = threadCount();
    const worker = startWorker(what);
    worker.on('message', (word: string) => assert.unreachable(word));
    assert.equal(await exitOf(worker), { code: 0, error: undefined });
    await expectThreads(before);
  });
}

lifetime('a worker thread that throws while steps are under way', async () => {
  const { code, error } = await exitOf(startWorker('throwInStep'));
  assert.is(code, 1);
  assert.is(error?.message, 'as planned');
});

for (const what of ['load', 'loadMany', 'progress', 'step', 'queue', 'spin', 'close']) {
  lifetime(`a worker thread that is terminated in the middle: ${what}`, async () => {
    const before = threadCount();
    for (let round = 0; round < 6; round++) {
      const worker = startWorker(what);
      const exit = exitOf(worker);
      await new Promise((resolve) => worker.once('message', resolve));
      await setTimeout(round * 4); // wherever that finds it
      await worker.terminate();
      assert.is((await exit).error, undefined);
    }
    await expectThreads(before);
  });
}

lifetime('worker threads and the main thread have engines of their own', async () => {
  const own = await loadTales();
  const workers = ['finish', 'leave', 'finish'].map((what) => exitOf(startWorker(what)));
  for (let i = 0; i < 3; i++) await longStep(own);
  assert.equal(
    (await Promise.all(workers)).map(({ code }) => code),
    [0, 0, 0],
  );
  await longStep(own);
  await own.close();
});

const ENDS: readonly [string, string, number][] = [
  ['with a live engine', 'globalThis.kept = engine;', 0],
  ['with a step under way and process.exit', 'engine.step(plan, result); process.exit(3);', 3],
  ['with steps queued and process.exit', 'for (let i = 0; i < 5; i++) engine.step(plan, result); process.exit(3);', 3],
  ['with a step under way and an exception', 'engine.step(plan, result); throw new Error("as planned");', 1],
  ['in a callback of its own step', 'await engine.step(plan, result); engine.step(plan, result); process.exit(4);', 4],
  ['while it loads', 'addon.load({ ...load, onProgress: (share) => { if (share > 0.5) process.exit(5); } });', 5],
  ['after its last step, with nothing to keep it', 'await engine.step(plan, result);', 0],
];
for (const [name, body, expected] of ENDS) {
  lifetime(`the process ends ${name}`, () => {
    const plan = makePlan({ runs: [[0, 0, 0, 0, 3]], tokens: [1, 2, 3] });
    const numbers = (array: Int32Array) => `new Int32Array([${array.join()}])`;
    const script = `
      const addon = require(${JSON.stringify(addonPath())});
      const load = ${JSON.stringify(talesLoad())};
      const plan = { ...${JSON.stringify(plan)}, moves: new Int32Array(0), rowMoves: new Int32Array(0),
        runs: ${numbers(plan.runs)}, tokens: ${numbers(plan.tokens)} };
      const result = { sampled: new Int32Array(4), logprobs: new Float32Array(4),
        topTokens: new Int32Array(80), topLogprobs: new Float32Array(80) };
      (async () => { const engine = await addon.load(load); ${body} })();`;
    const { status, signal, stderr } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.equal({ status, signal }, { status: expected, signal: null }, stderr);
  });
}

lifetime.run();
