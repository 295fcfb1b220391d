import { basename } from 'node:path';
import { loadAddon } from '../addon.ts';
import { chooseDevice } from '../engine/device.ts';
import { chooseSizes, type Sizes } from '../engine/sizes.ts';
import { EngineError } from '../errors.ts';
import { type FlagValues, UsageError } from '../flags.ts';
import { tiled } from '../loop/arena.ts';
import { POLICY_NAMES } from '../loop/loop.ts';
import { workload, WORKLOAD_NAMES, type WorkloadName } from '../loop/workloads.ts';
import { openModel } from '../model/load.ts';
import type { LoadOptions } from '../options.ts';
import { readTrace, type TraceRequest } from '../simulator/traces.ts';
import { bench, type OnProgress, readInteger, readIntegers, readNames, readNumbers } from './bench.ts';
import { CapacitySearch } from './capacity.ts';
import { contenderModule } from './contender.ts';
import type { PolicyRound, PolicyRules, PolicySetting } from './contenders/policy.ts';
import { BENCH_ENGINE_FLAGS, type BenchModel, findModel } from './models.ts';
import { type Finish, race } from './race.ts';
import { differingTokens, figuresOf, type Targets } from './readings.ts';
import { relayTables } from './relay-tables.ts';
import type { MemoryCurve, RelayResult } from './results.ts';
import { median } from './statistics.ts';

/** Relay without what its rules bring. */
const PARTIAL: Readonly<Record<string, PolicyRules>> = {
  'relay-constant': { policy: 'relay', rules: { timed: false, lengthAware: false, memoryAware: false } },
  'relay-timed': { policy: 'relay', rules: { lengthAware: false, memoryAware: false } },
  'relay-memory': { policy: 'relay', rules: { lengthAware: false } },
  'relay-untargeted': { policy: 'relay', targetItlMs: Infinity },
  'relay-unshared': { policy: 'relay', prefixReuse: false },
};
export const RELAY_CONTENDERS: Readonly<Record<string, PolicyRules>> = {
  ...Object.fromEntries(POLICY_NAMES.map((policy) => [policy, { policy }])),
  ...PARTIAL,
};

const USUAL = {
  contenders: 'static,orca,baton,baton-pd,relay',
  workloads: 'heavy-tail,chat,code',
  rows: '16',
  rounds: 3,
};
/** What a preset measures, unless flags say otherwise. */
const PRESETS = {
  tables: { ...USUAL, workloads: 'heavy-tail,chat,code,burst,adversarial', rows: '1,4,8,16,32,64' },
  memory: { ...USUAL, contenders: 'static,baton,baton-pd,relay', workloads: 'heavy-tail', rounds: 1 },
  // From vector shaping alone, each with one thing more: embedding, the arena, chunks in time, foresight.
  ablation: { ...USUAL, contenders: 'baton,baton-pd,relay-constant,relay-timed,relay' },
};
const PRESET_NAMES = Object.keys(PRESETS) as (keyof typeof PRESETS)[];
const TIMELINES = ['static', 'relay'];

const DEFAULT_CONTEXT = 512;
const LEAST_CONTEXT = 64;
const LEAST_REQUESTS = 64;
const REQUESTS_PER_ROW = 4;
const TABLE_ROWS = 16; // of the table of workloads
// Targets, in decode steps of all rows. Who arrives while others compute shares their steps with its own prompt.
const GOOD_ITL = { closed: 1.5, open: 2 };
const GOOD_TTFT = { closed: Infinity, open: 25 };
const DENSE_ROOMS = 2.5; // what the dense layout needs, of all rows at full context
const CAPACITY_SHARE = 0.9;
const CAPACITY_PROBES = 7; // of each contender: what it can do is then known to a tenth or better
const LEAST_RATE = 0.1; // of what the contender does when all requests are there at once
const MOST_RATE = 1.25;
const CURVE_POINTS = 400; // of a curve that is kept

