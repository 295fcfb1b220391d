// What experiments write and the report reads: one entry of a file's `results`. Times are milliseconds unless a name
// says otherwise; shares are from 0 to 1.
import type { Quantiles, Spread } from './statistics.ts';

/** Shares of all row-time while somebody waited, of the round with the middle sum. See docs/scheduling-policies.md. */
export interface IdleShares {
  /** Their sum. */
  readonly share: number;
  readonly pad: number;
  readonly dead: number;
  readonly empty: number;
  readonly stall: number;
}

/** One policy (or other contender) on one workload. */
export interface RelayResult {
  readonly model: string;
  readonly workload: string;
  readonly contender: string;
  readonly rows: number;
  /** All requests there at once, or arriving at `rate` requests/s. */
  readonly loop: 'closed' | 'open';
  readonly rate?: number;
  readonly requests: number;
  readonly slots: number;
  /** Until the last request has ended. */
  readonly seconds: Spread;
  readonly requestsPerSecond: Spread;
  /** Requests/s that met both targets. */
  readonly goodPerSecond: Spread;
  /** Their share of all requests. */
  readonly attainment: Spread;
  /** Until the first token, and between tokens on average; null: none. */
  readonly targets: { readonly ttftMs: number | null; readonly itlMs: number };
  readonly tokensPerSecond: Spread; // generated
  readonly ttft: Quantiles;
  readonly itl: Quantiles;
  readonly tpot: Quantiles;
  readonly e2e: Quantiles;
  /** A decode step of all rows and nothing else. */
  readonly decodeMs: number;
  readonly idle: IdleShares;
  readonly padTokens: number;
  readonly deadTokens: number;
  readonly emptyRows: number;
  readonly stallMs: number;
  readonly movedSlots: number;
  readonly peakSlots: number;
  readonly steps: number;
  readonly preemptions: number;
  /** Where it was looked for: `rate` is then the capacity, or the lowest rate tried if there is none. */
  readonly capacity?: Capacity;
  /** Of one round, where it was asked for. */
  readonly memory?: MemoryCurve;
  readonly timeline?: Timeline;
  /** Why it has fewer rounds than were asked for. */
  readonly error?: string;
}

/** The highest rate of arrivals at which enough requests met their targets. */
export interface Capacity {
  /** 0 if too few did at any rate that was tried. */
  readonly requestsPerSecond: number;
  /** What share of requests had to. */
  readonly share: number;
  readonly probes: readonly { readonly rate: number; readonly attainment: number }[];
}

/** Slots of the arena over time; used + padding + free = all. */
export interface MemoryCurve {
  readonly ms: readonly number[];
  readonly used: readonly number[];
  readonly padding: readonly number[];
  readonly free: readonly number[];
}

/** What every row did in every step. */
export interface Timeline {
  readonly ms: readonly number[]; // [steps] how long each took
  /** [steps][rows] id of the row's request; −1: empty; −2 − id: finished, computed for nothing. */
  readonly rows: readonly (readonly number[])[];
  readonly chunkTokens: readonly number[]; // [steps]
}

/** One op on one device. */
export interface KernelResult {
  readonly device: string; // cpu:amx, cuda, …
  readonly op: string;
  readonly case: string;
  readonly microseconds: number;
  readonly gigabytesPerSecond: number;
  readonly gigaflopsPerSecond: number;
  /**
   * Of what the same machine reads (where slots move: copies), and multiplies, at best, measured in the same run; null
   * where there is no such ceiling. Above 1 where a cache holds what is read.
   */
  readonly bandwidthShare: number | null;
  readonly computeShare: number | null;
  /** Of what is multiplied: each has a ceiling of its own. f32, bf16, int8 */
  readonly type?: string;
  /** Of a sweep: what stays the same, what differs (tokens, rows, positions, …), and the value. */
  readonly line?: string;
  readonly against?: string;
  readonly x?: number;
  /** Its time over that of a library that computes the same: cuBLASLt, on a GPU. */
  readonly ratioToLibrary?: number;
}

/** One engine on the same weights and prompts as the others of its run. */
export interface PeerResult {
  readonly model: string;
  readonly weights: string; // what all have in common: 16 bit, 8 bit
  readonly format: string; // what the contender made of it: bf16, f16, int8, q8_0
  readonly contender: string; // baton, node-llama-cpp evaluate, …
  readonly version: string;
  readonly threads: number;
  readonly concurrency: number;
  readonly requests: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly seconds: Spread;
  /** Prompt and output tokens. */
  readonly tokensPerSecond: Spread;
  readonly outputTokensPerSecond: Spread;
  readonly ttft?: Quantiles;
  readonly error?: string;
}

/**
 * Whether two engines compute the same function: log-probabilities at the same positions of the same texts, which differ
 * from logits by a constant.
 */
export interface AgreementResult {
  readonly model: string;
  readonly weights: string;
  readonly contender: string;
  readonly version: string;
  readonly positions: number;
  /** Share of positions with the same most likely token. */
  readonly top1: number;
  /** Over the likeliest tokens of all positions. */
  readonly largestDifference: number;
  readonly meanDifference: number;
  /** Most by which one engine preferred another token at a position to that of the other engine. */
  readonly largestPreference: number;
}

/** Something against something: one point of one line. */
export interface ScaleResult {
  /** `tick` against rows, `context` against tokens, `arena` against occupancy, `requests` against their number. */
  readonly line: 'tick' | 'context' | 'arena' | 'requests';
  readonly label: string; // which of several lines
  readonly x: number;
  readonly unit: string; // of y
  readonly y: Spread;
}
