// Fits a step-time model to a real run on the CPU backend, for `simulate`. Several workloads, one after another, so
// that steps with few and many rows, and with short and long chunks, are all among them.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import type { PolicyName } from '../src/loop/loop.ts';
import { workload, type WorkloadName } from '../src/loop/workloads.ts';
import { fitSteps } from '../src/simulator/fit.ts';
import type { StepModelFile } from '../src/simulator/step-model.ts';
import { loadReal, RealRun } from './real-run.ts';
import { record, thisScript } from '../src/bench/record.ts';

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'tales' },
    weights: { type: 'string', default: 'bf16' },
    policy: { type: 'string', default: 'relay' },
    workloads: { type: 'string', default: 'code,heavy-tail,chat,burst' },
    requests: { type: 'string', default: '100' }, // of each
    rows: { type: 'string', default: '16' },
    context: { type: 'string', default: '512' },
    threads: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string' },
  },
});
const { shape, weights } = flags;
const rows = Number(flags.rows);
const context = Number(flags.context);
const threads = Number(flags.threads);
const seed = Number(flags.seed);

const real = await loadReal(shape, { rows, context, stepTokens: rows + 256, threads, weights });
const steps = [];
for (const name of flags.workloads.split(',')) {
  const requests = workload(name as WorkloadName, { requests: Number(flags.requests), seed, context });
  const run = new RealRun(real, flags.policy as PolicyName, requests);
  await run.turn(Infinity);
  steps.push(...run.steps);
}
const { slotBytes, isa } = real.native;
const { commit, date, machine, command } = record({ ...thisScript(), results: [] });
const file: StepModelFile = {
  about: {
    shape,
    weights,
    isa,
    rows,
    context,
    threads: real.native.threads,
    steps: steps.length,
    commit,
    date,
    machine,
    command,
  },
  ...fitSteps(steps),
  slotBytes,
};
await real.native.close();
const text = `${JSON.stringify(file, undefined, 1)}\n`;
if (flags.out === undefined) console.log(text);
else {
  mkdirSync(dirname(flags.out), { recursive: true });
  writeFileSync(flags.out, text);
  console.log(`${flags.out}: fitted to ${steps.length} steps of ${shape} on ${isa}, ${rows} rows`);
}
