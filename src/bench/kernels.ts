import { loadAddon } from '../addon.ts';
import { bench, readInteger, readNames, tableOf } from './bench.ts';
import { countCases, findOps, type OpsRecord, type OpsRun, runOps } from './ops.ts';
import type { KernelResult } from './results.ts';

const CALL_SECONDS = 0.25; // only plain loops and the longest products would take more
const FAR = 0.4; // of the nearer ceiling: what is worth a look
const SHOWN_FAR = 12; // per device

const FLAGS = {
  devices: { type: 'text', value: 'NAMES', help: 'default: every instruction set here, and the GPUs' },
  op: { type: 'text', value: 'PATTERN', help: 'ops whose name is PATTERN; * stands for anything' },
  case: { type: 'text', value: 'PATTERN', help: 'cases whose name is PATTERN' },
  threads: { type: 'number', value: 'N', help: 'of a CPU; default: one per core' },
  rounds: { type: 'number', value: 'N', help: 'timings of a case, of which the median counts; default: 3' },
  quick: { type: 'switch', help: 'tiny cases instead, to try the command' },
  seed: { type: 'number', value: 'N', help: 'of the inputs; default: 1' },
  program: { type: 'text', value: 'FILE', help: 'an ops executable, instead of building the one in native/ops' },
} as const;

export const kernels = bench({
  name: 'kernels',
  summary: 'every op alone, on every device, as a share of what the machine gives',
  about: `Times every op of the forward pass alone, on every instruction set and GPU of this machine: lines of cases that differ
in one thing (tokens, positions, rows, heads, slots), each as microseconds, bytes and operations per second, and as a
share of the machine's ceilings (reading, copying, multiplying in registers), which are measured in the same run.

Needs a clone of the repository and a C++ compiler, for the program is no part of the package; it is built first. Some
four minutes per device on a quiet machine with two cores; --op and --case narrow it down.`,
  flags: FLAGS,

  async run(values, onProgress) {
    const devices = readNames('devices', values.devices ?? devicesHere().join(), devicesHere());
    const seed = readInteger('seed', values.seed ?? 1, 0, 2 ** 32);
    const rounds = readInteger('rounds', values.rounds ?? 3, 1, 1000);
    const threads = readInteger('threads', values.threads ?? 0, 0, 4096);
    const pick = [...(values.op ? ['--op', values.op] : []), ...(values.case ? ['--case', values.case] : [])];
    const what = values.quick ? ['--quick'] : ['--sweep', '--call-seconds', String(CALL_SECONDS)];
    const how = ['--seed', String(seed), '--repeats', String(rounds), ...(threads ? ['--threads', String(threads)] : [])];

    onProgress(0, 'building ops');
    const program = await findOps(values.program);
    const cases = await countCases(program, pick, values.quick ? 'quick' : 'sweep');
    const runs: OpsRun[] = [];
    for (const [i, device] of devices.entries()) {
      let timed = 0;
      const args = ['--device', device, ...what, ...pick, ...(device.startsWith('cpu') ? how : how.slice(0, 4))];
      runs.push(
        await runOps(program, args, (line) => {
          const share = Math.min(1, ++timed / Math.max(1, cases));
          onProgress((i + share) / devices.length, `${device} ${line.slice(0, 66).trimEnd()}`);
        }),
      );
    }
    return {
      seed,
      results: runs.flatMap(({ record }) => record.results.map(resultOf)),
      text: runs.map(textOf).join('\n'),
      failed: runs.some(({ failures }) => failures.length > 0),
    };
  },
});

/** Names as `ops --device` has them, best first. */
function devicesHere(): string[] {
  const { cpu, cuda } = loadAddon();
  return [...(cuda?.().devices.map(({ name }) => name) ?? []), ...cpu().isas.map((isa) => `cpu:${isa}`)];
}

