import type { StepLoad } from '../loop/step-time.ts';
import type { NativeEngine } from '../native.ts';
import { measureLoad } from './load.ts';

/** One step of a real run. */
export interface RecordedStep {
  readonly load: StepLoad;
  readonly ms: number;
  /** What the host took before it, since the last step had ended; undefined for the first, or if that one had not. */
  readonly gapMs: number | undefined;
}

/** An engine whose steps are noted in `steps` when they end. */
export function recorded(
  native: NativeEngine,
  steps: RecordedStep[],
  now: () => number = () => performance.now(),
): NativeEngine {
  const { device, isa, threads, weights, kv, weightBytes, slotBytes, slots, hostSlots } = native;
  let underway = 0;
  let endMs: number | undefined; // of the step that ended last
  return {
    ...{ device, isa, threads, weights, kv, weightBytes, slotBytes, slots, hostSlots },
    async step(plan, result) {
      const load = measureLoad(plan); // the plan may change when the step has ended
      const asked = now();
      const gapMs = underway > 0 || endMs === undefined ? undefined : asked - endMs;
      underway++;
      try {
        await native.step(plan, result);
      } finally {
        underway--;
      }
      const end = now();
      const start = Math.max(asked, endMs ?? asked); // the device takes one at a time
      endMs = end;
      steps.push({ load, ms: end - start, gapMs });
    },
    close: () => native.close(),
  };
}
