// Records as the experiments write them, of what was never computed: a toy batch decodes requests of random lengths.
import type { BenchRecord } from '../../../src/bench/record.ts';
import type {
  AgreementResult,
  KernelResult,
  PeerResult,
  RelayResult,
  ScaleResult,
  Timeline,
} from '../../../src/bench/results.ts';
import type { Quantiles, Spread } from '../../../src/bench/statistics.ts';
import { Random } from '../../native/fake/random.ts';

export const CONTENDERS = ['static', 'baton', 'baton-pd', 'orca', 'relay'] as const;
export const WORKLOADS = ['uniform', 'heavy-tail', 'chat', 'code'] as const;
export const ROWS = [1, 4, 8, 16, 32] as const;
export const RATES = [8, 16, 24, 32] as const;

const MODEL = 'toy';
const SEED = 7;
const STEP_MS = 4;
const CHUNK_MS = 3;
const SLOWER: Readonly<Record<string, number>> = { static: 1, baton: 1.25, 'baton-pd': 1.1, orca: 1.05, relay: 1 };

/** How many tokens each request generates. */
function lengthsOf(workload: string, requests: number): number[] {
  const random = new Random(SEED + WORKLOADS.findIndex((name) => name === workload));
  return Array.from({ length: requests }, () => {
    if (workload === 'uniform') return random.integer(20, 59);
    return Math.max(1, Math.min(240, Math.round(30 * Math.exp((workload === 'code' ? 0.7 : 1.1) * random.normal()))));
  });
}

interface Run {
  readonly timeline: Timeline;
  readonly working: number; // row-time, of all
  readonly dead: number;
  readonly empty: number;
  readonly seconds: number;
}

/** Static fills its rows when all are done; every other contender when one is. */
function run(contender: string, rows: number, lengths: readonly number[]): Run {
  const waiting = lengths.map((length, id) => ({ id, left: length }));
  const batch: ({ id: number; left: number } | undefined)[] = Array.from({ length: rows }, () => undefined);
  const steps: { ms: number; rows: number[]; chunk: number }[] = [];
  const time = { working: 0, dead: 0, empty: 0 };
  const busy = () => batch.some((one) => one !== undefined && one.left > 0);
  while (waiting.length > 0 || busy()) {
    let joined = 0;
    for (let row = 0; row < rows; row++) {
      if ((contender === 'static' ? busy() : (batch[row]?.left ?? 0) > 0) || waiting.length === 0) continue;
      batch[row] = waiting.shift()!;
      joined++;
      if (contender !== 'static') continue;
      for (let other = row + 1; other < rows && waiting.length > 0; other++, joined++) batch[other] = waiting.shift()!;
      break;
    }
    const ms = (STEP_MS + rows * 0.05) * SLOWER[contender]! + CHUNK_MS * Math.min(joined, 4);
    const ids = batch.map((one) => {
      if (one === undefined || (one.left <= 0 && contender !== 'static')) return -1;
      return one.left > 0 ? one.id : -2 - one.id;
    });
    for (const id of ids) time[id >= 0 ? 'working' : id === -1 ? 'empty' : 'dead'] += ms;
    for (const one of batch) if (one !== undefined) one.left--;
    steps.push({ ms, rows: ids, chunk: joined * 32 });
  }
  const total = steps.reduce((sum, { ms }) => sum + ms, 0);
  return {
    timeline: {
      ms: steps.map(({ ms }) => ms),
      rows: steps.map((step) => step.rows),
      chunkTokens: steps.map(({ chunk }) => chunk),
    },
    working: time.working / (total * rows),
    dead: time.dead / (total * rows),
    empty: time.empty / (total * rows),
    seconds: total / 1000,
  };
}

function around(median: number, share = 0.06): Spread {
  return { median, least: median * (1 - share), most: median * (1 + share) };
}

function quantiles(p50: number): Quantiles {
  return { mean: 1.1 * p50, p50, p90: 1.9 * p50, p99: 3.4 * p50 };
}

