import type { RequestOptions } from '../options.ts';

const OPENINGS = [
  'Once upon a time there was a king who',
  'In a far country there lived an old woman',
  'The fox said to the crow:',
  'There was once a poor fisherman',
  'Long ago, when the world was young,',
  'A wolf and a lamb',
  'The youngest of the three brothers',
  'Deep in the forest stood a little house, and',
  'The princess wept, for',
  'One winter night, while the snow fell,',
  'A miller had a daughter who',
  'The giant woke and',
];

const MEDIAN_TOKENS = 40;
const SIGMA = 1.2;
const LEAST_TOKENS = 4;
const MOST_TOKENS = 320;

/**
 * Tales of very different lengths: log-normal limits, as answers of real users are spread. Both the limits and the
 * seeds follow from `seed`, so every policy gets the same requests.
 */
export function heavyTail(requests: number, seed: number): RequestOptions[] {
  const random = randomNumbers(seed);
  return Array.from({ length: requests }, (_, i) => {
    const length = Math.round(MEDIAN_TOKENS * Math.exp(SIGMA * normal(random)));
    return {
      prompt: OPENINGS[i % OPENINGS.length] ?? '',
      maxTokens: Math.min(MOST_TOKENS, Math.max(LEAST_TOKENS, length)),
      temperature: 0.8,
      topP: 0.95,
      topK: 0,
      seed: Math.floor(random() * 2 ** 32),
    };
  });
}

/** Two uniform numbers make one normal one (Box and Muller). */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Uniform numbers from 0 to below 1: Weyl's sequence through a mixer (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
