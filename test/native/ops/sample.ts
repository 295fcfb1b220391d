// sample: the order of operations that native/cpu/sample.h states, against a naive one written here in double: every
// token sorted, every share added up. The generator is written here once more and tied to its authors' known answers.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../src/addon.ts';
import { Device, TOP_LOGPROBS } from '../../../src/kernels.ts';
import type { Rows, RowStart, Sampling } from '../../../src/kernels.ts';
import { GREEDY } from '../../../src/native.ts';
import { Random } from '../fake/random.ts';
import { makePlan, makeResult } from '../fake/tales.ts';

const sample = suite('sample');

const ISAS = loadAddon().cpu().isas;
const WORD = 2n ** 32n;

/** Philox4x32-10 by its definition. */
function philox(counter: readonly bigint[], key: readonly bigint[]): bigint[] {
  let [a, b, c, d] = counter as [bigint, bigint, bigint, bigint];
  let [left, right] = key as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const first = 0xd2511f53n * a;
    const second = 0xcd9e8d57n * c;
    [a, b, c, d] = [(second / WORD) ^ b ^ left, second % WORD, (first / WORD) ^ d ^ right, first % WORD];
    left = (left + 0x9e3779b9n) % WORD;
    right = (right + 0xbb67ae85n) % WORD;
  }
  return [a, b, c, d];
}

function uniform(seed: number, position: number): number {
  const key = [BigInt(seed) % WORD, BigInt(seed) / WORD];
  const [a, b] = philox([BigInt(position), 0n, 0n, 0n], key);
  return Number((a! * WORD + b!) >> 11n) / 2 ** 53;
}

interface Drawn {
  readonly token: number;
  readonly logprob: number;
  readonly top: [number, number][];
}

const NOTHING: Drawn = { token: -1, logprob: NaN, top: [] };

/** A device whose rows are sampled from given logits. */
class Sampled {
  readonly device: Device;
  readonly vocabulary: number;
  readonly #logits: Rows;
  readonly #rows: number;

  constructor(vocabulary: number, { rows = 4, isa = 'auto', threads = 1 } = {}) {
    this.vocabulary = vocabulary;
    this.#rows = rows;
    const context = 4096;
    const config = { vocabulary, context };
    this.device = new Device({ config, isa, threads, rows, context, slots: rows * context, stepTokens: rows });
    this.#logits = this.device.rows(rows, vocabulary);
  }

  start(starts: readonly RowStart[], rowMoves: readonly (readonly number[])[] = []): void {
    this.device.begin(makePlan({ starts, rowMoves }));
  }