const FLAGS = {
  tables: { type: 'switch', help: 'every workload at 16 rows, and the first one at 1 to 64 rows' },
  memory: { type: 'switch', help: 'slots used, padding and free over time: one round, with --curves' },
  ablation: { type: 'switch', help: 'what each idea is worth: shaping, embedding, arena, chunks in time, foresight' },
  ...BENCH_ENGINE_FLAGS,
  workloads: { type: 'text', value: 'A,B', help: `default ${USUAL.workloads}; of ${WORKLOAD_NAMES.join(', ')}` },
  trace: { type: 'text', value: 'FILE', help: 'instead: lengths of an Azure, Mooncake or Vidur trace, .csv or .jsonl' },
  'length-scale': { type: 'number', value: 'X', help: 'of the lengths of a trace; default 1' },
  contenders: { type: 'text', value: 'A,B', help: `default the five policies; also ${Object.keys(PARTIAL).join(', ')}` },
  rows: { type: 'text', value: 'N,M', help: 'rows of the batch; default 16' },
  requests: { type: 'number', value: 'N', help: 'of each trial; default four for each row, at least 64' },
  rates: { type: 'text', value: 'R,S', help: 'open loop: mean arrivals/s; by default all requests are there at once' },
  capacity: { type: 'switch', help: 'looks for the highest rate at which 90 % of the requests meet both targets' },
  'ttft-ms': { type: 'number', value: 'MS', help: 'target to the first token; default none, 25 decode steps if open' },
  'itl-ms': { type: 'number', value: 'MS', help: 'target between tokens on average; 1.5 decode steps, 2 if open' },
  'target-itl-ms': { type: 'number', value: 'MS', help: 'what relay plans its steps for; default: its own choice' },
  context: { type: 'number', value: 'N', help: `most tokens of a request; default ${DEFAULT_CONTEXT}` },
  slots: { type: 'number', value: 'N', help: 'of every arena; default: what a dense layout needs' },
  early: { type: 'switch', help: 'outputs end before their maximum, so that nobody knows their length' },
  curves: { type: 'switch', help: 'keeps the memory of the last round over time' },
  timelines: { type: 'switch', help: `keeps what each row did in the last round of ${TIMELINES.join(' and ')}` },
  rounds: { type: 'number', value: 'N', help: 'counted ones, after one that is not; default 3' },
  seed: { type: 'number', value: 'N', help: 'of lengths, arrivals and prompts; default 1' },
} as const;

type Values = FlagValues<typeof FLAGS>;

/** The same requests for every contender. */
interface Trial {
  readonly workload: string;
  readonly rows: number;
}

/** What came of a trial, or of one turn of a search. */
interface Measured {
  readonly finishes: readonly Finish<PolicyRound>[];
  readonly targets: Targets;
}

export const relay = bench({
  name: 'relay',
  summary: 'policies against each other: time to finish, latencies, idle computation, memory',
  about: `The same requests by each policy, in turns, each with an engine and a loop of its own; every request must get
the same tokens from all. Medians of three rounds. In the first, which is not counted, step times are learnt.

With tales on two cores: 2 minutes by default, --tables 6, --memory half a minute, --ablation 2, --capacity 8.`,
  flags: FLAGS,

  async run(values, onProgress) {
    const setup = await prepare(values);
    const { contenders, seed, rates } = setup;
    const trials = trialsOf(setup);
    const turns = trials.length * contenders.length * (values.capacity === true ? 1 + CAPACITY_PROBES : rates.length);
    const runner = new Runner(setup, progressOf(turns, onProgress));
    for (const trial of trials) {
      if (values.capacity === true) await runner.search(trial);
      else for (const rate of rates) await runner.run(trial, rate);
    }
    const { results, failures } = runner;
    return { seed, results, failures, text: relayTables(results) };
  },
});

type Setup = Awaited<ReturnType<typeof prepare>>;

