import type { FinishReason, Request } from './request.ts';

/** Why a request that has just been given a token needs no further one, if so. */
export function stopReason(request: Request): FinishReason | undefined {
  const { generated, stopTokens } = request;
  if (stopTokens.size > 0 && generated > request.minTokens && stopTokens.has(request.last)) return 'stop';
  return generated >= request.maxTokens ? 'length' : undefined;
}