/** What of a case `ops bench` tells, a record keeps. */
export function resultOf(one: OpsRecord['results'][number]): KernelResult {
  const { device, op, microseconds, gigabytesPerSecond, gigaflopsPerSecond, bandwidthShare, computeShare } = one;
  const { type, line, against, x, ratioToLibrary } = one;
  return {
    ...{ device, op, case: one.case, microseconds, gigabytesPerSecond, gigaflopsPerSecond, bandwidthShare, computeShare },
    type,
    ...(line !== undefined && against !== undefined && x !== undefined && { line, against, x }),
    ...(ratioToLibrary !== null && { ratioToLibrary }),
  };
}

/** One device: its ceilings, its lines, what lies far below them, and what was not timed. */
export function textOf({ record: { device, ceilings, results }, failures, leftOut }: OpsRun): string {
  const { gigabytesPerSecond, copiedGigabytesPerSecond, gigaflopsPerSecond } = ceilings;
  const { f32, bf16, int8 } = gigaflopsPerSecond;
  const peaks = Object.entries({ f32, bf16, int8 }).filter(([, peak]) => peak > 0);
  const far = results.map(resultOf).filter((one) => nearer(one).share < FAR);
  const paragraphs = [
    `${device.name}: ${device.hardware}\nat best ${gigabytesPerSecond.toFixed(1)} GB/s read, ` +
      `${copiedGigabytesPerSecond.toFixed(1)} GB/s copied, ` +
      `${peaks.map(([type, peak]) => `${peak.toFixed(0)} GFLOP/s ${type}`).join(', ')}\n`,
    ...tables(results.map(resultOf)),
    ...(far.length === 0 ? [] : [farthest(far)]),
    ...failures,
    ...(leftOut === 0 ? [] : [`${leftOut} cases left out: a call would take over ${CALL_SECONDS} s`]),
  ];
  return `${paragraphs.join('\n')}\n`;
}

/** Lines of one op against one thing have a table; cases on no line share one. A cell: µs, and % of which ceiling. */
function tables(results: readonly KernelResult[]): string[] {
  const named = groupBy(results, ({ op, against }) => (against === undefined ? '' : `${op} against ${against}`));
  return [...named].map(([name, cases]) => {
    if (name === '') {
      return tableOf([['op', 'case', 'µs'], ...cases.map((one) => [one.op, one.case, cell(one)])]);
    }
    const places = [...new Set(cases.map(({ x }) => x!))].sort((a, b) => a - b);
    const rows = [...groupBy(cases, ({ line }) => line!)].map(([line, points]) => {
      return [line, ...places.map((place) => points.filter(({ x }) => x === place).map(cell)[0] ?? '')];
    });
    return tableOf([[name, ...places.map(String)], ...rows]);
  });
}

function groupBy<T>(values: readonly T[], key: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(key(value));
    if (group === undefined) groups.set(key(value), [value]);
    else group.push(value);
  }
  return groups;
}

function cell(one: KernelResult): string {
  const { share, ceiling } = nearer(one);
  const time = one.microseconds < 100 ? one.microseconds.toPrecision(2) : one.microseconds.toFixed(0);
  return Number.isFinite(share) ? `${time} ${(100 * share).toFixed(0)}${ceiling}` : time;
}

/** The ceiling that binds an op, and its share of that; m: memory, c: compute. Without ceilings, Infinity. */
function nearer({ bandwidthShare, computeShare }: KernelResult): { readonly share: number; readonly ceiling: string } {
  if (bandwidthShare === null && computeShare === null) return { share: Infinity, ceiling: '' };
  const [memory, compute] = [bandwidthShare ?? 0, computeShare ?? 0];
  return memory >= compute ? { share: memory, ceiling: 'm' } : { share: compute, ceiling: 'c' };
}

function farthest(far: readonly KernelResult[]): string {
  const sorted = far.toSorted((a, b) => nearer(a).share - nearer(b).share);
  const lines = sorted.slice(0, SHOWN_FAR).map((one) => `  ${one.op} ${one.case}: ${cell(one)}`);
  return `${far.length} of less than ${100 * FAR} % of the nearer ceiling, the farthest first:\n${lines.join('\n')}\n`;
}
