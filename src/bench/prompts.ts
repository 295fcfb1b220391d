import { generator } from '../loop/workloads.ts';
import type { TraceRequest } from '../simulator/traces.ts';

const STREAMS = 0x9e3779b1; // so that neighbouring seeds have nothing in common

/** Random tokens for request `id`: equal to those of others where the requests say so, and nowhere else. */
export function makePrompt(seed: number, id: number, request: TraceRequest, vocabulary: number): number[] {
  const { promptTokens, prefix, blocks } = request;
  const tokens = draw(seed, 3 * id, promptTokens, vocabulary);
  const put = (at: number, stream: number, count: number) => {
    const most = Math.min(count, promptTokens - at);
    draw(seed, stream, most, vocabulary).forEach((token, i) => (tokens[at + i] = token));
  };
  if (prefix !== undefined) put(0, 3 * prefix.id + 1, prefix.tokens);
  blocks?.ids.forEach((block, i) => put(i * blocks.tokens, 3 * block + 2, blocks.tokens));
  return tokens;
}

function draw(seed: number, stream: number, count: number, vocabulary: number): number[] {
  const uniform = generator(seed + Math.imul(stream + 1, STREAMS));
  return Array.from({ length: Math.max(0, count) }, () => Math.floor(uniform() * vocabulary));
}
