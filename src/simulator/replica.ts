import { Loop, type LoopOptions } from '../loop/loop.ts';
import type { Request } from '../loop/request.ts';
import type { Journal } from './journal.ts';
import type { RoutedReplica } from './router.ts';
import { type Clock, type EngineSizes, SimulatedEngine } from './simulated-engine.ts';
import type { StepModel } from './step-model.ts';

export type ReplicaOptions = Omit<LoopOptions, 'now' | 'onToken' | 'onFinish' | 'onStep'>;

/** One machine: a loop as it runs in life, on a device that only takes time. */
export class Replica implements RoutedReplica {
  readonly loop: Loop;
  readonly journal: Journal;
  readonly native: SimulatedEngine;
  outstanding = 0;
  /** When its next tick begins, if it has something to do. */
  readyMs = 0;
  readonly #clock: Clock = { ms: 0 };
  readonly #model: StepModel;

  constructor(
    model: StepModel,
    sizes: EngineSizes,
    options: ReplicaOptions,
    journal: Journal,
    onFinish: (ms: number) => void,
  ) {
    this.#model = model;
    this.journal = journal;
    this.native = new SimulatedEngine(model, sizes, this.#clock);
    this.loop = new Loop(this.native, {
      ...options,
      now: () => this.#clock.ms,
      onToken: (request) => journal.token(request),
      onFinish: (request, _reason, error) => {
        if (error !== undefined) throw error;
        this.outstanding--;
        journal.finish(request);
        onFinish(this.#clock.ms);
      },
    });
  }

  get rows(): number {
    return this.loop.options.rows;
  }

  /** Takes a request that arrives at `ms`, in the middle of a step as well; it is seen when that has ended. Throws. */
  add(request: Request, ms: number): void {
    if (this.loop.idle) this.readyMs = Math.max(this.readyMs, ms);
    const { ms: now } = this.#clock;
    this.#clock.ms = ms;
    try {
      this.loop.add(request);
    } finally {
      this.#clock.ms = now;
    }
    this.outstanding++;
  }

  /** Takes as long as the host does for it, and as the loop waits for the device. */
  async tick(): Promise<void> {
    const { metrics } = this.loop;
    const { steps, generatedTokens } = metrics;
    this.#clock.ms = this.readyMs;
    await this.loop.tick();
    const { tickMs, tokenMs } = this.#model;
    const hostMs = (metrics.steps - steps) * tickMs + (metrics.generatedTokens - generatedTokens) * tokenMs;
    this.readyMs = this.#clock.ms + hostMs;
  }
}
