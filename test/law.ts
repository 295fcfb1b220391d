// Timeout: 600 s
// The law of numerics: a request's tokens and log-probabilities do not depend on its company. Random schedules, each on
// an engine of its own (rows, chunk and step sizes, arena, threads, policy, admission, arrivals drawn anew), against the
// solo run of every request, bit for bit. `npm test` takes a sample; `npm run law` runs 200 schedules of 64 requests on
// every instruction set and weight type. --device: another device than the CPU, --longest: shorter requests for slow ones,
// --out FILE.json: what was compared, and where.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ShapeName } from '../src/bench/shapes.ts';
import { record, writeRecord } from '../src/bench/record.ts';
import { synthesize } from '../src/bench/synthesize.ts';
import { loadAddon } from '../src/addon.ts';
import { Loop, type LoopOptions, POLICY_NAMES } from '../src/loop/loop.ts';
import { Request } from '../src/loop/request.ts';
import { openModel } from '../src/model/load.ts';
import type { NativeEngine, NativeLoad, Sampling } from '../src/native.ts';
import { Random } from './native/fake/random.ts';

const { values: flags } = parseArgs({
  options: {
    schedules: { type: 'string', default: '2' },
    requests: { type: 'string', default: '64' },
    device: { type: 'string', default: 'cpu' },
    isa: { type: 'string' },
    weights: { type: 'string' },
    longest: { type: 'string', default: '400' },
    out: { type: 'string' },
  },
});

// Schedules take turns; plain loops in double precision, and an emulated GPU, would take hours for more than the smallest.
const SHAPES: readonly ShapeName[] = ['tiny-llama', 'tiny-qwen2', 'tiny-qwen3'];
const SLOW_SHAPES: readonly ShapeName[] = ['nano-llama'];
const WEIGHTS = [
  { weights: 'f32', kv: 'f32' },
  { weights: 'bf16', kv: 'bf16' },
  { weights: 'int8', kv: 'bf16' },
];
const SOLO_REQUESTS = 192; // per shape; a schedule draws its requests from these
const LONGEST_PROMPT = Number(flags.longest);
const LONGEST_OUTPUT = Math.ceil(LONGEST_PROMPT / 2);
const CONTEXT = Math.ceil((1.6 * LONGEST_PROMPT) / 64) * 64;

/** Integers from 0 to below `below`, from a seed. */
function random(seed: number): (below: number) => number {
  const numbers = new Random(seed);
  return (below) => numbers.integer(0, below - 1);
}

/** The request of this number: always the same one. */
function makeRequest(id: number, vocabulary: number): Request {
  const draw = random(1000 + id);
  const sampled = draw(3) > 0;
  const penalised = sampled && draw(4) === 0;
  const sampling: Sampling = {
    temperature: sampled ? 0.5 + draw(100) / 100 : 0,
    topK: draw(3) === 0 ? 1 + draw(40) : 0,
    topP: draw(3) === 0 ? 0.5 + draw(50) / 100 : 1,
    minP: draw(5) === 0 ? 0.05 : 0,
    repetitionPenalty: penalised ? 1.2 : 1,
    presencePenalty: penalised ? 0.3 : 0,
    frequencyPenalty: penalised ? 0.1 : 0,
    seed: draw(2 ** 31),
    logprobs: draw(4),
    minTokens: 0,
    stopTokens: new Int32Array(0),
    biasTokens: new Int32Array(draw(5) === 0 ? [draw(vocabulary)] : []),
    biasValues: new Float32Array(0),
  };
  // Most begin like others: with a stretch of one of two texts.
  const length = 1 + draw(LONGEST_PROMPT);
  const shared = draw(4) > 0 ? draw(length + 1) : 0;
  const word = random(1 + draw(2));
  const text = Array.from({ length: shared }, () => word(vocabulary));
  return new Request(id, {
    prompt: [...text, ...Array.from({ length: length - shared }, () => draw(vocabulary))],
    maxTokens: 1 + draw(LONGEST_OUTPUT),
    minTokens: 0,
    stopTokens: new Set(),
    sampling: { ...sampling, biasValues: new Float32Array(sampling.biasTokens.length).fill(-3) },
  });
}

/** Everything a request was given, as one string: tokens, and the bits of every log-probability. */
async function play(engine: NativeEngine, requests: Request[], options: Partial<LoopOptions>, arrivals: number[]) {
  const answers = new Map<number, string[]>(requests.map((request) => [request.id, []]));
  const bits = new DataView(new ArrayBuffer(4));
  const exact = (value: number) => (bits.setFloat32(0, value), bits.getUint32(0).toString(16));
  const loop = new Loop(engine, {
    rows: 1,
    context: CONTEXT,
    stepTokens: 512,
    policy: 'relay',
    admission: 'optimistic',
    queueRequests: 1000,
    queueTokens: 1_000_000,
    check: true,
    ...options,
    onToken: (request, { token, logprob, top }) => {
      const alternatives = top.map((one) => `${one.token}:${exact(one.logprob)}`);
      answers.get(request.id)!.push([token, exact(logprob), ...alternatives].join(' '));
    },
    onFinish: (request, reason, error) => assert.is(reason, 'length', `${request.id}: ${error?.message}`),
  });
  let next = 0;
  for (let tick = 0; next < requests.length || !loop.idle; tick++) {
    while (next < requests.length && arrivals[next]! <= tick) loop.add(requests[next++]!);
    if (!loop.idle) await loop.tick();
  }
  const { arena, host, preemptions, parks, movedSlots, tokens } = loop.stats();
  assert.equal([arena.free, host.free], [engine.slots, host.slots], 'arena and host memory are empty again');
  return { answers, preemptions, parks, movedSlots, cached: tokens.cached };
}

