import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { Loop, type LoopOptions, POLICY_NAMES } from '../../src/loop/loop.ts';
import { Request } from '../../src/loop/request.ts';
import { type StepLoad, StepTime } from '../../src/loop/step-time.ts';
import { workload, WORKLOAD_NAMES } from '../../src/loop/workloads.ts';
import { GREEDY } from '../../src/native.ts';
import { writePrompt } from '../../src/simulator/prompts.ts';
import { simulate, type SimulationOptions } from '../../src/simulator/simulation.ts';
import type { StepModel } from '../../src/simulator/step-model.ts';
import type { TraceRequest } from '../../src/simulator/traces.ts';
import { FakeEngine } from '../fake/engine.ts';
import { drain } from '../loop/fake/requests.ts';
import { constant, model } from './fake/model.ts';

const simulation = suite('Simulation');

const LOOP: SimulationOptions['loop'] = {
  rows: 4,
  context: 1024,
  stepTokens: 1024,
  policy: 'relay',
  admission: 'optimistic',
  queueRequests: 10_000,
  queueTokens: 10_000_000,
  check: true,
};

interface Given extends Partial<Omit<SimulationOptions, 'loop'>> {
  readonly loop?: Partial<SimulationOptions['loop']>;
}

function options({ loop, ...given }: Given = {}): SimulationOptions {
  return { model: model(), slots: 4096, ...given, loop: { ...LOOP, ...loop } };
}

/** Prompt, output and arrival of each. */
function requests(...lengths: readonly (readonly [number, number, number?])[]): TraceRequest[] {
  return lengths.map(([promptTokens, outputTokens, arrivalMs = 0]) => ({ promptTokens, outputTokens, arrivalMs }));
}

/** The loads of one request alone: its whole prompt with its first token, then a token at a time. */
function* alone(prompt: number, output: number): Generator<StepLoad> {
  const row = { decodeRows: 1, sampledRows: 1, movedSlots: 0 };
  yield { ...row, contextTokens: prompt, chunkTokens: prompt - 1, chunkContext: ((prompt - 1) * prompt) / 2 };
  for (let length = prompt + 1; length < prompt + output; length++) {
    yield { ...row, contextTokens: length, chunkTokens: 0, chunkContext: 0 };
  }
}

const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
const timesOf = ({ steps }: StepModel, loads: Iterable<StepLoad>) => [...loads].map((load) => steps.predict(load));
const near = (a: number, b: number, what: string) =>
  assert.ok(Math.abs(a - b) <= 1e-9 * Math.abs(b), `${what}: ${a}, expected ${b}`);

simulation('one request takes the sum of its predicted steps', async () => {
  const times = timesOf(model(), alone(70, 9));
  const {
    seconds,
    requests: ended,
    tokens,
    steps,
    ttftMs,
    e2eMs,
    itlMs,
  } = await simulate(requests([70, 9]), options());
  assert.equal([ended, steps, tokens], [1, 9, { prompt: 70, cached: 0, generated: 9 }]);
  near(seconds * 1000, sumOf(times), 'all');
  near(ttftMs.mean, times[0]!, 'first token');
  near(e2eMs.max, sumOf(times), 'last token');
  near(itlMs.mean, sumOf(times.slice(1)) / 8, 'gaps');
  near(itlMs.max, Math.max(...times.slice(1)), 'longest gap');
});

simulation('the host takes its time between steps, for the tick and for every token', async () => {
  const host = model({ tickMs: 0.5, tokenMs: 0.25 });
  const times = timesOf(host, alone(70, 9));
  const { seconds, busyShare } = await simulate(requests([70, 9]), options({ model: host }));
  near(seconds * 1000, sumOf(times) + 8 * 0.75, 'all'); // after the last step there is nobody to wait for it
  near(busyShare, sumOf(times) / (sumOf(times) + 8 * 0.75), 'busy');
});

