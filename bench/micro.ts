// The small things that happen often, one by one: npm run bench -- micro [--only PATTERN] [--ms 300] [--json] [--out FILE.json]
//
// Nanoseconds of one call. mitata measures: it calls what is quicker than its clock in batches, which tinybench, the
// other well-kept one, does not, and some of these calls take less time than reading a clock. Some twelve seconds.
import { parseArgs } from 'node:util';
import { do_not_optimize, measure } from 'mitata';
import { loadAddon } from '../src/addon.ts';
import { tableOf } from '../src/bench/bench.ts';
import { record, thisScript, writeRecord } from '../src/bench/record.ts';
import { KvArena, type Span, TILE } from '../src/loop/arena.ts';
import { Loop } from '../src/loop/loop.ts';
import { Request } from '../src/loop/request.ts';
import { workload } from '../src/loop/workloads.ts';
import { openModel } from '../src/model/load.ts';
import { TALES } from '../src/model/tales.ts';
import { emptyResult, GREEDY, type NativeEngine, type StepPlan } from '../src/native.ts';
import { StopStrings } from '../src/text/stop-strings.ts';
import { Tokenizer } from '../src/text/tokenizer.ts';

/** What is measured: `call` must leave things as it found them, for it is called a million times. */
interface Subject {
  readonly name: string;
  readonly call: () => unknown;
  /** What one call does so many times; the figures are of one. */
  readonly times?: number;
}

/** Of one call, in nanoseconds. */
interface MicroResult {
  readonly name: string;
  readonly p50: number;
  readonly p99: number;
  readonly mean: number;
  readonly least: number;
  readonly samples: number;
}

const SEED = 1;
const CONTEXT = 1024;
const TEXT = `Once upon a time there was a little girl who lived in a village near the forest. Whenever she went out, the little
girl wore a red riding cloak, so everyone in the village called her Little Red Riding Hood. One morning, Little Red
Riding Hood asked her mother if she could go to visit her grandmother as it had been a while since they'd seen each
other. "That's a good idea," her mother said. So they packed a nice basket for Little Red Riding Hood to take along.`;

/** Integers below `limit`, the same in every run. */
function makeRandom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** A device that takes no time. */
function instant(slots: number): NativeEngine {
  const facts = { device: 'none', isa: 'none', threads: 0, weights: 'none', kv: 'none', weightBytes: 0, slotBytes: 0 };
  const step: NativeEngine['step'] = async (_plan, result) => void result.sampled.fill(7);
  return { ...facts, slots, hostSlots: 0, step, close: async () => {} };
}

/** A tick of a full batch with a queue that never runs dry; what it costs to queue a request is in it. */
function tick(rows: number): Subject {
  const loop = new Loop(instant(rows * CONTEXT), {
    ...{ rows, context: CONTEXT, stepTokens: rows + 512, policy: 'relay', admission: 'optimistic' },
    ...{ queueRequests: 1e6, queueTokens: 1e9, prefixReuse: false, onToken: () => {}, onFinish: () => {} },
  });
  const lengths = workload('heavy-tail', { requests: 1000, seed: SEED, context: CONTEXT });
  let id = 0;
  const call = async () => {
    while (loop.queue.length < 2 * rows) {
      const { promptTokens, outputTokens } = lengths[id % lengths.length]!;
      const prompt = new Int32Array(promptTokens).fill(id % 1000);
      loop.add(
        new Request(id++, { prompt, maxTokens: outputTokens, stopTokens: new Set(), minTokens: 0, sampling: GREEDY }),
      );
    }
    await loop.tick();
  };
  return { name: `loop: tick, ${rows} rows`, call };
}

const ARENA_SLOTS = 256 * 1024;
const LONGEST = 16; // tiles

interface Owner {
  computed: number;
}

/** An arena filled to a share of its slots with spans of 1 to 16 tiles, in the disorder that comes and goes leave. */
class FullArena {
  readonly arena = new KvArena(ARENA_SLOTS);
  readonly #spans: Span[] = [];
  readonly #random = makeRandom(SEED);
  readonly #most: number;

  constructor(share: number) {
    this.#most = share * ARENA_SLOTS;
    for (let i = 0; i < 2000; i++) this.turn();
  }

