import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { recorded, type RecordedStep } from '../../src/simulator/recording.ts';
import { FakeEngine } from '../fake/engine.ts';
import { Loop } from '../../src/loop/loop.ts';
import { drain, request } from '../loop/fake/requests.ts';

const recording = suite('Recording');

const LOOP = {
  rows: 1,
  context: 256,
  stepTokens: 256,
  policy: 'relay',
  admission: 'optimistic',
  queueRequests: 9,
  queueTokens: 1000,
  onToken: () => {},
  onFinish: () => {},
} as const;

recording('notes what every step was asked, its time, and that of the host before it', async () => {
  const steps: RecordedStep[] = [];
  const native = new FakeEngine(256);
  let ms = 1000;
  const now = () => ms;
  native.during = (step) => void (ms += 5 + step);
  const loop = new Loop(recorded(native, steps, now), { ...LOOP, now, onToken: () => void (ms += 2) });
  loop.add(request(1, { prompt: 10, maxTokens: 3 }));
  await drain(loop);
  const row = { decodeRows: 1, sampledRows: 1, movedSlots: 0 };
  assert.equal(steps, [
    { load: { ...row, contextTokens: 10, chunkTokens: 9, chunkContext: 45 }, ms: 5, gapMs: undefined },
    { load: { ...row, contextTokens: 11, chunkTokens: 0, chunkContext: 0 }, ms: 6, gapMs: 2 },
    { load: { ...row, contextTokens: 12, chunkTokens: 0, chunkContext: 0 }, ms: 7, gapMs: 2 },
  ]);
});

recording('a step that was asked for early begins when the one before has ended, and has no gap', async () => {
  const steps: RecordedStep[] = [];
  const native = new FakeEngine(256);
  let ms = 0;
  const end: (() => void)[] = [];
  native.during = () => new Promise<void>((resolve) => end.push(resolve));
  const engine = recorded(native, steps, () => ms);
  const step = () => {
    const none = new Int32Array(0);
    const plan = {
      moves: none,
      moveCount: 0,
      rowMoves: none,
      rowMoveCount: 0,
      starts: [],
      runs: none,
      runCount: 0,
      tokens: none,
      tokenCount: 0,
    };
    const floats = new Float32Array(0);
    return engine.step(plan, { sampled: none, logprobs: floats, topTokens: none, topLogprobs: floats });
  };
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  const first = step();
  ms = 1;
  const second = step();
  for (const at of [10, 17]) {
    await settle();
    ms = at;
    end.shift()!();
  }
  await Promise.all([first, second]);
  assert.equal(
    steps.map((one) => [one.ms, one.gapMs]),
    [
      [10, undefined],
      [7, undefined],
    ],
  );
});

recording('a step that fails is not noted, and fails as it did', async () => {
  const steps: RecordedStep[] = [];
  const native = new FakeEngine(256);
  native.during = () => {
    throw new Error('no such step');
  };
  const loop = new Loop(recorded(native, steps), LOOP);
  loop.add(request(1, { prompt: 10, maxTokens: 3 }));
  let message = '';
  await loop.tick().catch((error: Error) => (message = error.message));
  assert.equal([message, steps.length], ['no such step', 0]);
});

recording('is the engine that it passes steps on to, and closes it', async () => {
  const native = new FakeEngine(256, 97, 128);
  const engine = recorded(native, []);
  const { device, slots, hostSlots, slotBytes } = engine;
  assert.equal([device, slots, hostSlots, slotBytes], ['fake', 256, 128, 4]);
  await engine.close();
  assert.ok(native.closed);
});

recording.run();
