// The loop and its policies on a step-time model instead of a device, in virtual time: replicas behind a router, any
// workload or trace. See docs/simulator.md.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { AdmissionMode } from '../src/loop/admission.ts';
import type { PolicyName } from '../src/loop/loop.ts';
import { workload, type WorkloadName } from '../src/loop/workloads.ts';
import type { Outcome } from '../src/simulator/journal.ts';
import type { RouterName } from '../src/simulator/router.ts';
import { simulate, type SimulationOptions } from '../src/simulator/simulation.ts';
import { readStepModel } from '../src/simulator/step-model.ts';
import { readTrace, type TraceRequest } from '../src/simulator/traces.ts';
import { writeScriptRecord } from '../src/bench/record.ts';

const { values: flags } = parseArgs({
  options: {
    workload: { type: 'string', default: 'chat' },
    trace: { type: 'string' }, // instead of a workload
    requests: { type: 'string', default: '10000' }, // of a trace: at most so many
    seed: { type: 'string', default: '1' },
    rate: { type: 'string' }, // of a workload: mean arrivals per second
    clients: { type: 'string' }, // each waits for its answer; by default, without arrivals, two for every row
    'length-scale': { type: 'string', default: '1' }, // of a trace
    'time-scale': { type: 'string', default: '1' },
    'max-tokens': { type: 'string' }, // what clients ask for; by default all that the context holds
    model: { type: 'string', default: fileURLToPath(new URL('results/2026-11-23-step-model.json', import.meta.url)) },
    policy: { type: 'string', default: 'relay' },
    rows: { type: 'string', default: '64' },
    context: { type: 'string', default: '1024' },
    slots: { type: 'string' }, // of each arena; by default rows × context
    'step-prompt-tokens': { type: 'string', default: '512' }, // besides one for every row
    admission: { type: 'string', default: 'optimistic' },
    overlap: { type: 'boolean', default: false },
    'queue-requests': { type: 'string', default: '1024' }, // of each replica
    replicas: { type: 'string', default: '1' },
    router: { type: 'string', default: 'least-queued' },
    'ttft-ms': { type: 'string', default: 'Infinity' }, // targets of goodput
    'itl-ms': { type: 'string', default: 'Infinity' },
    out: { type: 'string' },
  },
});
const requests = Number(flags.requests);
const rows = Number(flags.rows);
const context = Number(flags.context);
const replicas = Number(flags.replicas);
const arrives = flags.trace !== undefined || flags.rate !== undefined;
const clients = Number(flags.clients ?? (arrives ? NaN : 2 * rows * replicas));
const queueRequests = Number(flags['queue-requests']);

/** A line on a terminal, now and then, as requests are taken. */
function* watched(source: Iterable<TraceRequest>): Generator<TraceRequest> {
  let taken = 0;
  for (const request of source) {
    if (taken === requests) return;
    if (++taken % 10_000 === 0 && process.stderr.isTTY) process.stderr.write(`\r${taken} requests`);
    yield request;
  }
}

function source(): Iterable<TraceRequest> {
  if (flags.trace !== undefined) {
    const scales = { lengthScale: Number(flags['length-scale']), timeScale: Number(flags['time-scale']) };
    return readTrace(flags.trace, scales);
  }
  const rate = flags.rate === undefined ? {} : { rate: Number(flags.rate) };
  return workload(flags.workload as WorkloadName, { requests, seed: Number(flags.seed), context, ...rate });
}

const options: SimulationOptions = {
  model: readStepModel(JSON.parse(readFileSync(flags.model, 'utf8')), flags.model),
  slots: Number(flags.slots ?? Math.ceil((rows * context) / 64) * 64),
  replicas,
  router: flags.router as RouterName,
  maxTokens: Number(flags['max-tokens'] ?? context),
  targets: { ttftMs: Number(flags['ttft-ms']), itlMs: Number(flags['itl-ms']) },
  ...(Number.isNaN(clients) ? {} : { clients }),
  loop: {
    rows,
    context,
    stepTokens: rows + Number(flags['step-prompt-tokens']),
    policy: flags.policy as PolicyName,
    admission: flags.admission as AdmissionMode,
    overlap: flags.overlap,
    queueRequests,
    queueTokens: queueRequests * context,
  },
};

const start = performance.now();
const { replicas: each, ...all } = await simulate(watched(source()), options);
const wallSeconds = (performance.now() - start) / 1000;
if (process.stderr.isTTY) process.stderr.write('\r');

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const spread = ({ mean, p50, p90, p99 }: Outcome['ttftMs']) =>
  [mean, p50, p90, p99].map((ms) => ms.toFixed(1)).join(' / ');
function describe(name: string, one: Outcome): string {
  const { pad, dead, empty, stall, share } = one.idle;
  const { full, tooLong } = one.refused;
  const goodput = `${one.goodput.requestsPerSecond.toFixed(2)} requests/s (${percent(one.goodput.share)})`;
  const mebibytes = ((one.peakSlots * options.model.slotBytes) / 2 ** 20).toFixed(0);
  return (
    `${name}: ${one.requests} requests in ${one.seconds.toFixed(1)} s: ` +
    `${one.requestsPerSecond.toFixed(2)} requests/s, ${one.outputTokensPerSecond.toFixed(0)} output tokens/s, ` +
    `${one.totalTokensPerSecond.toFixed(0)} in all\n` +
    `  ms mean / p50 / p90 / p99: TTFT ${spread(one.ttftMs)}, ITL ${spread(one.itlMs)}, e2e ${spread(one.e2eMs)}\n` +
    `  goodput ${goodput}, refused ${full} full, ${tooLong} too long\n` +
    `  busy ${percent(one.busyShare)}, idle ${percent(share)} (pad ${percent(pad)}, dead ${percent(dead)}, ` +
    `empty ${percent(empty)}, stall ${percent(stall)}), ${one.steps} steps of ${one.stepMs.toFixed(2)} ms, ` +
    `${one.preemptions} preemptions, ${one.movedSlots} slots moved, at most ${one.peakSlots} slots (${mebibytes} MiB) in use`
  );
}
const { policy, router } = flags;
console.log(describe(`${flags.trace ?? flags.workload}, ${policy}, ${replicas} × ${rows} rows, ${router}`, all));
if (replicas > 1) each.forEach((one, i) => console.log(describe(`replica ${i}`, one)));
console.log(`simulated in ${wallSeconds.toFixed(1)} s: ${(all.requests / wallSeconds).toFixed(0)} requests/s`);
writeScriptRecord(flags.out, [
  { workload: flags.trace ?? flags.workload, policy, router, rows, context, wallSeconds, ...all, replicas: each },
]);
