// What every engine of a comparison is asked to do, and what it answers.
import { generator } from '../loop/workloads.ts';

/** One generation: greedy, of a fixed length, whatever tokens come. */
export interface PeerRequest {
  readonly prompt: readonly number[];
  readonly outputTokens: number;
}

/** Common to all contenders; each adds what it needs. */
export interface PeerSetting {
  /** A model folder, or a file of it in the contender's own format. */
  readonly model: string;
  readonly threads: number;
  /** Requests in work at a time; others wait for one of them to end. */
  readonly concurrency: number;
  /** All there at once. */
  readonly requests: readonly PeerRequest[];
}

export interface PeerRound {
  /** From the requests' arrival to the end of the last. */
  readonly ms: number;
  /** Of each request, from its arrival. */
  readonly ttftMs: readonly number[];
  /** Of each request, counted by whoever received them. */
  readonly outputTokens: readonly number[];
}

/** How requests come on, told by whoever receives their tokens. */
export class PeerProgress {
  readonly begin = performance.now();
  readonly ttftMs: number[] = [];
  readonly outputTokens: number[] = [];

  token(request: number): void {
    this.ttftMs[request] ??= performance.now() - this.begin;
    this.outputTokens[request] = (this.outputTokens[request] ?? 0) + 1;
  }

  round(): PeerRound {
    return { ms: performance.now() - this.begin, ttftMs: this.ttftMs, outputTokens: this.outputTokens };
  }
}

/** Lengths are drawn so that their logarithms are uniform: as many from half to once the middle as from once to twice. */
const PROMPT = { least: 64, most: 256 };
const OUTPUT = { least: 32, most: 128 };

/** Tokens that one of these requests has at most. */
export const PEER_CONTEXT = PROMPT.most + OUTPUT.most;

/** Random tokens, lengths around 128 and 64; the same for the same seed. */
export function makePeerRequests(seed: number, count: number, vocabulary: number): PeerRequest[] {
  const uniform = generator(seed);
  const length = ({ least, most }: typeof PROMPT) => Math.round(least * (most / least) ** uniform());
  return Array.from({ length: count }, () => {
    const [promptTokens, outputTokens] = [length(PROMPT), length(OUTPUT)];
    return { prompt: Array.from({ length: promptTokens }, () => Math.floor(uniform() * vocabulary)), outputTokens };
  });
}

/** The first of some requests, cut to these lengths: for warming up, and for trying settings. */
export function shortened(requests: readonly PeerRequest[], count: number, prompt: number, output: number): PeerRequest[] {
  return requests.slice(0, count).map((one) => {
    return { prompt: one.prompt.slice(0, prompt), outputTokens: Math.min(one.outputTokens, output) };
  });
}

/** So much of the work as touches everything once: what a contender does before it is measured. */
export function warmUp({ requests, concurrency }: PeerSetting): PeerRequest[] {
  return shortened(requests, concurrency, 16, 2);
}
