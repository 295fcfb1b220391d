export type { EngineHooks, EngineStats } from './engine.ts';
export { Engine } from './engine.ts';
export type { Choice, Completion, StreamChunk, Timings, TokenLogprob, Usage } from './engine/run.ts';
export { TokenStream } from './engine/token-stream.ts';
export type { ErrorCode } from './errors.ts';
export { ERROR_CODES, EngineError } from './errors.ts';
export type { LoopStats, StepRecord } from './loop/loop.ts';
export type { FinishReason } from './loop/request.ts';
export type { ChatMessage, LoadOptions, RequestOptions } from './options.ts';