simulation('overlap hides the time of the host behind steps, but for what exceeds them', async () => {
  const overlap = { loop: { overlap: true } };
  const hidden = await simulate(requests([70, 9]), options({ ...overlap, model: constant({ tickMs: 0.75 }) }));
  const longer = await simulate(requests([70, 9]), options({ ...overlap, model: constant({ tickMs: 1.5 }) }));
  assert.is(hidden.seconds * 1000, 9);
  // Steps are asked for at 0, 0, 2.5, 4, … 11.5: each once the host is done. It sees the ninth when it is done again.
  assert.is(longer.seconds * 1000, 13);
});

simulation('requests end by their own length, which no policy knows', async () => {
  const wanted = requests([10, 7], [10, 1], [10, 30], [10, 12]);
  for (const policy of POLICY_NAMES) {
    for (const overlap of [false, true]) {
      const outcome = await simulate(wanted, options({ maxTokens: 500, loop: { policy, overlap } }));
      assert.equal([outcome.requests, outcome.tokens.generated], [4, 50], `${policy}, overlap ${overlap}`);
    }
  }
});

simulation('requests end where they asked to, if that comes first', async () => {
  const { tokens } = await simulate(requests([10, 7], [10, 300]), options({ maxTokens: 20 }));
  assert.is(tokens.generated, 27);
});

simulation('requests that are preempted all the time keep their length', async () => {
  const wanted = workload('heavy-tail', { requests: 40, seed: 5, context: 256 });
  const outcome = await simulate(
    wanted,
    options({ maxTokens: 256, slots: 512, loop: { context: 256, preemptEvery: 7 } }),
  );
  assert.ok(outcome.preemptions > 20, `${outcome.preemptions} preemptions`);
  assert.equal([outcome.requests, outcome.tokens.generated], [40, sumOf(wanted.map((one) => one.outputTokens))]);
});

/** The same requests by the same loop on the fake engine, whose steps take the time that the model predicts. */
async function onFakeEngine(wanted: readonly TraceRequest[], { slots, loop: loopOptions }: SimulationOptions) {
  const native = new FakeEngine(slots);
  const { steps } = model();
  let ms = 0;
  native.during = (step) => {
    const { runs, moves } = native.plans[step]!;
    const load = { decodeRows: 0, contextTokens: 0, chunkTokens: 0, chunkContext: 0, sampledRows: 0, movedSlots: 0 };
    for (const [row, position, tokens] of runs as [number, number, number][]) {
      const rest = row < 0 ? tokens : tokens - 1;
      load.chunkTokens += rest;
      for (let i = 1; i <= rest; i++) load.chunkContext += position + i;
      if (row < 0) continue;
      load.decodeRows++;
      load.sampledRows++;
      load.contextTokens += position + tokens;
    }
    for (const [, , moved] of moves as [number, number, number][]) load.movedSlots += moved;
    ms += steps.predict(load);
  };
  const loop = new Loop(native, {
    ...loopOptions,
    now: () => ms,
    onToken: () => {},
    onFinish: () => {},
  } satisfies LoopOptions);
  wanted.forEach((one, id) => {
    const prompt = new Int32Array(one.promptTokens);
    writePrompt(prompt, id, one);
    const { outputTokens: maxTokens } = one;
    loop.add(new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY }));
  });
  await drain(loop);
  return { stats: loop.stats(), ms };
}

