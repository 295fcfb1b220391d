import type { Span } from '../../../src/loop/arena.ts';
import { Loop, type LoopOptions } from '../../../src/loop/loop.ts';
import { Request, type RequestOptions } from '../../../src/loop/request.ts';
import { GREEDY, type StepPlan, type StepResult } from '../../../src/native.ts';
import { FakeEngine } from '../../fake/engine.ts';

export interface Wanted {
  readonly prompt: number | readonly number[]; // a number: so many tokens, made from the id
  readonly maxTokens: number;
  readonly seed?: number;
  readonly priority?: number;
  readonly minTokens?: number;
  readonly stop?: readonly number[];
  readonly logprobs?: number;
  readonly salt?: string;
}

export function options(id: number, wanted: Wanted): RequestOptions {
  const { prompt, maxTokens, seed = id, priority = 0, minTokens = 0, stop = [], logprobs = 0, salt = '' } = wanted;
  return {
    prompt: typeof prompt === 'number' ? Array.from({ length: prompt }, (_, i) => (id * 31 + i * 7) % 97) : prompt,
    maxTokens,
    stopTokens: new Set(stop),
    minTokens,
    sampling: { ...GREEDY, seed, minTokens, stopTokens: Int32Array.from(stop), logprobs },
    priority,
    cacheSalt: salt,
  };
}

export function request(id: number, wanted: Wanted): Request {
  return new Request(id, options(id, wanted));
}

/** A request's tokens by definition: a device of its own, its whole prompt in one run, then a token at a time. */
export async function solo(wanted: RequestOptions): Promise<number[]> {
  const { prompt, maxTokens, minTokens, stopTokens, sampling } = wanted;
  const tokens = Array.from(prompt);
  const native = new FakeEngine(Math.ceil((tokens.length + maxTokens) / 64) * 64);
  const arrays = { moves: new Int32Array(0), moveCount: 0, rowMoves: new Int32Array(0), rowMoveCount: 0 };
  const result: StepResult = {
    sampled: new Int32Array(1),
    logprobs: new Float32Array(1),
    topTokens: new Int32Array(20),
    topLogprobs: new Float32Array(20),
  };
  for (let computed = 0; ; ) {
    const count = tokens.length - computed;
    const plan: StepPlan = {
      ...arrays,
      starts: computed === 0 ? [{ row: 0, sampling, tokens, promptLength: prompt.length }] : [],
      runs: Int32Array.of(0, 0, 0, computed, count),
      runCount: 1,
      tokens: Int32Array.from(tokens.slice(computed)),
      tokenCount: count,
    };
    await native.step(plan, result);
    computed += count;
    tokens.push(result.sampled[0]!);
    const generated = tokens.length - prompt.length;
    if (generated === maxTokens || (generated > minTokens && stopTokens.has(tokens.at(-1)!))) return tokens;
  }
}

export interface Made {
  readonly native: FakeEngine;
  readonly loop: Loop;
  /** Ids and reasons, in the order in which they finished. */
  readonly finished: [number, string][];
  /** What was reported, by id. */
  readonly reported: Map<number, number[]>;
  /** Milliseconds; every step takes one. */
  readonly clock: { ms: number };
}

export function make(given: Partial<LoopOptions> & { slots?: number } = {}): Made {
  const native = new FakeEngine(given.slots ?? 4096);
  const finished: [number, string][] = [];
  const reported = new Map<number, number[]>();
  const clock = { ms: 0 };
  native.during = () => void clock.ms++;
  const loop = new Loop(native, {
    rows: 4,
    context: 4096,
    stepTokens: 256,
    policy: 'relay',
    admission: 'optimistic',
    queueRequests: 10_000,
    queueTokens: 10_000_000,
    check: true,
    now: () => clock.ms,
    onToken: ({ id }, { token }) => void (reported.get(id) ?? reported.set(id, []).get(id)!).push(token),
    onFinish: ({ id }, reason) => void finished.push([id, reason]),
    ...given,
  });
  native.wanted = () => {
    const ranges: [number, number][] = [];
    const want = ({ offset, owner }: Pick<Span, 'offset' | 'owner'>) => ranges.push([offset, offset + owner.computed]) > 0;
    loop.arena.check(want, want);
    return ranges;
  };
  return { native, loop, finished, reported, clock };
}

export async function drain(loop: Loop): Promise<void> {
  for (let tick = 0; !loop.idle; tick++) {
    if (tick > 100_000) throw new Error('the loop does not come to an end');
    await loop.tick();
  }
}
