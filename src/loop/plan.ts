import { DRAWN, MOVE_FIELDS, ROW_MOVE_FIELDS, RUN_FIELDS, type RowStart, type StepPlan } from '../native.ts';
import { TILE } from './arena.ts';
import type { Request } from './request.ts';
import { addChunk, addDecode, copyLoad, emptyLoad } from './step-time.ts';

const NOTHING = emptyLoad();

const PAD = 0; // any token will do: nothing reads what becomes of it

export interface PlanLimits {
  readonly rows: number;
  readonly stepTokens: number;
  readonly slots: number;
  readonly hostSlots?: number;
}

/** The next step, as a policy fills it. Memory is made once, for the most that any step can ask. */
export class Plan implements StepPlan {
  readonly moves: Int32Array;
  moveCount = 0;
  /** Slots that moves take to host memory or back. */
  parkedSlots = 0;
  readonly rowMoves: Int32Array;
  rowMoveCount = 0;
  readonly starts: RowStart[] = [];
  readonly runs: Int32Array;
  runCount = 0;
  readonly tokens: Int32Array;
  tokenCount = 0;

  /** Whose run each is; nobody's, if nobody takes what it draws. */
  readonly owners: (Request | undefined)[] = [];
  /** Rows that decode, or take their row with the rest of their prompt. */
  liveRuns = 0;
  /** Tokens drawn for finished requests. */
  deadTokens = 0;
  /** Tokens computed on padding. */
  padTokens = 0;
  /** Prompt tokens computed without a row. */
  chunkTokens = 0;
  /** What its time will depend on. */
  readonly load = emptyLoad();

  readonly #slots: number; // of the arena

  constructor(limits: PlanLimits) {
    const { slots, hostSlots = 0 } = limits;
    this.#slots = slots;
    this.moves = new Int32Array(((slots + hostSlots) / TILE) * MOVE_FIELDS); // each writes a tile of its own
    this.rowMoves = new Int32Array(limits.rows * ROW_MOVE_FIELDS);
    this.runs = new Int32Array(limits.stepTokens * RUN_FIELDS);
    this.tokens = new Int32Array(limits.stepTokens);
  }

  get room(): number {
    return this.tokens.length - this.tokenCount;
  }

  move(from: number, to: number, slots: number): void {
    const at = this.moveCount++ * MOVE_FIELDS;
    this.moves[at] = from;
    this.moves[at + 1] = to;
    this.moves[at + 2] = slots;
    this.load.movedSlots += slots;
    if (Math.max(from, to) >= this.#slots) this.parkedSlots += slots;
  }

  rowMove(from: number, to: number): void {
    const at = this.rowMoveCount++ * ROW_MOVE_FIELDS;
    this.rowMoves[at] = from;
    this.rowMoves[at + 1] = to;
  }

  start(row: number, request: Request): void {
    const { sampling, tokens, promptLength } = request;
    this.starts.push({ row, sampling, tokens, promptLength });
  }

  /** Everything the request is behind, be it a token that is still being drawn; its next token is sampled. */
  decode(row: number, request: Request): void {
    this.#run(row, request, request.computed, request.behind);
    this.liveRuns++;
  }

  /** The next `count` tokens of a prompt; nothing is sampled. */
  chunk(request: Request, count: number): void {
    this.#run(-1, request, request.computed, count);
    this.chunkTokens += count;
  }

  /** The last computed token of a finished request once more, for nothing. */
  dead(row: number, request: Request): void {
    this.#run(row, request, request.computed - 1, 1);
    this.owners[this.runCount - 1] = undefined;
    this.deadTokens++;
  }

  /** So many columns of padding in a row: computed like any token, in slots that nobody reads. */
  pad(slot: number, count: number): void {
    const at = this.runCount * RUN_FIELDS;
    this.runs[at] = -1;
    this.runs[at + 1] = slot - (slot % TILE); // spans begin at a tile
    this.runs[at + 2] = slot % TILE;
    this.runs[at + 3] = 0;
    this.runs[at + 4] = count;
    this.owners[this.runCount++] = undefined;
    for (let i = 0; i < count; i++) this.tokens[this.tokenCount++] = PAD;
    this.padTokens += count;
    addChunk(this.load, 0, count);
  }

  /** Forgets a step that has been taken. What retiring noted since then belongs to the next, so only this clears. */
  clear(): void {
    this.owners.fill(undefined, 0, this.runCount);
    this.moveCount = this.parkedSlots = this.rowMoveCount = this.runCount = this.tokenCount = 0;
    this.starts.length = 0;
    this.liveRuns = this.deadTokens = this.padTokens = this.chunkTokens = 0;
    copyLoad(this.load, NOTHING);
  }

  #run(row: number, request: Request, position: number, count: number): void {
    const at = this.runCount * RUN_FIELDS;
    this.runs[at] = row;
    this.runs[at + 1] = request.span!.offset;
    this.runs[at + 2] = request.span!.masked;
    this.runs[at + 3] = position;
    this.runs[at + 4] = count;
    this.owners[this.runCount++] = request;
    if (row >= 0) addDecode(this.load, position + count - 1);
    const chunk = row >= 0 ? count - 1 : count;
    if (chunk > 0) addChunk(this.load, position, chunk);
    for (let i = 0; i < count; i++) this.tokens[this.tokenCount++] = request.tokens[position + i] ?? DRAWN;
  }
}
