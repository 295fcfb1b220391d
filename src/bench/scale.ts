import { loadAddon } from '../addon.ts';
import { chooseDevice } from '../engine/device.ts';
import { chooseSizes } from '../engine/sizes.ts';
import { type FlagValues } from '../flags.ts';
import { tiled } from '../loop/arena.ts';
import { POLICY_NAMES, type PolicyName } from '../loop/loop.ts';
import { workload } from '../loop/workloads.ts';
import { openModel } from '../model/load.ts';
import type { LoadOptions } from '../options.ts';
import { simulate } from '../simulator/simulation.ts';
import { bench, readInteger, readIntegers, readNames, readNumbers, tableOf } from './bench.ts';
import { contenderModule } from './contender.ts';
import { type ContextTimes, timeContexts } from './contexts.ts';
import type { Reuse, TickSetting, TickTimes } from './contenders/tick.ts';
import { BENCH_ENGINE_FLAGS, findModel } from './models.ts';
import { useArenas } from './occupancy.ts';
import { makePrompt } from './prompts.ts';
import { type Entry, race } from './race.ts';
import type { ScaleResult } from './results.ts';
import { type Spread, spread } from './statistics.ts';
import { typicalStepModel } from './step-model.ts';

const LINES = ['tick', 'context', 'arena', 'requests'] as const;

const FLAGS = {
  lines: { type: 'text', value: 'A,B', help: `default all: ${LINES.join(', ')}` },
  quick: { type: 'switch', help: 'fewer ticks, and no more than 10,000 requests' },
  rows: { type: 'text', value: 'N,M', help: 'of `tick`; default 1,16,64,256,1024,4096' },
  occupancies: { type: 'text', value: 'S,T', help: 'of `arena`, shares; default 0.5,0.6,0.7,0.8,0.9,0.95,0.99' },
  requests: { type: 'text', value: 'N,M', help: 'of `requests`; default 10000,100000,1000000' },
  ...BENCH_ENGINE_FLAGS,
  context: { type: 'number', value: 'N', help: "of `context`: most tokens; default the model's limit, at most 8,192" },
  'context-rows': { type: 'text', value: 'N,M', help: 'of `context`: rows that decode together; default 1,4' },
  rounds: { type: 'number', value: 'N', help: 'of `tick` and `context`; default 3' },
  seed: { type: 'number', value: 'N', help: 'of lengths and prompts; default 1' },
} as const;

type Values = FlagValues<typeof FLAGS>;

const TICKS = 2000;
const QUICK_TICKS = 200;
const ARENA_ROWS = 64;
const ARENA_REQUESTS = 4000;
const QUICK_REQUESTS = 10_000;
const ARENA_POLICIES: readonly PolicyName[] = ['relay', 'orca'];
const MOST_CONTEXT = 8192; // unless asked for more
const SIMULATED_ROWS = 64;
const SIMULATED_CONTEXT = 1024;

