/** Every code an {@link EngineError} can carry, from TypeScript and from the native engine alike. `docs/errors.md` explains each. */
export const ERROR_CODES = [
  'INVALID_OPTION',
  'INVALID_ARGUMENT',
  'MODEL_NOT_FOUND',
  'MODEL_FORMAT',
  'MODEL_UNSUPPORTED',
  'ADDON_MISSING',
  'DEVICE_UNAVAILABLE',
  'DEVICE_LOST',
  'OUT_OF_MEMORY',
  'TOO_LONG',
  'QUEUE_FULL',
  'INVALID_LOGITS',
  'CLOSED',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/**
 * The only error this library throws on purpose. The message says what was expected and what was received.
 *
 * @example
 * try { await Engine.load('models/tales', { rows: 0 }); }
 * catch (error) { if (error instanceof EngineError && error.code === 'INVALID_OPTION') … }
 */
export class EngineError extends Error {
  override readonly name = 'EngineError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Puts a native rejection (an Error with a `code`) inside an EngineError, so that the stack names the caller. */
export function fromNative(cause: unknown): EngineError {
  if (cause instanceof EngineError) return cause;
  const { code, message } = cause as { code?: string; message?: string };
  const known = ERROR_CODES.find((one) => one === code);
  return new EngineError(known ?? 'INTERNAL', message ?? String(cause), { cause });
}
