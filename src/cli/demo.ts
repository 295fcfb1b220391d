import { totalmem } from 'node:os';
import { basename } from 'node:path';
import { loadAddon } from '../addon.ts';
import type { Engine, EngineStats } from '../engine.ts';
import { env } from '../env.ts';
import type { StepRecord } from '../loop/loop.ts';
import type { LoadOptions, RequestOptions } from '../options.ts';
import { type Command, loadEngine, printJson, withoutControls } from './command.ts';
import { HELP_FLAG, helpOf, JSON_FLAG, LOAD_FLAGS, MODEL_FLAG, readFlags, toOptions, UsageError } from '../flags.ts';
import { TALES } from './package.ts';
import { drawPicture, legend, LivePicture } from './picture.ts';
import { Progress } from './progress.ts';
import { heavyTail } from './workload.ts';

const POLICIES = ['static', 'relay'] as const;
const DEFAULT_ROWS = 8; // few, so that the baton is seen to pass
const DEFAULT_REQUESTS = 48;
const MOST_REQUESTS = 10_000;
const DEFAULT_SEED = 7;
const TALES_SHOWN = 3;
const MOST_COLUMNS = 100;
const FIRST_MS_PER_COLUMN = 4;

const { policy: _, ...ENGINE_FLAGS } = LOAD_FLAGS; // the demo compares them

const FLAGS = {
  requests: { type: 'number', value: 'N', help: `tales to be told; default ${DEFAULT_REQUESTS}` },
  seed: { type: 'number', value: 'N', help: `of prompts, lengths and sampling; default ${DEFAULT_SEED}` },
  ...MODEL_FLAG,
  ...ENGINE_FLAGS,
  ...JSON_FLAG,
  ...HELP_FLAG,
} as const;

/** What the reader of one stream saw, in milliseconds since all requests were made. */
interface Reading {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly arrivals: readonly number[]; // of each piece of text that brought tokens
  readonly endMs: number;
}

/** One policy's way through the requests. */
interface PolicyRun {
  readonly policy: string;
  readonly seconds: number;
  readonly readings: readonly Reading[];
  readonly records: readonly StepRecord[];
  readonly stats: EngineStats;
}

export const demo: Command = {
  summary: 'the embedded model: many tales at once, by each policy, with a picture and a table',
  help: `Usage: baton demo [options]

Runs the same requests of very different lengths by the policies static and relay, shows which row computed what, and
then each request alone, to prove that no tale depended on its company.

${helpOf(FLAGS)}`,

  async run(args) {
    const values = readFlags(args, FLAGS);
    const rows = values.rows ?? DEFAULT_ROWS;
    const seed = values.seed ?? DEFAULT_SEED;
    const model = values.model ?? TALES;
    const load: LoadOptions = { ...toOptions(values, ENGINE_FLAGS), rows };
    const requests = heavyTail(readCount(values.requests), readSeed(seed));
    const json = values.json === true;
    const screen = new Screen(rows, json);

    const runs: PolicyRun[] = [];
    for (const policy of POLICIES) runs.push(await runPolicy(model, { ...load, policy }, requests, screen));
    screen.finalPictures(runs, rows);
    screen.tales(requests, runs.at(-1)?.readings ?? []);
    const alone = await soloTokens(model, load, requests);
    const results = runs.map((run) => summarize(run, rows, alone));
    const [{ device, isa, threads } = { device: '', isa: '', threads: 0 }] = runs.map(({ stats }) => stats.model);
    const cpu = loadAddon().cpu();
    const machine = { cpu: cpu.model, cores: cpu.cores, isa, threads, memoryBytes: totalmem(), node: process.version };
    if (json) printJson({ commit: loadAddon().commit, machine, device, model: basename(model), seed, results });
    else screen.table(results);
    return results.every(({ identical }) => identical) ? 0 : 1;
  },
};