  /** One token for each of the rows, drawn at its position from its logits. */
  draw(rows: readonly { readonly row: number; readonly position: number; readonly logits: Float32Array }[]): Drawn[] {
    const runs = rows.map(({ row, position }) => [row, row * 4096, 0, position - 1, 1]);
    this.device.begin(makePlan({ runs, tokens: runs.map(() => 0) }));
    const logits = { ...this.#logits, count: rows.length };
    const values = new Float32Array(rows.length * this.vocabulary);
    rows.forEach((one, i) => values.set(one.logits, i * this.vocabulary));
    this.device.write(logits, values);
    const result = makeResult(this.#rows);
    this.device.sample(result, logits);
    return rows.map(({ row }) => ({
      token: result.sampled[row]!,
      logprob: result.logprobs[row]!,
      top: Array.from({ length: TOP_LOGPROBS }, (_, i) => {
        const place = row * TOP_LOGPROBS + i;
        return [result.topTokens[place]!, result.topLogprobs[place]!];
      }),
    }));
  }
}

function startOf(row: number, changes: Partial<Sampling>, tokens = [0], promptLength = tokens.length): RowStart {
  return { row, sampling: { ...GREEDY, ...changes }, tokens, promptLength };
}

interface Ranked {
  readonly token: number;
  readonly logit: number;
}

function byLogit(a: Ranked, b: Ranked): number {
  return b.logit - a.logit || a.token - b.token;
}

function rank(logits: ArrayLike<number>): Ranked[] {
  return Array.from(logits, (logit, token) => ({ token, logit })).sort(byLogit);
}

function logSum(logits: ArrayLike<number>): number {
  const largest = Array.from(logits).reduce((a, b) => Math.max(a, b));
  return largest + Math.log(Array.from(logits).reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
}

/** The sampler's definition. `tokens`: prompt, then output so far. */
function naive(raw: Float32Array, sampling: Sampling, tokens: readonly number[], promptLength = tokens.length): Drawn {
  const f = Math.fround;
  const position = tokens.length;
  const logits = Float32Array.from(raw);
  for (const token of new Set(tokens)) {
    const penalty = f(sampling.repetitionPenalty);
    const logit = logits[token]!;
    logits[token] = logit > 0 ? logit / penalty : logit * penalty;
    const times = tokens.slice(promptLength).filter((one) => one === token).length;
    if (times > 0) logits[token]! -= f(f(sampling.presencePenalty) + f(f(sampling.frequencyPenalty) * times));
  }
  sampling.biasTokens.forEach((token, i) => (logits[token]! += sampling.biasValues[i]!));
  if (position - promptLength < sampling.minTokens) for (const token of sampling.stopTokens) logits[token] = -Infinity;

  let left = rank(logits).filter(({ logit }) => logit > -Infinity);
  if (left.length === 0) return NOTHING;
  let token = left[0]!.token;
  if (sampling.temperature > 0) {
    const weightOf = ({ logit }: Ranked) => Math.exp((logit - left[0]!.logit) / f(sampling.temperature));
    left = left.filter((one) => weightOf(one) >= sampling.minP);
    if (sampling.topK > 0) left = left.slice(0, sampling.topK);
    const share = f(sampling.topP) * left.reduce((sum, one) => sum + weightOf(one), 0);
    let sum = 0;
    if (sampling.topP < 1) left = left.filter((one) => sum < share && ((sum += weightOf(one)), true));
    const target = uniform(sampling.seed, position) * left.reduce((total, one) => total + weightOf(one), 0);
    let running = 0;
    token = left.find((one) => (running += weightOf(one)) > target)!.token;
  }
  const total = logSum(raw);
  const top = rank(raw).slice(0, sampling.logprobs);
  return { token, logprob: raw[token]! - total, top: top.map((one) => [one.token, one.logit - total]) };
}

function assertSame(drawn: Drawn, expected: Drawn, what: string): void {
  assert.is(drawn.token, expected.token, what);
  if (expected.token === -1) return assert.ok(Number.isNaN(drawn.logprob), what);
  const near = (a: number, b: number) => Math.abs(a - b) <= 2e-6 * Math.max(1, Math.abs(b));
  assert.ok(near(drawn.logprob, expected.logprob), `${what}: ${drawn.logprob}, not ${expected.logprob}`);
  expected.top.forEach(([token, logprob], i) => {
    assert.is(drawn.top[i]![0], token, `${what}: top ${i}`);
    assert.ok(near(drawn.top[i]![1], logprob), `${what}: top ${i}`);
  });
}

sample('knows the answers that come with Philox', () => {
  const hex = (words: readonly bigint[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
  const ones = WORD - 1n;
  assert.is(hex(philox([0n, 0n, 0n, 0n], [0n, 0n])), '6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  assert.is(hex(philox([ones, ones, ones, ones], [ones, ones])), '408f276d 41c83b0e a20bc7c6 6d5451fd');
  const pi = [0x243f6a88n, 0x85a308d3n, 0x13198a2en, 0x03707344n];
  assert.is(hex(philox(pi, [0xa4093822n, 0x299f31d0n])), 'd16cfe09 94fdcceb 5001e420 24126ea1');
});

for (const isa of ISAS) {
  sample(`draws what the definition draws, for every option, on ${isa}`, () => {
    const random = new Random(7);
    for (const vocabulary of [1, 2, 15, 64, 65, 1000, 9000]) {
      const it = new Sampled(vocabulary, { isa });
      const rounds = vocabulary > 1000 ? 20 : 60;
      for (let round = 0; round < rounds; round++) {
        const any = (size: number) => Int32Array.from({ length: size }, () => random.integer(0, vocabulary - 1));
        const pick = <T>(...values: readonly T[]) => values[random.integer(0, values.length - 1)]!;
        const biasTokens = pick(any(0), any(3), any(9));
        const sampling: Sampling = {
          temperature: pick(0, 0.3, 0.8, 1, 1.7, 30),
          topK: pick(0, 0, 1, 5, 40, vocabulary, vocabulary + 5),
          topP: pick(1, 1, 0.05, 0.5, 0.9, 0.999),
          minP: pick(0, 0, 0.001, 0.2, 1),
          repetitionPenalty: pick(1, 1, 1.3, 0.5),
          presencePenalty: pick(0, 0, 0.7, -1),
          frequencyPenalty: pick(0, 0, 0.25, -0.5),
          seed: pick(0, round, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER),
          logprobs: pick(0, 1, 5, 20),
          minTokens: pick(0, 3, 10),
          stopTokens: any(4),
          biasTokens,
          biasValues: Float32Array.from(biasTokens, () => pick(-Infinity, 2, -3.5)),
        };
        const tokens = [...any(random.integer(1, 30))];
        const promptLength = random.integer(1, tokens.length);
        // A bias of −infinity on all there is leaves nothing to draw: that too must agree.
        const logits = random.normals(vocabulary, pick(0.1, 1, 5));
        if (round % 5 === 0) logits.fill(-Infinity, 0, vocabulary >> 1);
        if (round % 7 === 0) logits.forEach((logit, i) => (logits[i] = Math.round(logit))); // ties
        it.start([startOf(2, sampling, tokens, promptLength)]);
        for (let step = 0; step < 3; step++) {
          const what = `vocabulary ${vocabulary} round ${round} step ${step} ${JSON.stringify(sampling)}`;
          const [drawn] = it.draw([{ row: 2, position: tokens.length, logits }]);
          const expected = naive(logits, sampling, tokens, promptLength);
          assertSame(drawn!, { ...expected, top: expected.top.filter(([, logprob]) => logprob > -Infinity) }, what);
          if (drawn!.token === -1) break;
          tokens.push(drawn!.token);
        }
      }
      it.device.close();
    }
  });

  sample(`gives a token as often as it is likely on ${isa}`, () => {
    const vocabulary = 40;
    const it = new Sampled(vocabulary, { isa, rows: 8, threads: 2 });
    const logits = new Random(5).normals(vocabulary);
    const cases: readonly Partial<Sampling>[] = [{}, { topK: 7 }, { topP: 0.6 }, { minP: 0.02 }, { temperature: 2 }];
    for (const options of cases) {
      const sampling = { ...GREEDY, temperature: 1, ...options };
      it.start(Array.from({ length: 8 }, (_, row) => startOf(row, { ...sampling, seed: 1000 + row })));
      const counts = new Array<number>(vocabulary).fill(0);
      const draws = 8 * 500;
      for (let position = 1; position <= draws / 8; position++) {
        const rows = Array.from({ length: 8 }, (_, row) => ({ row, position, logits }));
        for (const { token } of it.draw(rows)) counts[token]!++;
      }
      const ranked = rank(logits);
      const weights = ranked.map(({ logit }) => Math.exp((logit - ranked[0]!.logit) / sampling.temperature));
      const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
      let kept = options.topK ?? vocabulary;
      if (options.minP) kept = weights.filter((weight) => weight >= sampling.minP).length;
      const share = sampling.topP * sum(weights);
      if (options.topP) kept = weights.findIndex((_, i) => sum(weights.slice(0, i + 1)) >= share) + 1;
      assert.ok(kept > 3, `${JSON.stringify(options)}: ${kept} tokens are too few to count`);
      const total = sum(weights.slice(0, kept));
      let chi = 0;
      ranked.forEach(({ token }, i) => {
        if (i >= kept) return assert.is(counts[token], 0, `${JSON.stringify(options)}: token ${i} of the ranks`);
        const expected = (draws * weights[i]!) / total;
        chi += (counts[token]! - expected) ** 2 / expected;
      });
      // Mean kept − 1, variance 2 (kept − 1): beyond four standard deviations once in many thousand seeds.
      assert.ok(chi < kept - 1 + 4 * Math.sqrt(2 * (kept - 1)), `${JSON.stringify(options)}: chi² ${chi} of ${kept}`);
    }
    it.device.close();
  });

  sample(`refuses logits without a finite maximum, and remembers nothing of them, on ${isa}`, () => {
    const vocabulary = 300;
    const it = new Sampled(vocabulary, { isa });
    const good = new Random(3).normals(vocabulary);
    const spoilt = [0, 17, 64, 255, 299].map((place) => Float32Array.from(good, (x, i) => (i === place ? NaN : x)));
    const infinite = Float32Array.from(good, (x, i) => (i === 77 ? Infinity : x));
    const full = (value: number) => new Float32Array(vocabulary).fill(value);
    const bad = [...spoilt, infinite, full(-Infinity), full(NaN)];
    for (const temperature of [0, 1]) {
      const sampling = { ...GREEDY, temperature, presencePenalty: 50, seed: 9, logprobs: 3 };
      it.start([startOf(0, sampling), startOf(1, sampling)]);
      bad.forEach((logits, i) => {
        const [drawn] = it.draw([{ row: 0, position: 1, logits }]);
        assertSame(drawn!, NOTHING, `bad logits ${i}`);
      });
      const [a, b] = it.draw([0, 1].map((row) => ({ row, position: 1, logits: good })));
      assert.equal(a, b);
      const [first] = it.draw([{ row: 0, position: 2, logits: good }]);
      assert.is.not(first!.token, a!.token, 'the token drawn is what the penalty knows of');
    }
    it.device.close();
  });

  sample(`takes the lowest of equal tokens, zeros of either sign among them, on ${isa}`, () => {
    const it = new Sampled(200, { isa });
    const logits = new Float32Array(200).fill(-1);
    for (const token of [190, 70, 131]) logits[token] = token === 70 ? -0 : 0;
    it.start([startOf(0, {}), startOf(1, { temperature: 1, topK: 1 }), startOf(2, { logprobs: 4 })]);
    const drawn = it.draw([0, 1, 2].map((row) => ({ row, position: 1, logits })));
    assert.equal(drawn.map(({ token }) => token), [70, 70, 70]);
    assert.equal(drawn[2]!.top.slice(0, 4).map(([token]) => token), [70, 131, 190, 0]);
    it.device.close();
  });

  sample(`draws far down a flat distribution over a large vocabulary on ${isa}`, () => {
    const vocabulary = 151936;
    const it = new Sampled(vocabulary, { isa, rows: 1 });
    const logits = new Random(31).normals(vocabulary, 0.01);
    for (const options of [{}, { topP: 0.7 }, { topK: 90000 }, { topK: 90000, topP: 0.9 }, { minP: 0.98 }]) {
      const sampling = { ...GREEDY, temperature: 1, seed: 12, ...options };
      it.start([startOf(0, sampling)]);
      const [drawn] = it.draw([{ row: 0, position: 1, logits }]);
      assertSame(drawn!, naive(logits, sampling, [0]), JSON.stringify(options));
    }
    it.device.close();
  });
}

sample('has the same tokens and log-probabilities on all but scalar, and with any number of threads', () => {
  const logits = Array.from({ length: 4 }, (_, row) => new Random(row).normals(5000, 2));
  const ways = ISAS.filter((isa) => isa !== 'scalar').flatMap((isa) => [1, 3].map((threads) => ({ isa, threads })));
  if (ways.length === 0) return console.log('SKIP same tokens on all but scalar: needs one of them');
  const answers = ways.map((way) => {
    const it = new Sampled(5000, way);
    it.start(logits.map((_, row) => startOf(row, { temperature: 1, topP: 0.95, seed: row, logprobs: 20 })));
    const all = Array.from({ length: 20 }, (_, i) => {
      return it.draw(logits.map((one, row) => ({ row, position: i + 1, logits: one })));
    });
    it.device.close();
    return JSON.stringify(all);
  });
  for (const answer of answers) assert.is(answer, answers[0]);
});

sample('draws by seed and position, whatever row it is and whoever is beside it', () => {
  const it = new Sampled(500, { rows: 6 });
  const logits = new Random(2).normals(500);
  const sampling = { temperature: 1, seed: 99 };
  it.start([0, 1, 2, 5].map((row) => startOf(row, row === 1 ? { temperature: 1, seed: 98 } : sampling)));
  const at = (row: number, position: number) => ({ row, position, logits });
  const [alone] = it.draw([at(0, 40)]);
  const [a, b, c, d] = it.draw([at(5, 40), at(1, 40), at(2, 40), at(0, 41)]);
  assert.equal([a!.token, c!.token], [alone!.token, alone!.token]);
  assert.is.not(b!.token, alone!.token);
  assert.is.not(d!.token, alone!.token);
  it.device.close();
});

sample('carries what it knows of a request from row to row', () => {
  const it = new Sampled(50, { rows: 4 });
  const logits = new Random(4).normals(50);
  const sampling = { presencePenalty: 100 };
  const rows = (row: number, from: number, count: number) =>
    Array.from({ length: count }, (_, i) => it.draw([{ row, position: from + i, logits }])[0]!.token);
  it.start([startOf(0, sampling), startOf(3, sampling)]);
  const stayed = rows(3, 1, 6);
  const first = rows(0, 1, 3);
  it.start([], [[0, 2]]);
  assert.equal([...first, ...rows(2, 4, 3)], stayed);
  assert.is(new Set(stayed).size, 6, 'no token twice');
  it.start([startOf(2, sampling)]);
  assert.equal(rows(2, 1, 2), stayed.slice(0, 2), 'a row that starts anew knows nothing of the last request');
  it.start([startOf(1, sampling, [0, ...stayed.slice(0, 4)], 1)]);
  assert.equal(rows(1, 5, 2), stayed.slice(4), 'a request that comes back knows what it had written');
  it.device.close();
});

sample('bans stop tokens until enough have been generated', () => {
  const it = new Sampled(20);
  const logits = Float32Array.from({ length: 20 }, (_, i) => (i === 7 ? 9 : i === 3 ? 8 : 0));
  it.start([startOf(0, { minTokens: 2, stopTokens: Int32Array.of(7) }, [1, 2, 3])]);
  const drawn = [3, 4, 5].map((position) => it.draw([{ row: 0, position, logits }])[0]!);
  assert.equal(drawn.map(({ token }) => token), [3, 3, 7]);
  assert.ok(Math.abs(drawn[0]!.logprob - (8 - logSum(logits))) < 1e-5, 'log-probabilities are those before the ban');
  it.start([startOf(0, { minTokens: 9, stopTokens: Int32Array.from({ length: 20 }, (_, i) => i) })]);
  assert.is(it.draw([{ row: 0, position: 1, logits }])[0]!.token, -1);
  it.device.close();
});

sample.run();
