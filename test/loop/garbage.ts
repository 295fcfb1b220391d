import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Loop } from '../../src/loop/loop.ts';
import type { NativeEngine } from '../../src/native.ts';
import { request } from './fake/requests.ts';

const garbage = suite('Garbage');

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes that a decode tick leaves behind, kept tokens included; so few ticks that nothing is collected meanwhile. */
async function bytesPerTick(rows: number): Promise<number> {
  const TICKS = 100;
  const native = { slots: rows * 1024, hostSlots: 0, step: async (_plan, result) => void result.sampled.fill(7) } as NativeEngine;
  const loop = new Loop(native, {
    rows,
    context: 1024,
    stepTokens: rows * 8,
    policy: 'relay',
    admission: 'reserve',
    queueRequests: rows,
    queueTokens: rows * 8,
    onToken: () => {},
    onFinish: () => {},
  });
  for (let id = 0; id < rows; id++) loop.add(request(id, { prompt: 8, maxTokens: 1000 }));
  for (let tick = 0; tick < 600; tick++) await loop.tick();
  const rounds: number[] = [];
  for (let round = 0; round < 3; round++) {
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let tick = 0; tick < TICKS; tick++) await loop.tick();
    rounds.push((process.memoryUsage().heapUsed - before) / TICKS);
  }
  return Math.min(...rounds);
}

garbage('a decode tick allocates nothing per row but the token it keeps', async () => {
  const few = await bytesPerTick(8);
  const many = await bytesPerTick(256);
  const perRow = (many - few) / (256 - 8);
  assert.ok(perRow < 16, `${perRow.toFixed(1)} bytes per row and tick`);
});

garbage.run();