function relayResult(contender: string, workload: string, rows: number, rate?: number): RelayResult {
  const requests = 64;
  const lengths = lengthsOf(workload, requests);
  const { seconds, timeline, dead, empty } = run(contender, rows, lengths);
  const tokens = lengths.reduce((sum, one) => sum + one, 0);
  const most = requests / seconds;
  const perSecond = rate === undefined ? most : Math.min(rate, most);
  const attained = rate === undefined ? 0.8 : Math.min(1, (0.8 * most) / rate) ** 3;
  const traced = workload === 'heavy-tail' && rows === 8 && rate === undefined;
  const pad = contender === 'baton' ? 0.12 : contender === 'baton-pd' ? 0.02 : 0;
  const stall = contender === 'orca' ? 0.06 : contender === 'baton-pd' ? 0.09 : 0;
  const slots = 4096;
  let end = 0;
  const at = timeline.ms.map((one) => (end += one));
  const used = timeline.rows.map((step) => step.filter((id) => id !== -1).length * 150);
  const padding = used.map((one) => (contender === 'baton' || contender === 'static' ? Math.round(0.6 * one) : 0));
  return {
    model: MODEL,
    workload,
    contender,
    rows,
    loop: rate === undefined ? 'closed' : 'open',
    ...(rate !== undefined && { rate }),
    requests,
    slots,
    seconds: around(seconds),
    requestsPerSecond: around(perSecond),
    goodPerSecond: around(perSecond * attained),
    attainment: around(attained, 0.02),
    targets: { ttftMs: 500, itlMs: 25 },
    tokensPerSecond: around((tokens / requests) * perSecond),
    ttft: quantiles(seconds * 80),
    itl: quantiles(STEP_MS * 1.2 * SLOWER[contender]!),
    tpot: quantiles(STEP_MS * 1.3 * SLOWER[contender]!),
    e2e: quantiles(seconds * 300),
    decodeMs: STEP_MS,
    idle: { share: dead + empty * 0.5 + pad + stall, pad, dead, empty: empty * 0.5, stall },
    padTokens: Math.round(pad * tokens),
    deadTokens: Math.round(dead * tokens),
    emptyRows: 12,
    stallMs: 1000 * stall * seconds,
    movedSlots: contender === 'relay' ? 1200 : 9000,
    peakSlots: 2048,
    steps: timeline.ms.length,
    preemptions: 0,
    ...(traced && {
      timeline,
      memory: { ms: at, used, padding, free: used.map((one, i) => slots - one - padding[i]!) },
    }),
  };
}

const ORIGIN = {
  commit: '0123456789ab',
  date: '2026-11-23',
  machine: 'Toy Processor, 2 cores, 24 GiB, amx',
  seed: SEED,
};

export function relayRecord(): BenchRecord<RelayResult> {
  const closed = WORKLOADS.flatMap((workload) =>
    ROWS.flatMap((rows) => CONTENDERS.map((name) => relayResult(name, workload, rows))),
  );
  const open = (['chat'] as const).flatMap((workload) =>
    RATES.flatMap((rate) => CONTENDERS.map((name) => relayResult(name, workload, 16, rate))),
  );
  return {
    ...ORIGIN,
    experiment: 'relay',
    command: 'baton bench relay --timelines --out relay.json',
    results: [...closed, ...open],
  };
}