async function prepare(values: Values) {
  const presets = PRESET_NAMES.filter((name) => values[name] === true);
  if (presets.length > 1) throw new UsageError(`expected one preset, got --${presets.join(' and --')}`);
  if (values.capacity === true && values.rates !== undefined) {
    throw new UsageError('expected --rates or --capacity, got both');
  }
  if (values.trace !== undefined && values.workloads !== undefined) {
    throw new UsageError('expected --workloads or --trace, got both');
  }
  const usual = presets.length === 0 ? USUAL : PRESETS[presets[0]!];
  const { workloads = usual.workloads, trace } = values;
  const rates = values.rates === undefined ? [undefined] : readNumbers('rates', values.rates, 1e-6, 1e6);
  for (const name of ['ttft-ms', 'itl-ms', 'target-itl-ms', 'length-scale'] as const) {
    if (values[name] !== undefined && !(values[name] > 0)) {
      throw new UsageError(`--${name}: expected a number above 0, got ${values[name]}`);
    }
  }
  const model = await findModel(values.model);
  const { config, storedType } = await openModel(model.folder);
  const context = values.context ?? Math.min(DEFAULT_CONTEXT, config.context);
  return {
    values,
    contenders: readNames('contenders', values.contenders ?? usual.contenders, Object.keys(RELAY_CONTENDERS)),
    workloads: trace === undefined ? readNames('workloads', workloads, WORKLOAD_NAMES) : [basename(trace)],
    rows: readIntegers('rows', values.rows ?? usual.rows, 1, 1024),
    rates,
    model,
    chosen: chooseDevice(loadAddon(), values.device ?? 'auto'),
    config,
    storedType,
    context: readInteger('context', context, LEAST_CONTEXT, config.context),
    rounds: readInteger('rounds', values.rounds ?? usual.rounds, 1, 1000),
    seed: readInteger('seed', values.seed ?? 1, 0, 2 ** 32 - 1),
  };
}

/** Every workload at every number of rows; of the tables, at one of them, and one workload at all. */
function trialsOf({ values, workloads, rows }: Setup): Trial[] {
  if (!values.tables) return workloads.flatMap((workload) => rows.map((rows) => ({ workload, rows })));
  const first = workloads[0]!;
  const middle = rows.includes(TABLE_ROWS) ? TABLE_ROWS : rows.at(-1)!;
  return [
    ...workloads.map((workload) => ({ workload, rows: middle })),
    ...rows.filter((rows) => rows !== middle).map((rows) => ({ workload: first, rows })),
  ];
}

/** One more turn is over with each call, of so many. */
function progressOf(turns: number, onProgress: OnProgress): (note: string) => void {
  let done = 0;
  return (note) => onProgress(Math.min(1, done++ / turns), note);
}

class Runner {
  readonly results: RelayResult[] = [];
  readonly failures: string[] = [];
  readonly #setup: Setup;
  readonly #advance: (note: string) => void;

  constructor(setup: Setup, advance: (note: string) => void) {
    this.#setup = setup;
    this.#advance = advance;
  }

