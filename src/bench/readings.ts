import type { PolicyRound, Reading } from './contenders/policy.ts';
import type { IdleShares, RelayResult } from './results.ts';
import { median, quantilesOf, spread } from './statistics.ts';

/** Milliseconds that a request may take to its first token, and between tokens on average. */
export interface Targets {
  readonly ttftMs: number;
  readonly itlMs: number;
}

type Figures = Pick<
  RelayResult,
  | 'seconds'
  | 'requestsPerSecond'
  | 'goodPerSecond'
  | 'attainment'
  | 'tokensPerSecond'
  | 'ttft'
  | 'itl'
  | 'tpot'
  | 'e2e'
  | 'decodeMs'
  | 'idle'
  | 'padTokens'
  | 'deadTokens'
  | 'emptyRows'
  | 'stallMs'
  | 'movedSlots'
  | 'peakSlots'
  | 'steps'
  | 'preemptions'
>;

/** What the rounds of one contender come to. */
export function figuresOf(rounds: readonly PolicyRound[], targets: Targets): Figures {
  const over = (count: (round: PolicyRound) => number) => spread(rounds.map(count));
  const middle = (count: (round: PolicyRound) => number) => median(rounds.map(count));
  const times = (list: (reading: Reading) => Iterable<number>) =>
    quantilesOf(rounds.map(({ readings }) => readings.flatMap((reading) => [...list(reading)])));
  const good = ({ readings }: PolicyRound) => readings.filter((reading) => meets(reading, targets)).length;
  return {
    seconds: over(({ seconds }) => seconds),
    requestsPerSecond: over(({ readings, seconds }) => readings.length / seconds),
    goodPerSecond: over((round) => good(round) / round.seconds),
    attainment: over((round) => good(round) / round.readings.length),
    tokensPerSecond: over(({ generated, seconds }) => generated / seconds),
    ttft: times(({ ms }) => ms.subarray(0, 1)),
    itl: times(({ ms }) => ms.subarray(1).map((at, i) => at - ms[i]!)),
    tpot: times((reading) => (reading.ms.length > 1 ? [meanGap(reading)] : [])),
    e2e: times(({ ms }) => ms.subarray(-1)),
    decodeMs: middle(({ decodeMs }) => decodeMs),
    idle: idleOf(rounds),
    padTokens: middle(({ idle }) => idle.padTokens),
    deadTokens: middle(({ idle }) => idle.deadTokens),
    emptyRows: middle(({ idle }) => idle.emptyRows),
    stallMs: middle(({ idle }) => idle.stallMs),
    movedSlots: middle(({ movedSlots }) => movedSlots),
    peakSlots: middle(({ peakSlots }) => peakSlots),
    steps: middle(({ steps }) => steps),
    preemptions: middle(({ preemptions }) => preemptions),
  };
}

function meets(reading: Reading, { ttftMs, itlMs }: Targets): boolean {
  return reading.ms[0]! <= ttftMs && (reading.ms.length === 1 || meanGap(reading) <= itlMs);
}

/** From the first token to the last, each. */
function meanGap({ ms }: Reading): number {
  return (ms.at(-1)! - ms[0]!) / (ms.length - 1);
}

/** Of one round: shares of different rounds would not add up. */
function idleOf(rounds: readonly PolicyRound[]): IdleShares {
  const sorted = rounds.map(({ idle }) => idle).sort((a, b) => a.share - b.share);
  const { share, rowMs, wastedMs } = sorted[(sorted.length - 1) >> 1]!;
  const of = (ms: number) => (rowMs > 0 ? ms / rowMs : 0);
  const { pad, dead, empty, stall } = wastedMs;
  return { share, pad: of(pad), dead: of(dead), empty: of(empty), stall: of(stall) };
}

/** Which request of which contender got other tokens than from the first one, in any round; undefined if none did. */
export function differingTokens(
  contenders: readonly { readonly name: string; readonly rounds: readonly PolicyRound[] }[],
): string | undefined {
  const law = contenders.flatMap(({ rounds }) => rounds)[0];
  for (const { name, rounds } of contenders) {
    for (const { readings } of rounds) {
      const id = readings.findIndex(({ tokens }, i) => tokens.join() !== law!.readings[i]!.tokens.join());
      if (id >= 0) return `${name}: request ${id} got other tokens`;
    }
  }
  return undefined;
}