export function kernelRecord(): BenchRecord<KernelResult> {
  const ops = ['rms_norm', 'rope', 'attention', 'matmul', 'softmax', 'embed', 'sample'];
  const peaks = { 'cpu:amx': [40, 1800], 'cpu:avx512': [40, 300], 'cpu:avx2': [38, 150] } as const;
  const random = new Random(SEED);
  const results = Object.entries(peaks).flatMap(([device, [bandwidth, peak]]) =>
    ops.flatMap((op) =>
      ['1 × 576', '16 × 576', '64 × 1536'].map((name, i): KernelResult => {
        const intensity = op === 'matmul' ? [0.5, 8, 60][i]! : op === 'embed' ? 0 : 0.2 + random.unit();
        const gigabytesPerSecond =
          Math.min(bandwidth, intensity > 0 ? peak / intensity : bandwidth) * (0.4 + 0.5 * random.unit());
        const gigaflopsPerSecond = gigabytesPerSecond * intensity;
        return {
          device,
          op,
          case: name,
          microseconds: 1 + 100 * random.unit(),
          gigabytesPerSecond,
          gigaflopsPerSecond,
          bandwidthShare: gigabytesPerSecond / bandwidth,
          computeShare: op === 'embed' ? null : gigaflopsPerSecond / peak,
          type: 'bf16',
          line: 'width 576',
          against: 'rows',
          x: [1, 16, 64][i]!,
        };
      }),
    ),
  );
  const { seed: _, ...origin } = ORIGIN;
  return { ...origin, experiment: 'kernels', command: 'baton bench kernels --out kernels.json', results };
}

export const PEERS = ['baton', 'node-llama-cpp evaluate', 'node-llama-cpp lockstep'] as const;

export function peerRecord(): BenchRecord<PeerResult | AgreementResult> {
  const speed: Readonly<Record<string, number>> = {
    baton: 1,
    'node-llama-cpp evaluate': 0.8,
    'node-llama-cpp lockstep': 1,
  };
  const peers = ['16 bit', '8 bit'].flatMap((weights) =>
    [1, 4, 16, 64].flatMap((concurrency) =>
      PEERS.map((contender): PeerResult => {
        const gain = contender === 'baton' ? concurrency ** 0.75 : concurrency ** 0.3;
        const perSecond = (weights === '8 bit' ? 110 : 48) * speed[contender]! * gain;
        const requests = Math.max(4, concurrency);
        return {
          model: 'toy-135m',
          weights,
          format: weights === '16 bit' ? 'bf16' : contender === 'baton' ? 'int8' : 'q8_0',
          contender,
          version: contender === 'baton' ? '0.1.0' : '3.22.1',
          threads: concurrency > 1 ? 2 : 1,
          concurrency,
          requests,
          promptTokens: 128 * requests,
          outputTokens: 64 * requests,
          seconds: around((192 * requests) / perSecond),
          tokensPerSecond: around(perSecond),
          outputTokensPerSecond: around(perSecond / 3),
        };
      }),
    ),
  );
  const agreement: AgreementResult = {
    model: 'tales',
    weights: 'bf16',
    contender: 'node-llama-cpp',
    version: '3.22.1',
    positions: 2000,
    top1: 0.9965,
    largestDifference: 0.084,
    meanDifference: 0.0061,
    largestPreference: 0.012,
  };
  return {
    ...ORIGIN,
    experiment: 'peers',
    command: 'baton bench peers --out peers.json',
    results: [...peers, agreement],
  };
}

export function scaleRecord(): BenchRecord<ScaleResult> {
  const line = (
    name: ScaleResult['line'],
    label: string,
    unit: string,
    xs: readonly number[],
    y: (x: number) => number,
  ) => xs.map((x): ScaleResult => ({ line: name, label, x, unit, y: around(y(x), 0.1) }));
  const results = [
    ...line('tick', 'relay', 'µs', [1, 4, 16, 64, 256, 1024, 4096], (x) => 4 + 0.3 * x),
    ...line('tick', 'orca', 'µs', [1, 4, 16, 64, 256, 1024, 4096], (x) => 3 + 0.35 * x),
    ...line('context', 'tales', 'ms', [32, 64, 128, 256, 512], (x) => 0.6 + x / 2000),
    ...line('arena', 'slots moved per embedded token', 'slots', [0.5, 0.7, 0.9, 0.99], (x) => 0.02 / (1.02 - x)),
    ...line('requests', 'simulator', 'requests/s', [1e3, 1e4, 1e5, 1e6], () => 41_000),
  ];
  return { ...ORIGIN, experiment: 'scale', command: 'baton bench scale --out scale.json', results };
}