  /** All requests at once, or arriving at `rate`. */
  async run(trial: Trial, rate: number | undefined): Promise<void> {
    const { contenders, rounds } = this.#setup;
    const requests = requestsOf(this.#setup, trial, rate);
    const loop = rate === undefined ? 'closed' : 'open';
    const own = new Map(contenders.map((name) => [name, requests]));
    const measured = await this.#race(trial, own, rounds, (decodeMs) => this.#targets(decodeMs, loop));
    for (const finish of measured.finishes) {
      this.#add(trial, finish, measured.targets, requests.length, rate === undefined ? {} : { rate });
    }
  }

  /**
   * The capacity of each contender. First all requests at once, which says what a decode step takes and about which
   * rates to try; then one turn after another, in which each contender tries a rate of its own.
   */
  async search(trial: Trial): Promise<void> {
    const { contenders, rounds } = this.#setup;
    const all = requestsOf(this.#setup, trial, undefined);
    const closed = await this.#race(
      trial,
      new Map(contenders.map((name) => [name, all])),
      rounds,
      (decodeMs) => this.#targets(decodeMs, 'open'),
    );
    const { targets } = closed;
    const started = closed.finishes.filter((finish) => finish.rounds.length > 0);
    const searches = started.map((best) => {
      const full = median(best.rounds.map(({ readings, seconds }) => readings.length / seconds));
      const rates = { least: LEAST_RATE * full, most: MOST_RATE * full };
      return { best, search: new CapacitySearch({ ...rates, share: CAPACITY_SHARE, probes: CAPACITY_PROBES }) };
    });
    for (;;) {
      const open = searches.filter(({ search }) => search.next !== undefined);
      if (open.length === 0) break;
      const own = open.map(({ best, search }) => [best.name, requestsOf(this.#setup, trial, search.next!)] as const);
      const { finishes } = await this.#race(trial, new Map(own), rounds, () => targets);
      open.forEach((one, i) => {
        const finish = finishes[i]!;
        const rate = one.search.next!;
        const attainment = finish.rounds.length === 0 ? 0 : figuresOf(finish.rounds, targets).attainment.median;
        one.search.tell(rate, attainment);
        // While no rate is well, each is lower than the one before.
        if ([rate, 0].includes(one.search.capacity)) one.best = finish;
      });
    }
    for (const { search, best } of searches) {
      const { capacity: requestsPerSecond, probes } = search;
      const rate = requestsPerSecond > 0 ? requestsPerSecond : Math.min(...probes.map((probe) => probe.rate));
      const capacity = { requestsPerSecond, share: CAPACITY_SHARE, probes };
      this.#add(trial, best, targets, all.length, { rate, capacity });
    }
  }

  async #race(
    trial: Trial,
    requests: ReadonlyMap<string, readonly TraceRequest[]>,
    rounds: number,
    targetsOf: (decodeMs: number) => Targets,
  ): Promise<Measured> {
    const sizes = sizesOf(this.#setup, trial.rows);
    const module = contenderModule('policy');
    const entries = [...requests].map(([name, own]) => {
      return { name, module, setting: settingOf(this.#setup, trial, name, own, sizes) };
    });
    const finishes = await race<PolicyRound>(entries, {
      rounds,
      onRound: (name, round) => {
        if (round === rounds - 1) this.#advance(`${trial.workload}, ${trial.rows} rows: ${name}`);
      },
    });
    const place = `${trial.workload}, ${trial.rows} rows`;
    for (const { name, error } of finishes) if (error !== undefined) this.failures.push(`${place}, ${name}: ${error}`);
    const differing = differingTokens(finishes);
    if (differing !== undefined) this.failures.push(`${place}: ${differing}`);
    const decodes = finishes.flatMap((finish) => finish.rounds.map(({ decodeMs }) => decodeMs));
    return { finishes, targets: targetsOf(median(decodes)) };
  }

  #targets(decodeMs: number, loop: RelayResult['loop']): Targets {
    const { values } = this.#setup;
    return {
      ttftMs: values['ttft-ms'] ?? GOOD_TTFT[loop] * decodeMs,
      itlMs: values['itl-ms'] ?? GOOD_ITL[loop] * decodeMs,
    };
  }

  #add(
    { workload, rows }: Trial,
    { name, rounds, error }: Finish<PolicyRound>,
    targets: Targets,
    requests: number,
    open: Partial<Pick<RelayResult, 'rate' | 'capacity'>>,
  ): void {
    const last = rounds.at(-1);
    if (last === undefined) return;
    const { model } = this.#setup;
    const { memory, timeline } = last;
    this.results.push({
      model: model.name,
      workload,
      contender: name,
      rows,
      loop: open.rate === undefined ? 'closed' : 'open',
      ...open,
      requests,
      slots: sizesOf(this.#setup, rows).slots,
      targets: { ttftMs: targets.ttftMs === Infinity ? null : targets.ttftMs, itlMs: targets.itlMs },
      ...figuresOf(rounds, targets),
      ...(memory === undefined ? {} : { memory: thinned(memory) }),
      ...(timeline === undefined || !TIMELINES.includes(name) ? {} : { timeline }),
      ...(error === undefined ? {} : { error }),
    });
  }
}

/** Steps and arena of whoever needs most, the dense layout. All engines share the memory of a GPU. */
function sizesOf({ values, contenders, chosen, config, storedType, context }: Setup, rows: number): Sizes {
  const freeBytes = chosen.gpu ? chosen.freeBytes / contenders.length : Infinity;
  const formats = { weights: values.weights, kv: values.kv } as Pick<LoadOptions, 'weights' | 'kv'>;
  const asked = { maxContext: context, policy: 'baton', ...formats } as const;
  const memory = { freeBytes, hostFreeBytes: 0, gpu: chosen.gpu };
  const sizes = chooseSizes({ config, storedType }, asked, rows, memory);
  const dense = tiled(DENSE_ROOMS * rows * tiled(context));
  const slots = readInteger('slots', values.slots ?? Math.min(sizes.slots, dense), tiled(context), 2 ** 31 - 64);
  return { ...sizes, slots: tiled(slots) };
}

function settingOf(
  { values, model, chosen, seed }: Setup,
  { rows }: Trial,
  name: string,
  requests: readonly TraceRequest[],
  sizes: Sizes,
): PolicySetting {
  const target = values['target-itl-ms'];
  return {
    rules: { ...(target === undefined ? {} : { targetItlMs: target }), ...RELAY_CONTENDERS[name]! },
    folder: model.folder,
    device: chosen.name,
    isa: values.isa ?? 'auto',
    threads: readInteger('threads', values.threads ?? 0, 0, 1024),
    sizes,
    rows,
    requests,
    seed,
    early: values.early === true,
    curves: values.curves === true || values.memory === true,
    timelines: values.timelines === true,
  };
}

/** Lengths and arrivals, the same for every contender; a trace's arrivals keep their pattern at any rate. */
function requestsOf(setup: Setup, { workload: name, rows }: Trial, rate: number | undefined): TraceRequest[] {
  const { values, context, seed } = setup;
  const usual = Math.max(LEAST_REQUESTS, REQUESTS_PER_ROW * rows);
  const requests = readInteger('requests', values.requests ?? usual, 1, 1_000_000);
  if (values.trace === undefined) {
    return workload(name as WorkloadName, { requests, seed, context, ...(rate === undefined ? {} : { rate }) });
  }
  const traced: TraceRequest[] = [];
  for (const one of readTrace(values.trace, { lengthScale: values['length-scale'] ?? 1 })) {
    if (traced.length === requests) break;
    const promptTokens = Math.min(one.promptTokens, context - 1);
    traced.push({ ...one, promptTokens, outputTokens: Math.min(one.outputTokens, context - promptTokens) });
  }
  const spanMs = traced.at(-1)?.arrivalMs ?? 0;
  if (rate !== undefined && spanMs === 0) {
    throw new EngineError('INVALID_OPTION', `trace: expected requests that arrive at different times, got ${name}`);
  }
  const scale = rate === undefined ? 0 : (1000 * (traced.length - 1)) / rate / spanMs;
  return traced.map((one) => ({ ...one, arrivalMs: one.arrivalMs * scale }));
}

/** A curve of at most so many points, its last among them. */
function thinned({ ms, used, padding, free }: MemoryCurve): MemoryCurve {
  const every = Math.ceil(ms.length / CURVE_POINTS);
  const of = (list: readonly number[]) => list.filter((_, i) => (ms.length - 1 - i) % every === 0);
  return { ms: of(ms), used: of(used), padding: of(padding), free: of(free) };
}
