// Files of results, read and checked: what is in them is what the page may rely on.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { BenchRecord } from '../bench/record.ts';
import type {
  AgreementResult,
  Capacity,
  IdleShares,
  KernelResult,
  MemoryCurve,
  PeerResult,
  RelayResult,
  ScaleResult,
  Timeline,
} from '../bench/results.ts';
import type { Quantiles, Spread } from '../bench/statistics.ts';
import { UsageError } from '../flags.ts';
import { list, nullable, number, object, oneOf, optional, type Shape, text, wrong } from './shape.ts';

/** Where a figure comes from. */
export interface Source extends Omit<BenchRecord, 'results'> {
  /** From 1: how the page refers to it. */
  readonly id: number;
  /** Its name, without the folder. */
  readonly file: string;
}

/** Results of one file. Only those were measured in one run, so only those are compared. */
export interface Measured<Result> {
  readonly source: Source;
  readonly results: readonly Result[];
}

export interface Evidence {
  readonly sources: readonly Source[];
  readonly relay: readonly Measured<RelayResult>[];
  readonly kernels: readonly Measured<KernelResult>[];
  readonly peers: readonly Measured<PeerResult>[];
  readonly agreement: readonly Measured<AgreementResult>[];
  readonly scale: readonly Measured<ScaleResult>[];
}

const spread = object<Spread>({ median: number, least: number, most: number });
const quantiles = object<Quantiles>({ mean: number, p50: number, p90: number, p99: number });
const numbers = list(number);
const capacity = object<Capacity>({
  requestsPerSecond: number,
  share: number,
  probes: list(object({ rate: number, attainment: number })),
});

const memory: Shape<MemoryCurve> = (value, where) => {
  const curve = object<MemoryCurve>({ ms: numbers, used: numbers, padding: numbers, free: numbers })(value, where);
  for (const name of ['used', 'padding', 'free'] as const)
    checkLength(curve[name], curve.ms.length, `${where}.${name}`);
  return curve;
};

const timeline: Shape<Timeline> = (value, where) => {
  const read = object<Timeline>({ ms: numbers, rows: list(numbers), chunkTokens: numbers })(value, where);
  for (const name of ['rows', 'chunkTokens'] as const) checkLength(read[name], read.ms.length, `${where}.${name}`);
  return read;
};

function checkLength(values: readonly unknown[], length: number, where: string): void {
  if (values.length !== length) wrong(where, `as many entries as ms has, ${length}`, values.length);
}

const relay = object<RelayResult>({
  model: text,
  workload: text,
  contender: text,
  rows: number,
  loop: oneOf('closed', 'open'),
  rate: optional(number),
  requests: number,
  slots: number,
  seconds: spread,
  requestsPerSecond: spread,
  goodPerSecond: spread,
  attainment: spread,
  targets: object({ ttftMs: nullable, itlMs: number }),
  tokensPerSecond: spread,
  ttft: quantiles,
  itl: quantiles,
  tpot: quantiles,
  e2e: quantiles,
  decodeMs: number,
  idle: object<IdleShares>({ share: number, pad: number, dead: number, empty: number, stall: number }),
  padTokens: number,
  deadTokens: number,
  emptyRows: number,
  stallMs: number,
  movedSlots: number,
  peakSlots: number,
  steps: number,
  preemptions: number,
  capacity: optional(capacity),
  memory: optional(memory),
  timeline: optional(timeline),
  error: optional(text),
});

const kernel = object<KernelResult>({
  device: text,
  op: text,
  case: text,
  microseconds: number,
  gigabytesPerSecond: number,
  gigaflopsPerSecond: number,
  bandwidthShare: nullable,
  computeShare: nullable,
  type: optional(text),
  line: optional(text),
  against: optional(text),
  x: optional(number),
  ratioToLibrary: optional(number),
});

const peer = object<PeerResult>({
  model: text,
  weights: text,
  format: text,
  contender: text,
  version: text,
  threads: number,
  concurrency: number,
  requests: number,
  promptTokens: number,
  outputTokens: number,
  seconds: spread,
  tokensPerSecond: spread,
  outputTokensPerSecond: spread,
  ttft: optional(quantiles),
  error: optional(text),
});

const agreement = object<AgreementResult>({
  model: text,
  weights: text,
  contender: text,
  version: text,
  positions: number,
  top1: number,
  largestDifference: number,
  meanDifference: number,
  largestPreference: number,
});

const scale = object<ScaleResult>({
  line: oneOf('tick', 'context', 'arena', 'requests'),
  label: text,
  x: number,
  unit: text,
  y: spread,
});

/** Experiments that the page shows. What peers measure and whether they agree may stand in one file. */
export const EXPERIMENTS = ['relay', 'kernels', 'peers', 'scale'] as const;

const header = object<Omit<BenchRecord, 'results'>>({
  experiment: oneOf(...EXPERIMENTS),
  commit: text,
  date: text,
  machine: text,
  command: text,
  seed: optional(number),
});

/** Throws UsageError, with the file's name, where it is not a record of results. */
export function readEvidence(files: readonly string[]): Evidence {
  return collect(files.map((file) => ({ file, content: readText(file) })));
}

export function collect(files: readonly { readonly file: string; readonly content: string }[]): Evidence {
  const evidence = {
    sources: [] as Source[],
    relay: [] as Measured<RelayResult>[],
    kernels: [] as Measured<KernelResult>[],
    peers: [] as Measured<PeerResult>[],
    agreement: [] as Measured<AgreementResult>[],
    scale: [] as Measured<ScaleResult>[],
  };
  for (const { file, content } of files) {
    const { source, results } = named(file, () => readRecord(content, file, evidence.sources.length + 1));
    evidence.sources.push(source);
    const add = <Result>(to: Measured<Result>[], shape: Shape<Result>, wanted = (_: unknown): boolean => true) => {
      const read = results.flatMap((one, i) => (wanted(one) ? [shape(one, `results[${i}]`)] : []));
      if (read.length > 0) to.push({ source, results: read });
    };
    named(file, () => {
      if (source.experiment === 'relay') add(evidence.relay, relay);
      if (source.experiment === 'kernels') add(evidence.kernels, kernel);
      if (source.experiment === 'scale') add(evidence.scale, scale);
      if (source.experiment !== 'peers') return;
      add(evidence.peers, peer, (one) => !isAgreement(one));
      add(evidence.agreement, agreement, isAgreement);
    });
  }
  return evidence;
}

function isAgreement(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'top1' in result;
}

function readRecord(content: string, file: string, id: number): { source: Source; results: readonly unknown[] } {
  const value = parse(content);
  const results = object<{ results: readonly unknown[] }>({ results: list((one) => one) });
  return { source: { id, file: basename(file), ...header(value, '') }, ...results(value, '') };
}

function parse(content: string): unknown {
  try {
    return JSON.parse(content);
  } catch (error) {
    throw new UsageError(`expected JSON (${(error as Error).message})`);
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`${file}: expected a file that can be read (${(error as Error).message})`);
  }
}

function named<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof UsageError ? new UsageError(`${file}: ${error.message}`) : error;
  }
}
