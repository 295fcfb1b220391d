// What it costs to preempt a request and let it go on, by parking and by computing again, against its length.
//
// Other rows decode all the while. Each contender's cost is what its steps take beyond as many steps of those rows
// alone, which take turns with it: parking is one step with a move out and one with a move in, computing again as many
// steps as the prompt has chunks. The crossover is the length from which parking is cheaper, and stays so.
import { parseArgs } from 'node:util';
import { loadAddon } from '../src/addon.ts';
import { tiled } from '../src/loop/arena.ts';
import { openModel } from '../src/model/load.ts';
import { emptyResult, GREEDY, type NativeEngine, RUN_FIELDS, type StepPlan } from '../src/native.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { median } from '../src/bench/statistics.ts';
import { findModel } from '../src/bench/models.ts';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string', default: 'tales,SmolLM2-135M' },
    device: { type: 'string', default: 'cpu' },
    rows: { type: 'string', default: '8' },
    threads: { type: 'string', default: '0' },
    chunk: { type: 'string', default: '256' },
    computed: { type: 'string', default: '1,4,16,32,64,128,256,448,1024,2048' },
    rounds: { type: 'string', default: '15' },
    out: { type: 'string' },
  },
});

const ROWS = Number(flags.rows);
const CHUNK = Number(flags.chunk);
const POSITION = 128; // tokens before each decoding row

const RESULT = emptyResult(64);

interface Span {
  readonly offset: number;
  readonly position: number;
  readonly count: number;
}

/** One step: the rows decode, a chunk and a move ride along. Milliseconds. */
async function step(engine: NativeEngine, chunk?: Span, move?: readonly [from: number, to: number, slots: number]) {
  const starts = Array.from({ length: ROWS }, (_, row) => ({ row, sampling: GREEDY, tokens: [], promptLength: 0 }));
  const runs = starts.map(({ row }) => [row, row * tiled(POSITION + 1), 0, POSITION, 1]);
  if (chunk !== undefined) runs.push([-1, chunk.offset, 0, chunk.position, chunk.count]);
  const tokenCount = runs.reduce((sum, run) => sum + run[RUN_FIELDS - 1]!, 0);
  const plan: StepPlan = {
    moves: Int32Array.from(move ?? []),
    moveCount: move === undefined ? 0 : 1,
    rowMoves: new Int32Array(0),
    rowMoveCount: 0,
    starts,
    runs: Int32Array.from(runs.flat()),
    runCount: runs.length,
    tokens: Int32Array.from({ length: tokenCount }, (_, i) => (i * 7919) % 2000),
    tokenCount,
  };
  const start = performance.now();
  await engine.step(plan, RESULT);
  return performance.now() - start;
}

async function measure(name: string) {
  const tales = name === 'tales';
  const { folder } = await findModel(name);
  const { config, files, tensors } = await openModel(folder);
  const lengths = flags.computed.split(',').map(Number).filter((length) => length <= config.context);
  const longest = tiled(Math.max(...lengths));
  const company = ROWS * tiled(POSITION + 1);
  const engine = await loadAddon().load({
    ...{ config, files, tensors, device: flags.device, isa: 'auto', threads: Number(flags.threads) },
    ...{ graphs: true,
    cublasLt: '', checkLaunches: false },
    ...{ weights: 'bf16', kv: 'bf16', slots: company + 2 * longest, hostSlots: longest, rows: ROWS },
    ...{ stepTokens: ROWS + CHUNK, context: config.context },
  });
  const { slots } = engine;
  const chunks = (length: number): Span[] =>
    Array.from({ length: Math.ceil(length / CHUNK) }, (_, i) => {
      return { offset: company, position: i * CHUNK, count: Math.min(CHUNK, length - i * CHUNK) };
    });
  // Memory is touched: the rows' own, what is computed, host memory, and where it comes back to.
  for (let row = 0; row < ROWS; row++) {
    await step(engine, { offset: row * tiled(POSITION + 1), position: 0, count: POSITION });
  }
  for (const chunk of chunks(longest)) await step(engine, chunk);
  await step(engine, undefined, [company, slots, longest]);
  await step(engine, undefined, [slots, company + longest, longest]);

  const plain: number[] = [];
  const park = new Map<number, number[]>(lengths.map((length) => [length, []]));
  const recompute = new Map<number, number[]>(lengths.map((length) => [length, []]));
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const length of lengths) {
      const beside = async (steps: readonly Parameters<typeof step>[]) => {
        let more = 0;
        for (const one of steps) {
          const alone = await step(engine);
          plain.push(alone);
          more += (await step(...one)) - alone;
        }
        return more;
      };
      const out = [engine, undefined, [company, slots, length]] as const;
      const back = [engine, undefined, [slots, company + longest, length]] as const;
      park.get(length)!.push(await beside([[...out], [...back]]));
      recompute.get(length)!.push(await beside(chunks(length).map((chunk) => [engine, chunk])));
    }
  }
  await engine.close();

  const rows = lengths.map((computed) => {
    return { computed, parkMs: median(park.get(computed)!), recomputeMs: median(recompute.get(computed)!) };
  });
  const crossover = lengths.find((_, i) => rows.slice(i).every(({ parkMs, recomputeMs }) => parkMs < recomputeMs));
  const { device, isa, threads, slotBytes } = engine;
  const machine = { device, isa, threads, slotBytes };
  return { model: name, synthetic: !tales, ...machine, companyRows: ROWS, stepMs: median(plain), rows, crossover };
}

const results = [];
for (const name of flags.models.split(',')) {
  const result = await measure(name);
  results.push(result);
  const { synthetic, isa, threads, slotBytes, stepMs, rows, crossover } = result;
  const title = `${name}${synthetic ? ' (synthetic)' : ''}, ${isa}, ${threads} threads, ${slotBytes} bytes a slot`;
  console.log(`${title}; ${ROWS} rows decode in ${stepMs.toFixed(2)} ms`);
  for (const { computed, parkMs, recomputeMs } of rows) {
    const times = (recomputeMs / parkMs).toFixed(1).padStart(7);
    const [park, recompute] = [parkMs, recomputeMs].map((ms) => ms.toFixed(3).padStart(9));
    console.log(`  ${String(computed).padStart(5)} tokens  park ${park} ms  recompute ${recompute} ms  ${times} x`);
  }
  console.log(`  crossover: ${crossover ?? 'beyond the longest'}`);
}
writeScriptRecord(flags.out, results);
