import { workload } from '../loop/workloads.ts';
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
const LEAST_TOKENS = 4;
const MOST_TOKENS = 320;

/**
 * Tales of very different lengths: log-normal limits, as answers of real users are spread. Both the limits and the
 * seeds follow from `seed`, so every policy gets the same requests.
 */
export function heavyTail(requests: number, seed: number): RequestOptions[] {
  const lengths = { requests, seed, context: MOST_TOKENS + 1, promptTokens: 0, outputTokens: MEDIAN_TOKENS };
  return workload('heavy-tail', lengths).map(({ outputTokens }, i) => ({
    prompt: OPENINGS[i % OPENINGS.length] ?? '',
    maxTokens: Math.max(LEAST_TOKENS, outputTokens),
    temperature: 0.8,
    topP: 0.95,
    topK: 0,
    seed: seed * 2 ** 20 + i,
  }));
}
