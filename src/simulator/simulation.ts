import { EngineError } from '../errors.ts';
import { Request } from '../loop/request.ts';
import { GREEDY } from '../native.ts';
import { type Arrivals, closedLoop, openLoop } from './arrivals.ts';
import { Journal, type Outcome, type Targets, TokenTimes } from './journal.ts';
import { writePrompt } from './prompts.ts';
import { Replica, type ReplicaOptions } from './replica.ts';
import { makeRouter, type Router, type RouterName } from './router.ts';
import { STOP } from './simulated-engine.ts';
import type { StepModel } from './step-model.ts';
import type { TraceRequest } from './traces.ts';

export interface SimulationOptions {
  readonly model: StepModel;
  /** Of each replica. */
  readonly loop: ReplicaOptions;
  /** Slots of each replica's arena, a multiple of 64. */
  readonly slots: number;
  /** Slots of its host memory, where requests are parked. */
  readonly hostSlots?: number;
  readonly replicas?: number;
  readonly router?: RouterName;
  /**
   * Each sends its next request when its last has ended, whenever that was to arrive. Without: requests arrive when
   * they say so, whatever became of others.
   */
  readonly clients?: number;
  /**
   * What requests ask for; by default exactly the tokens they will have. As in life, it may be more: a stop token ends
   * them, and no policy knows when.
   */
  readonly maxTokens?: number;
  readonly targets?: Targets;
}

export interface SimulationOutcome extends Outcome {
  readonly replicas: readonly Outcome[];
}

const STOP_TOKENS: ReadonlySet<number> = new Set([STOP]);
const SAMPLING = { ...GREEDY, stopTokens: Int32Array.of(STOP) };
const NO_TARGETS: Targets = { ttftMs: Infinity, itlMs: Infinity };

/**
 * Runs requests through the loops of one or more replicas, in virtual time: what they do in life, and when, if each
 * step takes as long as the model says. The same requests and options give the same outcome.
 *
 * Throws INVALID_OPTION, and INVALID_ARGUMENT for requests out of order.
 */
export async function simulate(
  requests: Iterable<TraceRequest>,
  options: SimulationOptions,
): Promise<SimulationOutcome> {
  const simulation = new Simulation(requests, options);
  await simulation.run();
  return simulation.outcome();
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #arrivals: Arrivals;
  readonly #router: Router;
  readonly #replicas: readonly Replica[];
  readonly #times = new TokenTimes();
  readonly #targets: Targets;
  readonly #prompt: Int32Array;
  #nextId = 0;

  constructor(requests: Iterable<TraceRequest>, options: SimulationOptions) {
    const { model, loop, slots, hostSlots = 0, replicas = 1, router = 'round-robin', clients } = options;
    const counts = { replicas, clients: clients ?? 1, maxTokens: options.maxTokens ?? 1 };
    for (const [name, value] of Object.entries(counts)) {
      if (Number.isInteger(value) && value >= 1) continue;
      throw new EngineError('INVALID_OPTION', `${name}: expected an integer from 1, got ${value}`);
    }
    this.#options = options;
    this.#arrivals = clients === undefined ? openLoop(requests) : closedLoop(requests, clients);
    this.#router = makeRouter(router);
    this.#targets = options.targets ?? NO_TARGETS;
    this.#prompt = new Int32Array(loop.context);
    const sizes = { rows: loop.rows, slots, hostSlots };
    const onFinish = (ms: number) => this.#arrivals.ended(ms);
    this.#replicas = Array.from({ length: replicas }, () => {
      return new Replica(model, sizes, loop, new Journal(this.#times, this.#targets), onFinish);
    });
  }

  /** What happens next is a request that arrives, or else the tick that begins first. */
  async run(): Promise<void> {
    for (;;) {
      const replica = this.#first();
      const { nextMs } = this.#arrivals;
      if (replica !== undefined && replica.readyMs < nextMs) await replica.tick();
      else if (nextMs < Infinity) this.#send(this.#arrivals.take(), nextMs);
      else return;
    }
  }

  outcome(): SimulationOutcome {
    const all = new Journal(this.#times, this.#targets);
    for (const { journal } of this.#replicas) all.merge(journal);
    const loops = this.#replicas.map(({ loop }) => loop.stats());
    const busyMs = this.#replicas.map(({ native }) => native.busyMs);
    const inAll = all.outcome(
      loops,
      all.endMs,
      busyMs.reduce((sum, ms) => sum + ms, 0),
    );
    const each = this.#replicas.map(({ journal }, i) => journal.outcome([loops[i]!], all.endMs, busyMs[i]!));
    return { ...inAll, replicas: each };
  }

  /** Of the replicas with something to do. */
  #first(): Replica | undefined {
    let first: Replica | undefined;
    for (const replica of this.#replicas) {
      if (replica.loop.idle) continue;
      if (first === undefined || replica.readyMs < first.readyMs) first = replica;
    }
    return first;
  }

  #send(wanted: TraceRequest, ms: number): void {
    const replica = this.#replicas[this.#router.route(wanted, this.#replicas)]!;
    const request = this.#make(wanted);
    try {
      if (request === undefined) throw new EngineError('TOO_LONG', `prompt: got ${wanted.promptTokens} tokens`);
      replica.add(request, ms);
    } catch (error) {
      const code = error instanceof EngineError ? error.code : undefined;
      if (code === 'QUEUE_FULL') replica.journal.full++;
      else if (code === 'TOO_LONG') replica.journal.tooLong++;
      else throw error;
      this.#arrivals.ended(ms);
    }
  }

  /** A prompt that leaves no room for an answer makes none. */
  #make(wanted: TraceRequest): Request | undefined {
    const { promptTokens, outputTokens } = wanted;
    const room = this.#options.loop.context - promptTokens;
    if (room < 1) return undefined;
    const id = this.#nextId++;
    this.#times.add();
    writePrompt(this.#prompt, id, wanted);
    return new Request(id, {
      prompt: this.#prompt.subarray(0, promptTokens),
      maxTokens: Math.min(room, this.#options.maxTokens ?? outputTokens),
      minTokens: 0,
      stopTokens: STOP_TOKENS,
      sampling: { ...SAMPLING, seed: outputTokens },
    });
  }
}
