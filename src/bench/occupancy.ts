import { tiled } from '../loop/arena.ts';
import type { PolicyName } from '../loop/loop.ts';
import { Request } from '../loop/request.ts';
import { workload } from '../loop/workloads.ts';
import { GREEDY } from '../native.ts';
import { Journal, TokenTimes } from '../simulator/journal.ts';
import { Replica } from '../simulator/replica.ts';
import { STOP } from '../simulator/simulated-engine.ts';
import { typicalStepModel } from './step-model.ts';

export interface OccupancySetting {
  readonly policy: PolicyName;
  readonly rows: number;
  readonly requests: number;
  readonly seed: number;
}

/** What an arena of some size did, in steps in which somebody waited: the last requests leave it empty in any case. */
export interface ArenaUse {
  readonly slots: number;
  /** Mean of slots that were not free, and of rows in use. */
  readonly heldSlots: number;
  readonly usedRows: number;
  /** For 1,000 tokens whose keys and values came to lie in the arena. */
  readonly movedSlots: number;
  /** For 1,000 requests. */
  readonly preemptions: number;
}

const CONTEXT = 1024;
const STEP_PROMPT_TOKENS = 512;
const STOP_TOKENS: ReadonlySet<number> = new Set([STOP]);

/** Heavy-tailed requests through a loop with an arena of so many slots, in virtual time: the same every time. */
export async function useArena({ policy, rows, requests, seed }: OccupancySetting, slots: number): Promise<ArenaUse> {
  const times = new TokenTimes();
  const loopOptions = {
    rows,
    context: CONTEXT,
    stepTokens: rows + STEP_PROMPT_TOKENS,
    policy,
    admission: 'optimistic',
    queueRequests: requests,
    queueTokens: requests * CONTEXT,
  } as const;
  const journal = new Journal(times, { ttftMs: Infinity, itlMs: Infinity });
  const replica = new Replica(typicalStepModel(), { rows, slots, hostSlots: 0 }, loopOptions, journal, () => {});
  const { loop } = replica;
  workload('heavy-tail', { requests, seed, context: CONTEXT }).forEach(({ promptTokens, outputTokens }, id) => {
    times.add();
    const prompt = new Int32Array(promptTokens).fill(2 + id); // begins as no other
    const sampling = { ...GREEDY, stopTokens: Int32Array.of(STOP), seed: outputTokens };
    const maxTokens = CONTEXT - promptTokens; // nobody knows where it stops
    replica.add(new Request(id, { prompt, maxTokens, minTokens: 0, stopTokens: STOP_TOKENS, sampling }), 0);
  });
  let ticks = 0;
  let held = 0;
  let used = 0;
  let whileCrowded = { moved: 0, tokens: 0, preemptions: 0, requests: 0 };
  while (!loop.idle) {
    await replica.tick();
    if (loop.queue.length === 0) continue;
    const { metrics, admission, arena, batch } = loop;
    ticks++;
    held += slots - arena.free;
    used += batch.length;
    whileCrowded = {
      moved: metrics.movedSlots,
      tokens: metrics.promptTokens + metrics.generatedTokens,
      preemptions: admission.preemptions,
      requests: requests - loop.queue.length,
    };
  }
  const { moved, tokens, preemptions, requests: begun } = whileCrowded;
  return {
    slots,
    heldSlots: held / ticks,
    usedRows: used / ticks,
    movedSlots: (1000 * moved) / tokens,
    preemptions: (1000 * preemptions) / begun,
  };
}

/** Arenas so large that what the requests would hold, had they all room, fills such a share of each. */
export async function useArenas(setting: OccupancySetting, shares: readonly number[]): Promise<Map<number, ArenaUse>> {
  const { heldSlots } = await useArena(setting, setting.rows * CONTEXT);
  const uses = new Map<number, ArenaUse>();
  for (const share of shares) uses.set(share, await useArena(setting, Math.max(CONTEXT, tiled(heldSlots / share))));
  return uses;
}
