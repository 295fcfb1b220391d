import { EngineError } from '../errors.ts';

const SHOWN_LENGTH = 60;
const SHOWN_ITEMS = 8;

/** A value as an error message shows it: JSON, cut where it is long or deep. */
export function shown(value: unknown): string {
  if (Array.isArray(value)) return `[${cut(value.slice(0, SHOWN_ITEMS + 1).map(shownInside))}]`;
  if (isRecord(value))
    return `{${cut(Object.entries(value).map(([key, one]) => `${shown(key)}:${shownInside(one)}`))}}`;
  if (typeof value !== 'string') return String(value);
  return value.length <= SHOWN_LENGTH ? JSON.stringify(value) : `${JSON.stringify(value.slice(0, SHOWN_LENGTH))}…`;
}

/** Not JSON.stringify, and one level only: a file can nest deeper than the stack. */
function shownInside(value: unknown): string {
  return typeof value === 'object' && value !== null ? '…' : shown(value);
}

function cut(items: readonly string[]): string {
  return items.length <= SHOWN_ITEMS ? items.join(',') : `${items.slice(0, SHOWN_ITEMS).join(',')},…`;
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * A JSON object of a model folder, read field by field. What does not fit is a MODEL_FORMAT error that names the
 * field. null counts as absent: that is how model folders write it.
 */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;

  /** `path` names the object in messages: a file, or a file and the fields that lead to it. */
  constructor(
    readonly path: string,
    value: unknown,
  ) {
    if (!isRecord(value)) throw new EngineError('MODEL_FORMAT', `${path}: expected a JSON object, got ${shown(value)}`);
    this.#values = value;
  }

  get(key: string): unknown {
    return this.#values[key] ?? undefined;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  entries(): [string, unknown][] {
    return Object.entries(this.#values);
  }

  /** An integer from `low` to `high`; without `fallback` it must be there. */
  integer(key: string, low: number, high: number, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
    throw this.error(key, `expected an integer from ${low} to ${high}`);
  }

  number(key: string, low: number, high: number, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    if (typeof value === 'number' && value >= low && value <= high) return value;
    throw this.error(key, `expected a number from ${low} to ${high}`);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.get(key) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.error(key, 'expected true or false');
  }

  string(key: string): string | undefined {
    const value = this.get(key);
    if (value === undefined || typeof value === 'string') return value;
    throw this.error(key, 'expected a string');
  }

  /** The object under `key`, or undefined. */
  fields(key: string): Fields | undefined {
    const value = this.get(key);
    return value === undefined ? undefined : new Fields(`${this.path}: ${key}`, value);
  }

  error(key: string, expected: string): EngineError {
    return new EngineError('MODEL_FORMAT', `${this.path}: ${key}: ${expected}, got ${shown(this.get(key))}`);
  }

  unsupported(key: string, expected: string): EngineError {
    return new EngineError('MODEL_UNSUPPORTED', `${this.path}: ${key}: ${expected}, got ${shown(this.get(key))}`);
  }
}