export const scale = bench({
  name: 'scale',
  summary: 'what grows with what: ticks with rows, tokens with context, moves with a full arena, the simulator',
  about: `Four lines, each of something against its size:
  tick      the loop's own microseconds per tick against rows, on a device that takes no time
  context   milliseconds of a decode step against the tokens it attends to, on this machine
  arena     slots moved, preemptions and rows in use against how full the arena is, in virtual time
  requests  requests per second that the simulator takes, up to a million

With tales on two cores: 3 minutes, most of it for tick and requests; --quick a quarter of one.`,
  flags: FLAGS,

  async run(values, onProgress) {
    const lines = readNames('lines', values.lines ?? LINES.join(','), LINES);
    const seed = readInteger('seed', values.seed ?? 1, 0, 2 ** 32 - 1);
    const measure = { tick: ticks, context: contexts, arena: arenas, requests: simulations };
    const readers = lines.map((line) => measure[line](values, seed)); // wrong flags are refused before anything runs
    const results: ScaleResult[] = [];
    const failures: string[] = [];
    for (const [i, run] of readers.entries()) {
      onProgress(i / lines.length, lines[i]!);
      try {
        results.push(...(await run()));
      } catch (error) {
        failures.push(`${lines[i]}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return { seed, results, failures, text: lines.map((line) => describe(line, results)).join('\n') };
  },
});

type Run = () => Promise<ScaleResult[]>;

function ticks(values: Values, seed: number): Run {
  const { quick = false } = values;
  const rows = readIntegers('rows', values.rows ?? (quick ? '1,64,1024' : '1,16,64,256,1024,4096'), 1, 65_536);
  const rounds = readInteger('rounds', values.rounds ?? (quick ? 1 : 3), 1, 1000);
  const entry = (policy: PolicyName, reuse: Reuse, name: string): Entry => {
    const setting: TickSetting = { policy, reuse, rows, ticks: quick ? QUICK_TICKS : TICKS, seed };
    return { name, module: contenderModule('tick'), setting };
  };
  const entries = [
    ...POLICY_NAMES.map((policy) => entry(policy, 'off', policy)),
    entry('relay', 'misses', 'relay, no prefix shared'),
    entry('relay', 'hits', 'relay, every prefix shared'),
  ];
  return async () => {
    const finishes = await race<readonly TickTimes[]>(entries, { rounds, warmups: 0 });
    return finishes.flatMap(({ name, rounds, error }) => {
      if (error !== undefined) throw new Error(`${name}: ${error}`);
      return rows.flatMap((x, i) => {
        const of = (at: keyof TickTimes, over = 1) => spread(rounds.map((times) => times[i]![at] / over));
        return [
          { line: 'tick', label: name, x, unit: 'µs', y: of('p50') },
          { line: 'tick', label: `${name}, p99`, x, unit: 'µs', y: of('p99') },
          { line: 'tick', label: `${name}, rows in use`, x, unit: 'share of rows', y: of('usedRows', x) },
        ] as const;
      });
    });
  };
}

function contexts(values: Values, seed: number): Run {
  const rowCounts = readIntegers('context-rows', values['context-rows'] ?? '1,4', 1, 1024);
  const rounds = readInteger('rounds', values.rounds ?? (values.quick ? 1 : 3), 1, 1000);
  const threads = readInteger('threads', values.threads ?? 0, 0, 1024);
  return async () => {
    const model = await findModel(values.model);
    const { config, storedType, files, tensors } = await openModel(model.folder);
    const most = values.context ?? Math.min(config.context, MOST_CONTEXT);
    const context = readInteger('context', most, 64, config.context);
    const rows = Math.max(...rowCounts);
    const addon = loadAddon();
    const chosen = chooseDevice(addon, values.device ?? 'auto');
    const formats = { weights: values.weights, kv: values.kv } as Pick<LoadOptions, 'weights' | 'kv'>;
    const sizes = chooseSizes({ config, storedType }, { maxContext: context, ...formats }, rows, chosen);
    const room = { ...sizes, slots: Math.min(sizes.slots, rows * tiled(context)), hostSlots: 0, rows };
    const place = { device: chosen.name, isa: values.isa ?? 'auto', threads };
    const unset = { graphs: true, cublasLt: '', checkLaunches: false };
    const engine = await addon.load({ config, files, tensors, ...place, ...unset, ...room });
    const lengths = { promptTokens: context, outputTokens: 1, arrivalMs: 0 };
    const text = makePrompt(seed, 0, lengths, config.vocabulary);
    const times = new Map<string, ContextTimes>();
    try {
      for (let round = -1; round < rounds; round++) {
        for (const count of rowCounts) {
          for (const one of await timeContexts(engine, room, text, count)) {
            if (round < 0) continue; // memory is touched, and code compiled
            const key = `${count} rows, ${one.x} tokens`;
            times.set(key, { ...one, ms: [...(times.get(key)?.ms ?? []), ...one.ms] });
          }
        }
      }
    } finally {
      await engine.close();
    }
    return [...times.values()].map(({ x, rows: count, ms }) => {
      const label = `${model.name}, ${engine.weights}, ${engine.device}, ${count} row${count === 1 ? '' : 's'}`;
      return { line: 'context', label, x, unit: 'ms', y: spread(ms) } as const;
    });
  };
}

function arenas(values: Values, seed: number): Run {
  const shares = readNumbers('occupancies', values.occupancies ?? '0.5,0.6,0.7,0.8,0.9,0.95,0.99', 0.05, 0.99);
  const requests = values.quick ? ARENA_REQUESTS / 10 : ARENA_REQUESTS;
  return async () => {
    const results: ScaleResult[] = [];
    for (const policy of ARENA_POLICIES) {
      const uses = await useArenas({ policy, rows: ARENA_ROWS, requests, seed }, shares);
      for (const [x, { slots, heldSlots, usedRows, movedSlots, preemptions }] of uses) {
        const add = (what: string, unit: string, value: number) =>
          results.push({ line: 'arena', label: `${policy}, ${what}`, x, unit, y: exact(value) });
        add('slots moved', 'slots per 1,000 tokens', movedSlots);
        add('preemptions', 'per 1,000 requests', preemptions);
        add('held', 'share of slots', heldSlots / slots);
        add('rows in use', 'share of rows', usedRows / ARENA_ROWS);
      }
    }
    return results;
  };
}

function simulations(values: Values, seed: number): Run {
  const most = values.quick ? `${QUICK_REQUESTS}` : '10000,100000,1000000';
  const counts = readIntegers('requests', values.requests ?? most, 1, 1e8);
  return async () => {
    const results: ScaleResult[] = [];
    for (const requests of counts) {
      const rows = SIMULATED_ROWS;
      const context = SIMULATED_CONTEXT;
      const queue = { queueRequests: 4 * rows, queueTokens: 4 * rows * context };
      const policy = { policy: 'relay', admission: 'optimistic' } as const;
      const loop = { rows, context, stepTokens: rows + 512, ...policy, ...queue };
      const options = { model: typicalStepModel(), slots: rows * context, clients: 2 * rows, loop };
      const list = workload('chat', { requests, seed, context });
      const start = performance.now();
      const { requests: ended } = await simulate(list, options);
      const perSecond = (1000 * ended) / (performance.now() - start);
      if (ended !== requests) throw new Error(`expected ${requests} requests to end, got ${ended}`);
      results.push({ line: 'requests', label: 'simulated', x: requests, unit: 'requests/s', y: exact(perSecond) });
    }
    return results;
  };
}

function exact(value: number): Spread {
  return { median: value, least: value, most: value };
}

const AXES = { tick: 'rows', context: 'tokens', arena: 'wanted share of the arena', requests: 'requests' } as const;

/** A line for each label, a column for each x. */
function describe(line: (typeof LINES)[number], results: readonly ScaleResult[]): string {
  const own = results.filter((one) => one.line === line);
  const columns = [...new Set(own.map(({ x }) => x))];
  const labels = new Map(own.map(({ label, unit }) => [label, unit]));
  const rows = [...labels].map(([label, unit]) => {
    const at = (x: number) => own.find((one) => one.x === x && one.label === label)?.y.median ?? NaN;
    return [`${label}, ${unit}`, ...columns.map((x) => Number(at(x).toPrecision(3)))];
  });
  return tableOf([[`${line}: ${AXES[line]}`, ...columns.map(String)], ...rows]);
}
