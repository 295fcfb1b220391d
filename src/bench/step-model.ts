import { StepTime } from '../loop/step-time.ts';
import type { StepModel } from '../simulator/step-model.ts';

/**
 * Step times for experiments about everything but time. Fitted to tales in bf16 on one thread of a Xeon with AMX, 16
 * rows, 2,052 steps (2026-11-23, `npm run bench -- fit`).
 */
export function typicalStepModel(): StepModel {
  const steps = StepTime.fromCoefficients({
    step: 0.572,
    token: 0.0108,
    tokenOver16: 0.00846,
    tokenOver64: 0,
    tokenOver256: 0,
    contextToken: 0.000249,
    chunkContext: 0.0000185,
    sampledRow: 0.00555,
    sampling: 0,
    movedSlot: 0.000496,
  });
  return { steps, tickMs: 0.049, tokenMs: 0, slotBytes: 4096 };
}