  /** One span leaves, and others come while they fit. */
  turn(): void {
    if (this.#spans.length > 0) this.#leave();
    for (;;) {
      const slots = (1 + this.#random(LONGEST)) * TILE;
      if (ARENA_SLOTS - this.arena.free + slots > this.#most) break;
      this.#come(slots);
    }
    this.arena.takeMoves(() => {});
  }

  /** One span becomes a tile longer, after others have left if that is too much; a long one makes way for a new one. */
  grow(): void {
    while (ARENA_SLOTS - this.arena.free + TILE > this.#most) this.#leave();
    const at = this.#random(this.#spans.length);
    const span = this.#spans[at]!;
    if (span.capacity >= LONGEST * TILE) {
      this.#leave(at);
      this.#come(TILE);
    } else if (this.arena.grow(span, span.capacity + TILE)) (span.owner as Owner).computed = span.capacity;
    this.arena.takeMoves(() => {});
  }

  #come(slots: number): void {
    const span = this.arena.allocate({ computed: slots } satisfies Owner, slots);
    if (span !== undefined) this.#spans.push(span);
  }

  #leave(at = this.#random(this.#spans.length)): void {
    this.arena.release(this.#spans[at]!);
    this.#spans[at] = this.#spans.at(-1)!;
    this.#spans.pop();
  }
}

function arenas(): Subject[] {
  return [0.5, 0.8, 0.95, 0.99].flatMap((share) => {
    const [turned, grown] = [new FullArena(share), new FullArena(share)];
    const at = `${Math.round(100 * share)} % full`;
    return [
      { name: `arena: release one, allocate to ${at}`, call: () => turned.turn() },
      { name: `arena: grow by a tile at ${at}`, call: () => grown.grow() },
    ];
  });
}

function texts(tokenizer: Tokenizer): Subject[] {
  const long = Array.from({ length: 16 }, (_, i) => `${i}. ${TEXT}`).join('\n'); // no two paragraphs are the same
  const ids = tokenizer.encode(long, false);
  const push = () => {
    const detokenizer = tokenizer.detokenizer();
    let length = 0;
    for (const id of ids) length += detokenizer.push(id).length;
    return length + detokenizer.flush().length;
  };
  const pieces = ids.map((id) => tokenizer.decode([id]));
  const stop = (count: number) => () => {
    const stops = new StopStrings(Array.from({ length: count }, (_, i) => `the little grandmother ${i}`));
    let length = 0;
    for (const piece of pieces) length += stops.push(piece).length;
    return length;
  };
  return [
    { name: 'tokenizer: encode, per token', call: () => tokenizer.encode(long, false), times: ids.length },
    { name: 'tokenizer: decode, per token', call: () => tokenizer.decode(ids), times: ids.length },
    { name: 'detokenizer: push, per token', call: push, times: ids.length },
    { name: 'stop strings: 1, per token', call: stop(1), times: ids.length },
    { name: 'stop strings: 16, per token', call: stop(16), times: ids.length },
  ];
}

/** A step that asks for nothing: what crossing to the device's thread and back costs. */
function emptyStep(engine: NativeEngine): Subject {
  const nothing = new Int32Array(0);
  const plan: StepPlan = {
    ...{ moves: nothing, moveCount: 0, rowMoves: nothing, rowMoveCount: 0, starts: [] },
    ...{ runs: nothing, runCount: 0, tokens: nothing, tokenCount: 0 },
  };
  const result = emptyResult(4);
  return { name: 'native: an empty step, there and back', call: () => engine.step(plan, result) };
}

async function time({ name, call, times = 1 }: Subject, ms: number): Promise<MicroResult> {
  const first = call();
  await first;
  // A collection of garbage before each sample would hide what garbage costs.
  const subject = first instanceof Promise ? async () => void (await call()) : () => do_not_optimize(call());
  const { p50, p99, avg, min, samples } = await measure(subject, { gc: false, min_cpu_time: ms * 1e6 });
  const [one, rare, mean, least] = [p50, p99, avg, min].map((value) => value / times) as [number, number, number, number];
  return { name, p50: one, p99: rare, mean, least, samples: samples.length };
}

function shown(nanoseconds: number): string {
  const [unit, size] = nanoseconds < 1e3 ? ['ns', 1] : nanoseconds < 1e6 ? ['µs', 1e3] : ['ms', 1e6];
  return `${(nanoseconds / size).toPrecision(3)} ${unit}`;
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    ms: { type: 'string', default: '300' },
    json: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
});
const ms = Number(values.ms);
if (!(ms > 0 && ms < 1e6)) throw new Error(`--ms: expected milliseconds per subject, got ${values.ms}`);

const { config, files, tensors, tokenizer } = await openModel(TALES);
const limits = { slots: 256, hostSlots: 0, rows: 4, stepTokens: 64, context: 64, threads: 1 };
const rest = { graphs: true, checkLaunches: false, cublasLt: '' };
const load = { config, files, tensors, device: 'cpu', isa: 'auto', weights: 'bf16', kv: 'bf16', ...limits, ...rest };
const engine = await loadAddon().load(load);
const subjects = [
  ...[1, 64, 256].map(tick),
  ...arenas(),
  ...texts(new Tokenizer(tokenizer)),
  emptyStep(engine),
].filter(({ name }) => name.includes(values.only));
const results: MicroResult[] = [];
for (const subject of subjects) results.push(await time(subject, ms));
await engine.close();

const made = record({ ...thisScript(), seed: SEED, results });
if (values.out !== undefined) writeRecord(values.out, made);
if (values.json) console.log(JSON.stringify(made, undefined, 2));
else {
  const rows = results.map(({ name, p50, p99, mean, least }) => [name, ...[p50, p99, mean, least].map(shown)]);
  process.stdout.write(tableOf([['what', 'p50', 'p99', 'mean', 'least'], ...rows]));
}