function readCount(requests = DEFAULT_REQUESTS): number {
  if (Number.isInteger(requests) && requests >= 1 && requests <= MOST_REQUESTS) return requests;
  throw new UsageError(`--requests: expected an integer from 1 to ${MOST_REQUESTS}, got ${requests}`);
}

function readSeed(seed: number): number {
  if (Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32) return seed;
  throw new UsageError(`--seed: expected an integer from 0 to ${2 ** 32 - 1}, got ${seed}`);
}

async function runPolicy(
  model: string,
  load: LoadOptions,
  requests: readonly RequestOptions[],
  screen: Screen,
): Promise<PolicyRun> {
  const policy = load.policy ?? '';
  const records: StepRecord[] = [];
  const queueRequests = Math.max(requests.length, 1);
  const onStep = (record: StepRecord) => {
    records.push(record);
    screen.step(record);
  };
  await using engine = await loadEngine(model, { ...load, queueRequests }, { onStep });
  screen.begin(policy, requests.length, engine.stats());
  const start = performance.now();
  const readings = await Promise.all(requests.map((request) => read(engine, request, start)));
  const seconds = (performance.now() - start) / 1000;
  screen.end(policy, seconds);
  return { policy, seconds, readings, records, stats: engine.stats() };
}

async function read(engine: Engine, request: RequestOptions, start: number): Promise<Reading> {
  let text = '';
  const tokens: number[] = [];
  const arrivals: number[] = [];
  for await (const chunk of engine.stream(request)) {
    text += chunk.text;
    tokens.push(...chunk.tokens);
    if (chunk.tokens.length > 0) arrivals.push(performance.now() - start);
  }
  return { text, tokens, arrivals, endMs: performance.now() - start };
}

/** The tokens of every request with the engine to itself: what the policies are held to. */
async function soloTokens(model: string, load: LoadOptions, requests: readonly RequestOptions[]): Promise<number[][]> {
  await using engine = await loadEngine(model, { ...load, rows: 1 });
  const progress = new Progress('each alone');
  const alone: number[][] = [];
  for (const request of requests) {
    alone.push([...(await engine.complete(request)).tokens]);
    progress.show(alone.length / requests.length, `${alone.length}/${requests.length}`);
  }
  progress.end();
  return alone;
}

type Summary = ReturnType<typeof summarize>;

function summarize({ policy, seconds, readings, stats }: PolicyRun, rows: number, alone: readonly number[][]) {
  const outputTokens = readings.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const gaps = readings.flatMap(({ arrivals }) => arrivals.slice(1).map((at, i) => at - (arrivals[i] ?? 0)));
  const { rowMs, wastedMs, share, padKv } = stats.idle;
  const shareOf = (ms: number) => (rowMs > 0 ? ms / rowMs : 0);
  const { slotBytes } = stats.model;
  return {
    policy,
    workload: 'heavy-tail',
    rows,
    requests: readings.length,
    seconds,
    requestsPerSecond: readings.length / seconds,
    outputTokensPerSecond: outputTokens / seconds,
    idle: {
      share, // of the row-time, and its parts
      pad: shareOf(wastedMs.pad),
      dead: shareOf(wastedMs.dead),
      empty: shareOf(wastedMs.empty),
      stall: shareOf(wastedMs.stall),
      padKv, // slots
    },
    ttftMs: distribution(readings.flatMap(({ arrivals }) => arrivals.slice(0, 1))),
    itlMs: distribution(gaps),
    e2eMs: distribution(readings.map(({ endMs }) => endMs)),
    kv: { peakBytes: stats.arena.peak * slotBytes, movedBytes: stats.movedSlots * slotBytes },
    identical: readings.every(({ tokens }, i) => tokens.join() === alone[i]?.join()),
  };
}

