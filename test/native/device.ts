// The ops under baton-llm/kernels: that shapes are checked, and that each reaches the op of its name. What the ops
// compute is tested, on every instruction set, in test/native/ops.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, type DeviceOptions, peakOperations, readSeconds, type StepPlan } from '../../src/kernels.ts';
import { failure, makePlan, makeResult, start } from './fake/tales.ts';

const device = suite('Device');

/** Small enough to compute by hand: two heads of two, one of keys and values. */
const CONFIG = {
  hidden: 4,
  intermediate: 4,
  heads: 2,
  kvHeads: 1,
  headDim: 2,
  vocabulary: 8,
  context: 64,
  ropeTheta: 10_000,
};
const OPTIONS: DeviceOptions = { config: CONFIG, slots: 64, rows: 2, stepTokens: 8 };

function floats(count: number, at = (i: number): number => i): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => at(i));
}

function near(actual: ArrayLike<number>, expected: readonly number[], tolerance = 1e-5): void {
  assert.is(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i]! - value) <= tolerance, `[${i}]: expected ${value}, got ${actual[i]}`);
  }
}

async function refuses(code: string, message: RegExp, call: () => unknown): Promise<void> {
  const refused = await failure(call);
  assert.is(refused.code, code, refused.message);
  assert.match(refused.message, message);
}

/** Runs of two rows, 2 and 1 tokens, both sampled. */
function twoRuns(): StepPlan {
  const runs = [
    [0, 0, 0, 0, 2],
    [1, 0, 20, 0, 1],
  ];
  return makePlan({ starts: [start(0, [1, 2]), start(1, [3])], runs, tokens: [1, 2, 3] });
}

device('says what it runs on', () => {
  const on = new Device({ ...OPTIONS, isa: 'scalar', threads: 2 });
  assert.is(on.isa, 'scalar');
  assert.ok(on.threads >= 1 && on.threads <= 2);
  assert.is(on.config.hidden, 4);
  on.close();
});

device('writes and reads rows', () => {
  const on = new Device(OPTIONS);
  const rows = on.rows(3, 5, floats(15));
  assert.equal(on.read(rows), floats(15));
  on.write(
    rows,
    floats(15, (i) => -i),
  );
  assert.equal(
    on.read(rows),
    floats(15, (i) => -i),
  );
  on.close();
});

device('multiplies, with a bias and onto a residual', () => {
  const on = new Device(OPTIONS);
  const w = on.matrix(new Float32Array([1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, -1]), 3, 4, 'f32');
  const x = on.operand(2, 4, 'f32');
  on.convert(x, on.rows(2, 4, new Float32Array([1, 2, 3, 4, -1, -2, -3, -4])));
  near(on.readOperand(x), [1, 2, 3, 4, -1, -2, -3, -4]);
  const out = on.rows(2, 3);
  on.matmul(out, x, w, on.vector(new Float32Array([10, 20, 30])));
  near(on.read(out), [11, 23, 32, 9, 17, 28]);
  on.matmul(out, x, w);
  on.matmulAdd(out, x, w);
  near(on.read(out), [2, 6, 4, -2, -6, -4]);
  on.close();
});

device('normalises and gates', () => {
  const on = new Device(OPTIONS);
  const out = on.operand(1, 4, 'f32');
  on.rmsNorm(out, on.rows(1, 4, new Float32Array([1, 1, 1, -1])), on.vector(floats(4, (i) => i + 1)), 0);
  near(on.readOperand(out), [1, 2, 3, -4]);
  const gated = on.operand(1, 2, 'f32');
  // x = [1, 2, 3, -4]: gates 1 and -1, ups 3 and -4
  on.matmulSwiglu(
    gated,
    out,
    on.gatedMatrix(new Float32Array([1, 0, 0, 0, 1, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]), 2, 4, 'f32'),
  );
  const silu = (value: number) => value / (1 + Math.exp(-value));
  near(on.readOperand(gated), [3 * silu(1), -4 * silu(-1)], 1e-4);
  on.close();
});

