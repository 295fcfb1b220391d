import type { FinishReason, Request } from './request.ts';

/** Why a request that has just been given a token needs no further one, if so. */
export function stopReason(request: Request): FinishReason | undefined {
  if (request.generated > request.minTokens && request.stopTokens.has(request.last)) return 'stop';
  return request.generated >= request.maxTokens ? 'length' : undefined;
}
