// How near the simulator comes to real runs: throughput of three workloads on the CPU backend, against what a model
// fitted to other requests predicts for them.
//
// The two take turns of some milliseconds, each on a clock that stands still meanwhile: whatever else the machine is
// doing happens to both. Rounds in which the process had to wait for a processor are shown and not counted.
import { parseArgs } from 'node:util';
import type { PolicyName } from '../src/loop/loop.ts';
import { workload, type WorkloadName } from '../src/loop/workloads.ts';
import { fitSteps } from '../src/simulator/fit.ts';
import type { Outcome } from '../src/simulator/journal.ts';
import type { RecordedStep } from '../src/simulator/recording.ts';
import { simulate } from '../src/simulator/simulation.ts';
import { readStepModel, type StepModel } from '../src/simulator/step-model.ts';
import { loadReal, RealRun } from './real-run.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { median } from '../src/bench/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'tales' },
    weights: { type: 'string', default: 'bf16' },
    policy: { type: 'string', default: 'relay' },
    workloads: { type: 'string', default: 'heavy-tail,chat,code' },
    requests: { type: 'string', default: '400' },
    rows: { type: 'string', default: '16' },
    context: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '5' },
    out: { type: 'string' },
  },
});
const count = Number(flags.requests);
const rows = Number(flags.rows);
const context = Number(flags.context);
const rounds = Number(flags.rounds);
const policy = flags.policy as PolicyName;
const names = flags.workloads.split(',') as WorkloadName[];
const stepTokens = rows + 256;
const TURN_MS = 10;
const LEAST_CPU = 0.95; // of the time of one thread, below which others had the processor
const FIT_SEED = 1000;

/** Runs without end, through all workloads in turn, with requests that nobody predicts. */
class FitRun {
  readonly #runs: RealRun[] = [];

  async turn(): Promise<void> {
    if (this.#runs.at(-1)?.ended !== false) {
      const name = names[this.#runs.length % names.length]!;
      const requests = workload(name, { requests: count / 4, seed: FIT_SEED + this.#runs.length, context });
      this.#runs.push(new RealRun(other, policy, requests));
    }
    await this.#runs.at(-1)!.turn(TURN_MS);
  }

  get steps(): readonly RecordedStep[] {
    return this.#runs.flatMap(({ steps }) => steps);
  }
}

async function predict(model: StepModel, name: WorkloadName, seed: number): Promise<Outcome> {
  const loop = {
    rows,
    context,
    stepTokens,
    policy,
    admission: 'optimistic',
    queueRequests: count,
    queueTokens: count * context,
  } as const;
  const slots = Math.ceil((rows * context) / 64) * 64;
  return simulate(workload(name, { requests: count, seed, context }), { model, slots, loop });
}

function figures({
  seconds,
  requestsPerSecond,
  outputTokensPerSecond,
  ttftMs,
  itlMs,
  e2eMs,
  idle,
  busyShare,
  steps,
  stepMs,
}: Outcome) {
  return {
    seconds,
    requestsPerSecond,
    outputTokensPerSecond,
    ttftMs,
    itlMs,
    e2eMs,
    idleShare: idle.share,
    busyShare,
    steps,
    stepMs,
  };
}

const sizes = { rows, context, stepTokens, threads: 1, weights: flags.weights };
const [real, other] = [await loadReal(flags.shape, sizes), await loadReal(flags.shape, sizes)];
const results = [];
for (let round = 1; round <= rounds; round++) {
  const fit = new FitRun();
  const runs = [];
  for (const name of names) {
    const run = new RealRun(real, policy, workload(name, { requests: count, seed: round, context }));
    const start = performance.now();
    const before = process.cpuUsage();
    while (!run.ended) {
      await run.turn(TURN_MS);
      await fit.turn();
    }
    const { user, system } = process.cpuUsage(before);
    runs.push({ name, measured: run.outcome(), cpuShare: (user + system) / 1000 / (performance.now() - start) });
  }
  const model = readStepModel({ ...fitSteps(fit.steps), slotBytes: real.native.slotBytes }, 'fitted');
  const counted = runs.every(({ cpuShare }) => cpuShare >= LEAST_CPU);
  for (const { name, measured, cpuShare } of runs) {
    const predicted = await predict(model, name, round);
    const ratio = predicted.requestsPerSecond / measured.requestsPerSecond;
    results.push({
      workload: name,
      policy,
      round,
      counted,
      cpuShare,
      fittedTo: fit.steps.length,
      ratio,
      measured: figures(measured),
      predicted: figures(predicted),
    });
    const both = (of: (outcome: Outcome) => number, digits = 1) =>
      `${of(measured).toFixed(digits)} / ${of(predicted).toFixed(digits)}`;
    const itl = `ITL p50 ${both((one) => one.itlMs.p50, 2)}, p99 ${both((one) => one.itlMs.p99, 2)} ms`;
    console.log(
      `${name} round ${round}${counted ? '' : ' (not counted)'}, CPU ${(100 * cpuShare).toFixed(0)} %; ` +
        `measured / predicted: requests/s ${both((one) => one.requestsPerSecond)} ` +
        `(${(100 * (ratio - 1)).toFixed(1)} %), steps ${both((one) => one.steps, 0)}, TTFT p50 ${both((one) => one.ttftMs.p50)} ms, ${itl}`,
    );
  }
}
await Promise.all([real.native.close(), other.native.close()]);
for (const name of names) {
  const ratios = results.filter((result) => result.workload === name && result.counted).map(({ ratio }) => ratio);
  if (ratios.length === 0) console.log(`${name}: no round counts, the machine was never quiet enough`);
  else console.log(`${name}: predicted ÷ measured ${median(ratios).toFixed(3)}, median of ${ratios.length} rounds`);
}
writeScriptRecord(flags.out, results);