device('looks up, rotates, attends, selects and samples the tokens of a plan', () => {
  const on = new Device(OPTIONS);
  on.begin(twoRuns());
  const x = on.rows(3, 4);
  on.embedding(x, on.matrix(floats(32), 8, 4, 'f32'));
  near(on.read(x), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

  // Queries of zero attend alike to all positions, so what comes out is the mean of the values.
  const qkv = on.rows(
    3,
    8,
    floats(24, (i) => (i % 8 < 4 ? 0 : i)),
  );
  on.kvAppend(qkv, 0);
  const attended = on.operand(3, 4, 'f32');
  on.attention(attended, qkv, 0);
  near(on.readOperand(attended), [6, 7, 6, 7, 10, 11, 10, 11, 22, 23, 22, 23], 1e-4);

  const selected = on.rows(2, 4);
  on.selectSampled(selected, x);
  near(on.read(selected), [8, 9, 10, 11, 12, 13, 14, 15]);
  const second = on.rows(1, 4);
  on.selectSampled(second, x, 1);
  near(on.read(second), [12, 13, 14, 15]);

  const result = makeResult(2);
  on.sample(
    result,
    on.rows(
      2,
      8,
      floats(16, (i) => (i === 5 || i === 8 ? 9 : 0)),
    ),
  );
  assert.equal([...result.sampled], [5, 0]);
  const logprob = -Math.log(1 + 7 * Math.exp(-9));
  near(result.logprobs, [logprob, logprob]);
  on.sample(result, on.rows(1, 8, floats(8)), 1);
  assert.equal([...result.sampled], [5, 7]);
  on.close();
});

device('rotates keys and queries by their position', () => {
  const on = new Device({ ...OPTIONS, config: { ...CONFIG, heads: 1 } });
  on.begin(makePlan({ runs: [[0, 0, 0, 1, 1]], tokens: [1] }));
  const qkv = on.rows(1, 6, new Float32Array([1, 0, 0, 1, 5, 6]));
  on.kvAppend(qkv, 0);
  near(on.read(qkv).slice(0, 2), [Math.cos(1), Math.sin(1)]);
  on.close();
});

device('checks every shape, for the backend takes them on trust', async () => {
  const on = new Device(OPTIONS);
  on.begin(twoRuns());
  const w = on.matrix(floats(12), 3, 4, 'f32');
  const bf16 = on.matrix(floats(12), 3, 4, 'bf16');
  const x = on.operand(2, 4, 'f32');
  const rows = on.rows(2, 4, floats(8));
  const wide = on.rows(3, 8);
  on.convert(x, rows);
  const bad = (message: RegExp, call: () => unknown) => refuses('INVALID_ARGUMENT', message, call);
  await bad(/values: expected 12, got 11/, () => on.matrix(floats(11), 3, 4, 'f32'));
  await bad(/values: expected 46116/, () => on.matrix(floats(0), 2 ** 31 - 1, 2 ** 31 - 1, 'f32'));
  await bad(/outputs/, () => on.matrix(floats(0), 0, 4, 'f32'));
  await bad(/type: expected .*got 'int4'/, () => on.matrix(floats(12), 3, 4, 'int4' as never));
  await bad(/values: expected one or more/, () => on.vector(floats(0)));
  await bad(/values: expected 8, got 7/, () => on.write(rows, floats(7)));
  await bad(/values: expected 8, got 9/, () => on.read(rows, floats(9)));
  await bad(/rows: expected an integer/, () => on.read({ id: 99, count: 1, width: 4 }));
  await bad(/rows.count/, () => on.read({ id: rows.id, count: 3, width: 4 }));
  await bad(/rows in the operand: expected at most 2, got 3/, () => on.convert(on.operand(2, 8, 'f32'), wide));
  await bad(/operand width/, () => on.convert(x, wide));
  await bad(/weight size: expected 4, got 3/, () => on.rmsNorm(x, rows, on.vector(floats(3))));
  await bad(/out width: expected 3, got 4/, () => on.matmul(rows, x, w));
  await bad(/out rows: expected 2, got 1/, () => on.matmul(on.rows(1, 3), x, w));
  await bad(/operand type: expected the matrix's bf16, got f32/, () => on.matmul(on.rows(2, 3), x, bf16));
  await bad(/bias size/, () => on.matmul(on.rows(2, 3), x, w, on.vector(floats(4))));
  await bad(/out width/, () => on.matmulAdd(rows, x, w));
  await bad(/expected one that is gated/, () => on.matmulSwiglu(x, x, w));
  await bad(/out rows: expected 3, got 2/, () => on.embedding(rows, on.matrix(floats(32), 8, 4, 'f32')));
  await bad(/table outputs: expected 8, got 3/, () => on.embedding(on.rows(3, 4), w));
  await bad(/qkv rows: expected 3, got 2/, () => on.kvAppend(on.rows(2, 8), 0));
  await bad(/qkv width/, () => on.kvAppend(on.rows(3, 9), 0));
  await bad(/layer/, () => on.kvAppend(wide, 1));
  await bad(/layer/, () => on.attention(on.operand(3, 4, 'f32'), wide, -1));
  await bad(/qNorm size/, () => on.kvAppend(wide, 0, on.vector(floats(3))));
  await bad(/operand width: expected 4, got 8/, () => on.attention(on.operand(3, 8, 'f32'), wide, 0));
  await bad(/rows in the operand: expected at most 2, got 3/, () => on.attention(on.operand(2, 4, 'f32'), wide, 0));
  await bad(/first \+ out rows: expected at most 2, got 3/, () => on.selectSampled(on.rows(2, 4), on.rows(3, 4), 1));
  await bad(/logits width/, () => on.sample(makeResult(2), rows));
  await bad(/first \+ logits rows/, () => on.sample(makeResult(2), on.rows(1, 8), 2));
  await bad(/sampled: expected 2/, () => on.sample(makeResult(1), on.rows(2, 8)));
  await bad(/tokens\[0\]/, () => on.begin(makePlan({ runs: [[0, 0, 0, 0, 1]], tokens: [8] })));
  await bad(/qkv rows: expected 0, got 3/, () => on.kvAppend(wide, 0)); // that plan was not begun
  on.close();
});

device('refuses memory that no machine has', async () => {
  const on = new Device(OPTIONS);
  await refuses('OUT_OF_MEMORY', /\d{9}/, () => on.rows(2 ** 31 - 1, 2 ** 24));
  assert.equal(on.read(on.rows(1, 2, floats(2))), floats(2));
  on.close();
});

device('closes twice as once, and is closed for everything else', async () => {
  const on = new Device(OPTIONS);
  const rows = on.rows(1, 4);
  on.close();
  on.close();
  await refuses('CLOSED', /closed/, () => on.rows(1, 4));
  await refuses('CLOSED', /closed/, () => on.read(rows));
});

device('refuses options that mean nothing', async () => {
  await refuses('INVALID_ARGUMENT', /slots/, () => new Device({ ...OPTIONS, slots: 65 }));
  await refuses('INVALID_OPTION', /isa/, () => new Device({ ...OPTIONS, isa: 'mmx' }));
  const foreign = process.arch === 'arm64' ? 'avx2' : 'neon';
  await refuses('DEVICE_UNAVAILABLE', /isa/, () => new Device({ ...OPTIONS, isa: foreign }));
  await refuses('MODEL_UNSUPPORTED', /headDim/, () => new Device({ config: { headDim: 5 } }));
});

device('measures ceilings', async () => {
  assert.ok(readSeconds(2 ** 20, 1, 1) > 0);
  assert.ok(peakOperations('auto', false, 1) > 0);
  await refuses('INVALID_ARGUMENT', /bytes/, () => readSeconds(-1, 1));
  await refuses('INVALID_ARGUMENT', /threads/, () => readSeconds(2 ** 20, 0));
  await refuses('INVALID_OPTION', /isa/, () => peakOperations('mmx', false, 1));
});

device.run();
