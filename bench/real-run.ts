// Requests through the loop on the CPU backend, as `fit` and `accuracy` need them: lengths as they are asked for, all
// there at once, every step recorded.
import { loadAddon } from '../src/addon.ts';
import { Loop, type PolicyName } from '../src/loop/loop.ts';
import { Request } from '../src/loop/request.ts';
import { generator } from '../src/loop/workloads.ts';
import { openModel } from '../src/model/load.ts';
import { GREEDY, type NativeEngine } from '../src/native.ts';
import { Journal, type Outcome, TokenTimes } from '../src/simulator/journal.ts';
import { recorded, type RecordedStep } from '../src/simulator/recording.ts';
import type { TraceRequest } from '../src/simulator/traces.ts';
import { findModel } from '../src/bench/models.ts';

export interface RealSizes {
  readonly rows: number;
  readonly context: number;
  readonly stepTokens: number;
  readonly threads: number;
  readonly weights: string;
}

export interface RealModel {
  readonly native: NativeEngine;
  readonly vocabulary: number;
  readonly sizes: RealSizes;
}

/** `tales`, or synthetic weights in a public shape, made once. */
export async function loadReal(name: string, sizes: RealSizes): Promise<RealModel> {
  const { folder } = await findModel(name);
  const { config, files, tensors } = await openModel(folder);
  const { rows, context, stepTokens, threads, weights } = sizes;
  const native = await loadAddon().load({
    ...{ config, files, tensors, rows, context, stepTokens, threads, weights },
    device: 'cpu',
    isa: 'auto',
    kv: 'bf16',
    slots: Math.ceil((rows * context) / 64) * 64,
    hostSlots: 0,
    graphs: true,
    cublasLt: '',
    checkLaunches: false,
  });
  return { native, vocabulary: config.vocabulary, sizes };
}

/** Milliseconds that pass only while it runs. */
class StopWatch {
  #passed = 0;
  #since: number | undefined;

  readonly now = () => this.#passed + (this.#since === undefined ? 0 : performance.now() - this.#since);

  run(): void {
    this.#since = performance.now();
  }

  stop(): void {
    this.#passed = this.now();
    this.#since = undefined;
  }
}

/**
 * Requests that are all there at once, on a clock that stands still between turns: runs that take short turns meet the
 * same machine, whatever else it is doing.
 */
export class RealRun {
  readonly steps: RecordedStep[] = [];
  readonly #loop: Loop;
  readonly #watch = new StopWatch();
  readonly #times = new TokenTimes();
  readonly #journal = new Journal(this.#times, { ttftMs: Infinity, itlMs: Infinity });

  constructor({ native, vocabulary, sizes }: RealModel, policy: PolicyName, requests: readonly TraceRequest[]) {
    const { rows, context, stepTokens } = sizes;
    const { now } = this.#watch;
    this.#loop = new Loop(recorded(native, this.steps, now), {
      ...{ rows, context, stepTokens, policy, now },
      admission: 'optimistic',
      queueRequests: Math.max(1, requests.length),
      queueTokens: Math.max(1, requests.length * context),
      onToken: (request) => this.#journal.token(request),
      onFinish: (request, _reason, error) => {
        if (error !== undefined) throw error;
        this.#journal.finish(request);
      },
    });
    const uniform = generator(requests.length);
    requests.forEach(({ promptTokens, outputTokens: maxTokens }, id) => {
      const prompt = Array.from({ length: promptTokens }, () => Math.floor(uniform() * vocabulary));
      this.#times.add();
      this.#loop.add(new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: new Set(), sampling: GREEDY }));
    });
  }

  get ended(): boolean {
    return this.#loop.idle;
  }

  /** Goes on for so long, in whole ticks. */
  async turn(ms: number): Promise<void> {
    this.#watch.run();
    const until = this.#watch.now() + ms;
    while (!this.ended && this.#watch.now() < until) await this.#loop.tick();
    this.#watch.stop();
  }

  /** What a simulation of the same requests predicts. */
  outcome(): Outcome {
    const busyMs = this.steps.reduce((sum, { ms }) => sum + ms, 0);
    return this.#journal.outcome([this.#loop.stats()], this.#journal.endMs, busyMs);
  }
}
