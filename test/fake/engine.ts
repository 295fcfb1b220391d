import { DRAWN, MOVE_FIELDS, type NativeEngine, ROW_MOVE_FIELDS, RUN_FIELDS } from '../../src/native.ts';
import type { RowStart, StepPlan, StepResult } from '../../src/native.ts';

const POISON = -1;

/** What a row's sampler knows. */
interface Sampler {
  readonly start: RowStart;
  seen: number; // tokens
  drawn: number | undefined; // the last one
}

/** Slots from begin to below end. */
type Ranges = readonly (readonly [begin: number, end: number])[];

/** A plan as it is when the step is asked for: the caller may change it while the step waits for its turn. */
function copy(plan: StepPlan): StepPlan {
  return {
    moveCount: plan.moveCount,
    rowMoveCount: plan.rowMoveCount,
    runCount: plan.runCount,
    tokenCount: plan.tokenCount,
    moves: plan.moves.slice(0, plan.moveCount * MOVE_FIELDS),
    rowMoves: plan.rowMoves.slice(0, plan.rowMoveCount * ROW_MOVE_FIELDS),
    starts: plan.starts.map((start) => ({ ...start, tokens: Array.from(start.tokens) })),
    runs: plan.runs.slice(0, plan.runCount * RUN_FIELDS),
    tokens: plan.tokens.slice(0, plan.tokenCount),
  };
}

/**
 * A device that keeps tokens where a real one keeps keys and values. The next token follows from what the slots of a
 * run hold, from the sampler of its row and from how many tokens that sampler has seen, so any slip in spans, moves,
 * rows or starts changes tokens; reading a slot that holds nothing throws. Steps run one after another.
 */
export class FakeEngine implements NativeEngine {
  readonly device = 'fake';
  readonly isa = 'none';
  readonly threads = 1;
  readonly weights = 'none';
  readonly kv = 'none';
  readonly weightBytes = 0;
  readonly slotBytes = 4;
  /** What each step was asked: rows in order, and [row, position, tokens] of every run. */
  readonly plans: { rows: number[]; runs: number[][]; tokens: number; chunkTokens: number; moves: number[][] }[] = [];
  /** Called within each step, with its number from 0; may wait or throw. */
  during: ((step: number) => void | Promise<void>) | undefined;
  /** Answers −1 where it says so. */
  broken: (seed: number, position: number) => boolean = () => false;
  /** Asked with each step: which contents of the arena are wanted after its moves. Unless given, all. */
  wanted: (() => Ranges) | undefined;
  closed = false;
  readonly #cells: Int32Array;
  readonly #samplers: (Sampler | undefined)[] = []; // [rows]
  #last: Promise<void> = Promise.resolve(); // settles with the last step asked for
  #closing = false;

  constructor(
    readonly slots: number,
    readonly vocabulary = 97,
    readonly hostSlots = 0,
  ) {
    this.#cells = new Int32Array(slots + hostSlots).fill(POISON);
  }

  step(plan: StepPlan, result: StepResult): Promise<void> {
    const asked = copy(plan);
    const wanted = this.wanted?.();
    const ended = this.#last.then(() => this.#take(asked, result, wanted));
    this.#last = ended.catch(() => {}); // one that fails does not keep the next from running
    return ended.then(); // not `ended` itself: whether its rejection is handled is for the caller to see to
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#last;
    this.closed = true;
  }

  async #take(plan: StepPlan, result: StepResult, wanted: Ranges | undefined): Promise<void> {
    if (this.#closing) throw Object.assign(new Error('closed before this step began'), { code: 'CLOSED' });
    this.#applyMoves(plan);
    if (wanted !== undefined) this.#poison(wanted);
    for (let i = 0; i < plan.rowMoveCount * ROW_MOVE_FIELDS; i += ROW_MOVE_FIELDS) {
      const [from = 0, to = 0] = plan.rowMoves.subarray(i, i + ROW_MOVE_FIELDS);
      this.#samplers[to] = this.#samplers[from];
      this.#samplers[from] = undefined;
    }
    for (const start of plan.starts) {
      this.#samplers[start.row] = { start, seen: start.tokens.length, drawn: undefined };
    }
    const sampled = this.#runs(plan);
    await this.during?.(this.plans.length - 1);
    for (const [row, token] of sampled) {
      result.sampled[row] = token;
      result.logprobs[row] = -token / 8;
      for (let i = 0; i < 20; i++) {
        result.topTokens[row * 20 + i] = (token + i) % this.vocabulary;
        result.topLogprobs[row * 20 + i] = -(token + i) / 8;
      }
    }
  }

