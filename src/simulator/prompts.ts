import type { TraceRequest } from './traces.ts';

/** Fills in the prompt of request `id`: equal to others where the requests say that they are, and nowhere else. */
export function writePrompt(prompt: Int32Array, id: number, { promptTokens, prefix, blocks }: TraceRequest): void {
  prompt.fill(2 * id, 0, promptTokens);
  if (prefix !== undefined) prompt.fill(2 * prefix.id + 1, 0, Math.min(promptTokens, prefix.tokens));
  blocks?.ids.forEach((block, i) => {
    prompt.fill(2 * block + 1, i * blocks.tokens, Math.min(promptTokens, (i + 1) * blocks.tokens));
  });
}