function distribution(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const mean = sorted.reduce((sum, value) => sum + value, 0) / Math.max(1, sorted.length);
  return { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

/** What the demo shows on stdout while it runs: moving pictures on a terminal, plain lines otherwise. */
class Screen {
  readonly #quiet: boolean; // stdout belongs to one JSON document
  readonly #color: boolean;
  readonly #moving: boolean;
  readonly #columns = Math.min(MOST_COLUMNS, (process.stdout.columns ?? MOST_COLUMNS) - 1);
  #picture: LivePicture | undefined;
  #msPerColumn = FIRST_MS_PER_COLUMN;

  constructor(rows: number, quiet: boolean) {
    const terminal = !quiet && process.stdout.isTTY === true;
    this.#quiet = quiet;
    this.#color = terminal && !env.noColor;
    this.#moving = terminal && rows + 2 < (process.stdout.rows ?? 24); // what has scrolled away cannot be redrawn
  }

  begin(policy: string, requests: number, { rows, model }: EngineStats): void {
    const { device, isa, threads, weights } = model;
    const machine = `${device} ${isa}, ${threads} threads, ${weights} weights`;
    this.print(`${policy}: ${requests} tales on ${rows} rows, ${machine}`);
    if (!this.#moving) return;
    this.#picture = new LivePicture({
      rows,
      columns: this.#columns,
      color: this.#color,
      msPerColumn: this.#msPerColumn,
      write: (text) => process.stdout.write(text),
    });
  }

  step(record: StepRecord): void {
    this.#picture?.add(record);
  }

  /** The next picture is drawn to the scale of this one. */
  end(policy: string, seconds: number): void {
    this.#picture?.draw();
    this.#msPerColumn = this.#picture?.msPerColumn ?? this.#msPerColumn;
    this.#picture = undefined;
    this.print(`${policy}: ${seconds.toFixed(2)} s\n`);
  }

  /** Where nothing moves, the pictures come once, at the end, to one scale. */
  finalPictures(runs: readonly PolicyRun[], rows: number): void {
    if (!this.#moving) {
      const longest = Math.max(...runs.map(({ records }) => records.reduce((sum, { ms }) => sum + ms, 0)));
      for (const { policy, records } of runs) {
        const style = { columns: this.#columns, msPerColumn: longest / this.#columns, color: this.#color };
        this.print(`${policy}: rows × time\n${drawPicture(records, rows, style).join('\n')}\n`);
      }
    }
    this.print(`${legend(this.#color)}\n`);
  }

  tales(requests: readonly RequestOptions[], readings: readonly Reading[]): void {
    const told = readings.map(({ text }, i) => `${String(requests[i]?.prompt)}${text}`);
    const longest = told.toSorted((a, b) => b.length - a.length).slice(0, TALES_SHOWN);
    for (const tale of longest) this.print(`${withoutControls(tale.trim())}\n`);
  }

  table(results: readonly Summary[]): void {
    const ms = (value: number) => value.toFixed(value < 10 ? 1 : 0);
    const lines = [
      ['policy', 'seconds', 'tokens/s', 'idle', 'TTFT p50', 'p99 ms', 'ITL p50', 'p99 ms', 'as alone'],
      ...results.map(({ policy, seconds, outputTokensPerSecond, idle, ttftMs, itlMs, identical }) => [
        policy,
        seconds.toFixed(2),
        outputTokensPerSecond.toFixed(0),
        `${(100 * idle.share).toFixed(1)} %`,
        ...[ttftMs.p50, ttftMs.p99, itlMs.p50, itlMs.p99].map(ms),
        identical ? 'identical' : 'DIFFERENT',
      ]),
    ];
    const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
    for (const [first = '', ...rest] of lines) {
      const cells = rest.map((cell, i) => cell.padStart(widths[i + 1] ?? 0));
      this.print([first.padEnd(widths[0] ?? 0), ...cells].join('  '));
    }
  }

  print(text: string): void {
    if (!this.#quiet) process.stdout.write(`${text}\n`);
  }
}