  #applyMoves(plan: StepPlan): void {
    const before = this.#cells.slice();
    const moves = Array.from({ length: plan.moveCount }, (_, i) =>
      Array.from(plan.moves.subarray(i * MOVE_FIELDS, (i + 1) * MOVE_FIELDS)),
    ) as [number, number, number][];
    const meet = (a: number, b: number, aSlots: number, bSlots: number) => a < b + bSlots && b < a + aSlots;
    moves.forEach(([from, to, slots], i) => {
      const inside = (first: number) =>
        first >= this.slots ? first + slots <= this.slots + this.hostSlots : first >= 0 && first + slots <= this.slots;
      if (slots <= 0 || !inside(from) || !inside(to)) throw new Error(`move ${from} → ${to} of ${slots}: no such slots`);
      if (Math.min(from, to) >= this.slots) throw new Error(`move ${from} → ${to}: within host memory`);
      moves.forEach(([otherFrom, otherTo, otherSlots], j) => {
        if (i === j) return;
        if (!meet(to, otherTo, slots, otherSlots) && !meet(to, otherFrom, slots, otherSlots)) return;
        throw new Error(`move ${from} → ${to} of ${slots} meets ${otherFrom} → ${otherTo} of ${otherSlots}`);
      });
    });
    for (const [from, , slots] of moves) if (from >= this.slots) this.#cells.fill(POISON, from, from + slots);
    for (const [from, to, slots] of moves) this.#cells.set(before.subarray(from, from + slots), to);
    this.plans.push({ rows: [], runs: [], tokens: plan.tokenCount, chunkTokens: 0, moves });
  }

  /** Nothing is left where nobody wants it: not what has moved, nor what a request was that is gone. */
  #poison(wanted: Ranges): void {
    let end = 0;
    for (const [begin, next] of wanted.toSorted(([a], [b]) => a - b)) {
      this.#cells.fill(POISON, end, begin);
      end = next;
    }
    this.#cells.fill(POISON, end, this.slots);
  }

  #runs(plan: StepPlan): Map<number, number> {
    const sampled = new Map<number, number>();
    const record = this.plans.at(-1)!;
    const written = new Set<number>();
    let next = 0;
    for (let i = 0; i < plan.runCount * RUN_FIELDS; i += RUN_FIELDS) {
      const [row = 0, offset = 0, masked = 0, position = 0, count = 0] = plan.runs.subarray(i, i + RUN_FIELDS);
      const first = offset + masked;
      record.runs.push([row, position, count]);
      if (position > 0 && this.#cells[first + position - 1] === POISON) throw new Error(`run: gap before ${position}`);
      if (count < 1 || offset < 0 || first + position + count > this.slots) throw new Error('run: outside the arena');
      for (let j = 0; j < count; j++) {
        const slot = first + position + j;
        if (written.has(slot)) throw new Error(`slot ${slot}: written twice in one step`);
        written.add(slot);
        const token = plan.tokens[next++]!;
        this.#cells[slot] = token === DRAWN ? this.#drawn(row, count) : token;
      }
      if (row < 0) {
        record.chunkTokens += count;
        continue;
      }
      if (sampled.has(row)) throw new Error(`row ${row}: has two runs`);
      sampled.set(row, this.#sample(row, first, position + count));
      record.rows.push(row);
    }
    if (next !== plan.tokenCount) throw new Error(`plan: ${plan.tokenCount} tokens, and ${next} in its runs`);
    return sampled;
  }

  #drawn(row: number, count: number): number {
    const token = this.#samplers[row]?.drawn;
    if (token === undefined || count !== 1) throw new Error(`row ${row}: has drawn nothing for a run of ${count}`);
    return Math.max(token, 0);
  }

  #sample(row: number, first: number, length: number): number {
    const sampler = this.#samplers[row];
    if (sampler === undefined) throw new Error(`row ${row}: never started`);
    const { promptLength, sampling } = sampler.start;
    const { seed, minTokens, stopTokens } = sampling;
    let hash = Math.imul(seed + 1, 0x9e3779b1) ^ sampler.seen++;
    for (let slot = first; slot < first + length; slot++) {
      if (this.#cells[slot] === POISON) throw new Error(`row ${row}: slot ${slot} holds nothing`);
      hash = Math.imul(hash ^ this.#cells[slot]!, 0x01000193);
      hash ^= hash >>> 15;
    }
    let token = (hash >>> 0) % this.vocabulary;
    if (length - promptLength < minTokens) {
      while (stopTokens.includes(token)) token = (token + 1) % this.vocabulary;
    }
    return (sampler.drawn = this.broken(seed, length) ? -1 : token);
  }
}
