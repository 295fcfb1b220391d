import { closeSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { EngineError } from '../errors.ts';
import type { WorkloadRequest } from '../loop/workloads.ts';

/** One request of a trace or a workload, as lengths. */
export interface TraceRequest extends WorkloadRequest {
  /** The prompt in blocks of `tokens` tokens, the last one shorter: equal ids hold equal tokens. */
  readonly blocks?: { readonly ids: readonly number[]; readonly tokens: number };
}

export interface TraceOptions {
  /** All lengths times this, at least one token: for a context shorter than that of the traced model. */
  readonly lengthScale?: number;
  /** Of arrivals: 0.5 is twice the rate. */
  readonly timeScale?: number;
}

/** A column's names in the Azure 2023, Mooncake and Vidur traces; of a time, with its unit in milliseconds. */
const ARRIVALS = new Map([
  ['TIMESTAMP', 1], // a date
  ['timestamp', 1],
  ['arrived_at', 1000],
]);
const PROMPTS = ['ContextTokens', 'input_length', 'num_prefill_tokens'];
const OUTPUTS = ['GeneratedTokens', 'output_length', 'num_decode_tokens'];
const BLOCKS = 'hash_ids';
const BLOCK_TOKENS = 512; // of the Mooncake traces

const CHUNK_BYTES = 2 ** 16;

/** The fields of one line, by column. */
type Fields = Readonly<Partial<Record<string, unknown>>>;

/**
 * Reads a trace of CSV with a header, or of JSON lines, with the columns of the Azure 2023, Mooncake or Vidur traces,
 * a line at a time. Arrivals count from the first; a trace of lengths alone has all of them at once.
 *
 * Throws INVALID_ARGUMENT, naming the line, for what is no request or arrives before the one ahead of it.
 */
export function* readTrace(path: string, options: TraceOptions = {}): Generator<TraceRequest> {
  const { lengthScale = 1, timeScale = 1 } = options;
  let number = 0;
  let columns: readonly string[] | undefined; // of CSV; none of JSON
  let first: number | undefined;
  let before = 0;
  for (const text of readLines(path)) {
    number++;
    if (text.trim() === '') continue;
    const line = `${path}, line ${number}`;
    if (columns === undefined) {
      columns = text.startsWith('{') ? [] : text.split(',').map((name) => name.trim());
      if (columns.length > 0) continue;
    }
    const fields = columns.length > 0 ? parseRow(text, columns, line) : parseObject(text, line);
    const at = readArrival(fields, line);
    first ??= at;
    const arrivalMs = (at - first) * timeScale;
    if (arrivalMs < before) {
      const message = `${line}: expected an arrival no earlier than the one before, got ${before - arrivalMs} ms less`;
      throw new EngineError('INVALID_ARGUMENT', message);
    }
    before = arrivalMs;
    const promptTokens = readLength(fields, PROMPTS, line);
    const blocks = readBlocks(fields, promptTokens, line);
    const scaled = (tokens: number) => Math.max(1, Math.round(tokens * lengthScale));
    yield {
      promptTokens: scaled(promptTokens),
      outputTokens: scaled(readLength(fields, OUTPUTS, line)),
      arrivalMs,
      ...(blocks === undefined ? {} : { blocks: { ids: blocks, tokens: scaled(BLOCK_TOKENS) } }),
    };
  }
}

function* readLines(path: string): Generator<string> {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (cause) {
    throw new EngineError('INVALID_ARGUMENT', `trace: expected a file that can be read, got ${path}`, { cause });
  }
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    const decoder = new StringDecoder('utf8');
    let rest = '';
    for (let bytes; (bytes = readSync(file, chunk)) > 0;) {
      const lines = (rest + decoder.write(chunk.subarray(0, bytes))).split(/\r?\n/);
      rest = lines.pop()!;
      yield* lines;
    }
    yield rest + decoder.end();
  } finally {
    closeSync(file);
  }
}

function parseObject(text: string, line: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new EngineError('INVALID_ARGUMENT', `${line}: expected a JSON object, got ${brief(text)}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new EngineError('INVALID_ARGUMENT', `${line}: expected a JSON object, got ${brief(text)}`);
}

function parseRow(text: string, columns: readonly string[], line: string): Fields {
  const cells = text.split(',');
  if (cells.length !== columns.length) {
    const message = `${line}: expected ${columns.length} fields, as in the header, got ${cells.length}`;
    throw new EngineError('INVALID_ARGUMENT', message);
  }
  const value = (cell: string) => (/^\s*-?[\d.]+(e[+-]?\d+)?\s*$/i.test(cell) ? Number(cell) : cell.trim());
  return Object.fromEntries(columns.map((name, i) => [name, value(cells[i]!)]));
}

function readArrival(fields: Fields, line: string): number {
  for (const [name, ms] of ARRIVALS) {
    const value = fields[name];
    if (value === undefined) continue;
    const at = typeof value === 'string' ? parseDate(value) : value;
    if (typeof at === 'number' && at >= 0 && at < Infinity) return at * (typeof value === 'string' ? 1 : ms);
    throw new EngineError('INVALID_ARGUMENT', `${line}: expected ${name} to be a time, got ${brief(value)}`);
  }
  return 0;
}

/** Milliseconds with their fraction, which Date would drop. */
function parseDate(text: string): number {
  const parts = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)?$/.exec(text);
  return parts === null ? NaN : Date.parse(`${parts[1]}T${parts[2]}Z`) + 1000 * Number(parts[3] ?? 0);
}

function readLength(fields: Fields, names: readonly string[], line: string): number {
  const name = names.find((one) => fields[one] !== undefined);
  if (name === undefined) {
    const message = `${line}: expected one of ${names.join(', ')}, got ${Object.keys(fields).join(', ')}`;
    throw new EngineError('INVALID_ARGUMENT', message);
  }
  const value = fields[name];
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1) return value;
  throw new EngineError('INVALID_ARGUMENT', `${line}: expected ${name} to be an integer from 1, got ${brief(value)}`);
}

function readBlocks(fields: Fields, promptTokens: number, line: string): readonly number[] | undefined {
  const value = fields[BLOCKS];
  if (value === undefined) return undefined;
  const count = Math.ceil(promptTokens / BLOCK_TOKENS);
  if (Array.isArray(value) && value.length === count && value.every((id) => Number.isInteger(id) && id >= 0)) {
    return value as number[];
  }
  const expected = `expected ${BLOCKS} to be ${count} integers from 0 for ${promptTokens} tokens`;
  throw new EngineError('INVALID_ARGUMENT', `${line}: ${expected}, got ${brief(value)}`);
}

function brief(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