for (const policy of POLICY_NAMES) {
  simulation(`${policy}: steps, tokens, idle shares and moves are those of the loop on the fake engine`, async () => {
    for (const [seed, name] of WORKLOAD_NAMES.entries()) {
      const wanted = workload(name, { requests: 30, seed, context: 200 });
      const given = options({ slots: 640, loop: { policy, context: 200 } });
      const { stats, ms } = await onFakeEngine(wanted, given);
      const outcome = await simulate(wanted, given);
      const { rowMs, wastedMs } = stats.idle;
      const { pad, dead, empty, stall } = wastedMs;
      assert.equal(outcome.tokens, stats.tokens, name);
      assert.equal(
        [outcome.steps, outcome.preemptions, outcome.movedSlots, outcome.peakSlots],
        [stats.steps, stats.preemptions, stats.movedSlots, stats.arena.peak],
        name,
      );
      const { idle } = outcome;
      assert.equal(
        [idle.pad, idle.dead, idle.empty, idle.stall, idle.padKv],
        [pad / rowMs, dead / rowMs, empty / rowMs, stall / rowMs, stats.idle.padKv],
        name,
      );
      assert.is(outcome.seconds, ms / 1000, name);
    }
  });
}

simulation('the same requests and options give the same outcome, another seed another', async () => {
  const wanted = (seed: number) => workload('burst', { requests: 300, seed, context: 256, rate: 40 });
  const given = (): SimulationOptions =>
    options({ replicas: 3, router: 'least-queued', maxTokens: 200, loop: { context: 256, overlap: true } });
  const one = await simulate(wanted(1), given());
  assert.equal(await simulate(wanted(1), given()), one);
  assert.not.equal(await simulate(wanted(2), given()), one);
});

simulation('a request that arrives during a step waits for its end', async () => {
  const given = options({ model: constant({ tickMs: 0.25 }) });
  const { ttftMs, seconds } = await simulate(requests([10, 3], [10, 1, 0.5]), given);
  // The first: steps from 0 to 1, 1.25 to 2.25, 2.5 to 3.5. The second arrives in the first, and is in the second.
  assert.equal([ttftMs.max, ttftMs.mean, seconds * 1000], [1.75, (1 + 1.75) / 2, 3.5]);
});

simulation('an idle replica begins when a request arrives', async () => {
  const { seconds, busyShare, ttftMs } = await simulate(
    requests([10, 2], [10, 2, 100]),
    options({ model: constant() }),
  );
  assert.equal([seconds * 1000, busyShare, ttftMs.max], [102, 4 / 102, 1]);
});

simulation('a client sends its next request when its last has ended', async () => {
  const given = options({ model: constant(), clients: 1 });
  const { seconds, ttftMs, requests: ended } = await simulate(requests([10, 3], [10, 3], [10, 3]), given);
  // It is taken one step after the last token: the loop tells of an end in its next tick, which begins no step.
  assert.equal([ended, seconds * 1000, ttftMs.max], [3, 9, 1]);
});

simulation('no more requests are underway than there are clients', async () => {
  const { peakSlots } = await simulate(
    workload('uniform', { requests: 100, seed: 1, context: 64 }),
    options({ clients: 3, loop: { context: 64 } }),
  );
  assert.is(peakSlots, 3 * 64);
});

simulation('replicas share nothing: each does what it would do alone', async () => {
  const wanted = workload('chat', { requests: 60, seed: 3, context: 256, rate: 30 });
  const given = options({ replicas: 2, router: 'round-robin', loop: { context: 256 } });
  const { replicas, requests: ended } = await simulate(wanted, given);
  assert.is(ended, 60);
  for (const [i, replica] of replicas.entries()) {
    const own = wanted.filter((_, index) => index % 2 === i);
    const first = own[0]!.arrivalMs;
    const { replicas: _, ...solo } = await simulate(own, { ...given, replicas: 1 });
    assert.equal(
      [replica.tokens, replica.steps, replica.ttftMs],
      [solo.tokens, solo.steps, solo.ttftMs],
      `from ${first} ms`,
    );
    assert.equal([replica.idle, replica.e2eMs], [solo.idle, solo.e2eMs]);
  }
});