interface Contender {
  readonly device: string;
  readonly isa: string;
  readonly weights: string;
  readonly kv: string;
}

async function compare({ device, isa, weights, kv }: Contender, folder: string, schedules: number, count: number) {
  const addon = loadAddon();
  const shapes = isa === 'scalar' || device === 'cuda-emu' ? SLOW_SHAPES : SHAPES;
  const models = await Promise.all(shapes.map((shape) => openModel(join(folder, shape))));
  const solo = shapes.map(() => new Map<number, string[]>());
  const seen = { tokens: 0, preemptions: 0, parks: 0, movedSlots: 0, cached: 0 };
  for (let schedule = 0; schedule < schedules; schedule++) {
    const draw = random(schedule);
    const which = schedule % shapes.length;
    const { config, files, tensors } = models[which]!;
    const load = (limits: Pick<NativeLoad, 'slots' | 'hostSlots' | 'rows' | 'stepTokens' | 'threads' | 'graphs'>) => {
      const place = { device, isa: device === 'cpu' ? isa : 'auto', weights, kv, checkLaunches: false, cublasLt: '' };
      return addon.load({ config, files, tensors, ...place, context: CONTEXT, ...limits });
    };
    const ids = [...new Set(Array.from({ length: 4 * count }, () => draw(SOLO_REQUESTS)))].slice(0, count);
    assert.is(ids.length, count);

    const missing = ids.filter((id) => !solo[which]!.has(id));
    const alone = await load({ slots: CONTEXT, hostSlots: 0, rows: 1, stepTokens: 512, threads: 1, graphs: false });
    for (const id of missing) {
      const { answers } = await play(alone, [makeRequest(id, config.vocabulary)], {}, [0]);
      solo[which]!.set(id, answers.get(id)!);
    }
    await alone.close();

    const rows = 1 + draw(16);
    const options = {
      rows,
      stepTokens: rows + 8 + draw(400),
      chunkTokens: 1 + draw(128),
      policy: draw(2) === 0 ? ('relay' as const) : POLICY_NAMES[draw(POLICY_NAMES.length)]!,
      admission: draw(3) === 0 ? ('reserve' as const) : ('optimistic' as const),
      preemptEvery: draw(2) === 0 ? 5 + draw(40) : 0,
      preemptBy: draw(3) === 0 ? ('recompute' as const) : ('park' as const),
      overlap: draw(2) === 0,
      prefixReuse: draw(8) > 0,
    };
    const slots = CONTEXT + 64 * draw(Math.ceil(CONTEXT * (draw(2) === 0 ? 1 / 40 : 3 / 16)));
    const hostSlots = draw(4) === 0 ? 0 : 64 * (1 + draw(Math.ceil(CONTEXT / 16)));
    const { stepTokens } = options;
    const engine = await load({ slots, hostSlots, rows, stepTokens, threads: 1 + draw(3), graphs: draw(4) > 0 });
    const spread = draw(2) === 0 ? 1 : 400;
    const arrivals = ids.map(() => draw(spread)).sort((a, b) => a - b);
    const requests = ids.map((id) => makeRequest(id, config.vocabulary));
    const { answers, preemptions, parks, movedSlots, cached } = await play(engine, requests, options, arrivals);
    await engine.close();
    for (const id of ids) {
      const setting = JSON.stringify({ ...options, slots, hostSlots });
      const name = `${isa} ${weights} schedule ${schedule} (${setting}) request ${id}`;
      assert.equal(answers.get(id), solo[which]!.get(id), name);
      seen.tokens += answers.get(id)!.length;
    }
    seen.preemptions += preemptions;
    seen.parks += parks;
    seen.movedSlots += movedSlots;
    seen.cached += cached;
  }
  return seen;
}

const law = suite('The law of numerics');
const folder = mkdtempSync(join(tmpdir(), 'baton-law-'));

law.before(async () => {
  for (const shape of [...SHAPES, ...SLOW_SHAPES]) await synthesize(join(folder, shape), shape, { seed: 3, type: 'f32' });
});
law.after(() => {
  rmSync(folder, { recursive: true });
  const command = ['npm run law --', ...process.argv.slice(2)].join(' ');
  const held = results.length === combinations.length;
  if (held && flags.out !== undefined) writeRecord(flags.out, record({ experiment: 'law', command, results }));
});

const { device } = flags;
const results: object[] = [];
const isas = device === 'cpu' ? loadAddon().cpu().isas : [device];
const combinations = isas
  .flatMap((isa) => WEIGHTS.map((types) => ({ isa, ...types })))
  .filter(({ isa, weights }) => (flags.isa ?? isa) === isa && (flags.weights ?? weights) === weights);
for (const { isa, weights, kv } of combinations) {
  law(`holds on ${isa} with ${weights} weights`, async () => {
    const start = performance.now();
    const seen = await compare({ device, isa, weights, kv }, folder, Number(flags.schedules), Number(flags.requests));
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${isa} ${weights}: ${flags.schedules} schedules, ${JSON.stringify(seen)}, ${seconds} s`);
    assert.ok(seen.tokens > 0);
    assert.ok(seen.cached > 0 || LONGEST_PROMPT < 200, 'no prefix was copied');
    results.push({ device, isa, weights, kv, schedules: Number(flags.schedules), requests: Number(flags.requests), ...seen });
  });
}

law.run();
