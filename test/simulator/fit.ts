import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type StepLoad, StepTime } from '../../src/loop/step-time.ts';
import { generator } from '../../src/loop/workloads.ts';
import { fitSteps } from '../../src/simulator/fit.ts';
import type { RecordedStep } from '../../src/simulator/recording.ts';
import { COEFFICIENTS } from './fake/model.ts';

const fit = suite('Fit');

const SEED = 8;

/** Steps of a device that takes as long as `COEFFICIENTS` say, or as `slowed` makes of that. */
function steps(count: number, slowed: (ms: number, uniform: () => number) => number = (ms) => ms): RecordedStep[] {
  const uniform = generator(SEED);
  const device = StepTime.fromCoefficients(COEFFICIENTS);
  const recorded: RecordedStep[] = [];
  for (let i = 0; i < count; i++) {
    const rows = 1 + Math.floor(16 * uniform());
    const chunkTokens = uniform() < 0.5 ? 0 : Math.floor(400 * uniform());
    const load: StepLoad = {
      decodeRows: rows,
      contextTokens: rows * Math.floor(100 * uniform()),
      chunkTokens,
      chunkContext: chunkTokens * Math.floor(50 * uniform()),
      sampledRows: rows,
      movedSlots: uniform() < 0.9 ? 0 : 64,
    };
    const gapMs = i === 0 ? undefined : 0.5 + 0.125 * recorded[i - 1]!.load.sampledRows;
    recorded.push({ load, ms: slowed(device.predict(load), uniform), gapMs });
  }
  return recorded;
}

/** Of all steps' times: what the fit makes of them, over what they were. */
function ratio(recorded: readonly RecordedStep[]): number {
  const device = StepTime.fromCoefficients(fitSteps(recorded).coefficients);
  const took = recorded.reduce((sum, { ms }) => sum + ms, 0);
  return recorded.reduce((sum, { load }) => sum + device.predict(load), 0) / took;
}

fit('steps without noise are predicted one by one, as near as the loop learns them', () => {
  const recorded = steps(2000);
  const device = StepTime.fromCoefficients(fitSteps(recorded).coefficients);
  for (const { load, ms } of recorded.slice(-500)) {
    assert.ok(Math.abs(device.predict(load) / ms - 1) < 0.05, `seed ${SEED}: ${device.predict(load)}, took ${ms}`);
  }
});

fit('all steps together take as long as they did, odd slow ones included', () => {
  const noisy = steps(2000, (ms, uniform) => (uniform() < 0.05 ? 5 * ms : ms));
  assert.ok(Math.abs(ratio(noisy) - 1) < 1e-9, `${ratio(noisy)}`);
});

fit('what every step waits for adds to short and long steps alike', () => {
  const late = steps(3000).map((step, i) => ({ ...step, ms: step.ms + (i % 5 === 0 ? 5 : 0) }));
  const device = StepTime.fromCoefficients(fitSteps(late).coefficients);
  const clean = StepTime.fromCoefficients(COEFFICIENTS);
  const sorted = late.toSorted((a, b) => clean.predict(a.load) - clean.predict(b.load));
  for (const part of [sorted.slice(0, 1000), sorted.slice(2000)]) {
    const took = part.reduce((sum, { ms }) => sum + ms, 0);
    const predicted = part.reduce((sum, { load }) => sum + device.predict(load), 0);
    assert.ok(Math.abs(predicted / took - 1) < 0.1, `seed ${SEED}: ${predicted / took}`);
  }
});

fit("the host's time is told apart: of a tick, and of a token", () => {
  const { tickMs, tokenMs } = fitSteps(steps(200));
  assert.ok(Math.abs(tickMs - 0.5) < 1e-9 && Math.abs(tokenMs - 0.125) < 1e-9, `${tickMs}, ${tokenMs}`);
});

fit("where steps differ in no token, all of the host's time is the tick's", () => {
  const same = steps(200).map((one) => ({ ...one, load: { ...one.load, sampledRows: 4 }, gapMs: 0.75 }));
  const { tickMs, tokenMs } = fitSteps(same);
  assert.equal([tickMs, tokenMs], [0.75, 0]);
});

fit('a host that was always hidden takes no time', () => {
  const hidden = steps(200).map((one) => ({ ...one, gapMs: undefined }));
  const { tickMs, tokenMs } = fitSteps(hidden);
  assert.equal([tickMs, tokenMs], [0, 0]);
});

fit('too few steps are refused', () => {
  assert.throws(
    () => fitSteps(steps(99)),
    (error: { code?: string; message?: string }) => {
      return error.code === 'INVALID_ARGUMENT' && /expected at least 100 .* got 99/.test(error.message ?? '');
    },
  );
});

fit.run();