simulation('the whole is the sum of its replicas', async () => {
  const wanted = workload('heavy-tail', { requests: 200, seed: 9, context: 256, rate: 60 });
  const all = await simulate(wanted, options({ replicas: 3, router: 'least-queued', loop: { context: 256 } }));
  const { replicas } = all;
  for (const count of ['requests', 'steps', 'preemptions', 'movedSlots'] as const) {
    assert.is(all[count], sumOf(replicas.map((one) => one[count])), count);
  }
  near(all.outputTokensPerSecond, sumOf(replicas.map((one) => one.outputTokensPerSecond)), 'tokens');
  near(all.busyShare, sumOf(replicas.map((one) => one.busyShare)) / 3, 'busy');
  assert.is(all.peakSlots, Math.max(...replicas.map((one) => one.peakSlots)));
  assert.is(all.ttftMs.max, Math.max(...replicas.map((one) => one.ttftMs.max)));
});

simulation('goodput counts requests that met both targets', async () => {
  // A step per millisecond: the first tokens come at 1, and at 1 after the row is free at 5; request 2 stands still for
  // none of its tokens.
  const wanted = requests([10, 5], [10, 5]);
  const one = (targets: SimulationOptions['targets']) =>
    simulate(wanted, options({ model: constant(), loop: { rows: 1 }, ...(targets && { targets }) }));
  const shares = [];
  for (const [ttftMs, itlMs] of [
    [6, 1],
    [5.5, 1],
    [6, 0.5],
    [0.5, 1],
  ] as const) {
    shares.push((await one({ ttftMs, itlMs })).goodput.share);
  }
  assert.equal(shares, [1, 0.5, 0, 0]);
  assert.equal((await one(undefined)).goodput, { requestsPerSecond: 200, share: 1 });
});

simulation('requests that find no room, or can never find any, are turned away and counted', async () => {
  const wanted = requests([10, 5], [10, 5], [10, 5], [1024, 1], [4000, 1]);
  const { refused, requests: ended } = await simulate(wanted, options({ loop: { rows: 1, queueRequests: 2 } }));
  assert.equal([refused, ended], [{ full: 1, tooLong: 2 }, 2]);
});

simulation('a client that is turned away goes on', async () => {
  const wanted = requests([10, 5], [4000, 1], [10, 5]);
  const { refused, requests: ended } = await simulate(wanted, options({ clients: 1 }));
  assert.equal([refused.tooLong, ended], [1, 2]);
});

simulation('no requests at all are no time', async () => {
  const {
    seconds,
    requests: ended,
    requestsPerSecond,
    ttftMs,
    busyShare,
  } = await simulate([], options({ replicas: 2 }));
  assert.equal([seconds, ended, requestsPerSecond, ttftMs.p99, busyShare], [0, 0, 0, 0, 0]);
});

async function codeOf(
  wanted: readonly TraceRequest[],
  given: SimulationOptions,
): Promise<[string | undefined, string]> {
  try {
    await simulate(wanted, given);
  } catch (error) {
    const { code, message } = error as EngineError;
    return [code, message];
  }
  return [undefined, ''];
}

simulation('refuses options that make no sense', async () => {
  const refused: Given[] = [
    { replicas: 0 },
    { replicas: 1.5 },
    { clients: 0 },
    { maxTokens: 0 },
    { router: 'nearest' as 'round-robin' },
    { router: 'toString' as 'round-robin' },
    { loop: { rows: 0 } },
    { loop: { policy: 'best' as 'relay' } },
  ];
  for (const given of refused) {
    assert.is((await codeOf(requests([1, 1]), options(given)))[0], 'INVALID_OPTION', JSON.stringify(given));
  }
});

simulation('refuses requests out of order, and steps that take no time', async () => {
  const [code, message] = await codeOf(requests([1, 1, 5], [1, 1, 4]), options());
  assert.equal([code, /got 4 after 5 ms/.test(message)], ['INVALID_ARGUMENT', true]);
  const unlearnt = { ...constant(), steps: new StepTime() };
  assert.is((await codeOf(requests([1, 1]), options({ model: unlearnt })))[0], 'INVALID_ARGUMENT');
});

simulation.run();
