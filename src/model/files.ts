import type { FileHandle } from 'node:fs/promises';
import { open, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EngineError } from '../errors.ts';
import { shown } from './fields.ts';

/** The real path of the model folder; every file of the model must lie in it. */
export async function findFolder(folder: string): Promise<string> {
  try {
    const real = await realpath(folder);
    if ((await stat(real)).isDirectory()) return real;
  } catch (cause) {
    throw new EngineError('MODEL_NOT_FOUND', `model: expected a folder, got ${shown(folder)}: ${reason(cause)}`, {
      cause,
    });
  }
  throw new EngineError('MODEL_NOT_FOUND', `model: expected a folder, got the file ${shown(folder)}`);
}

/** The path of a file of the model, or undefined if there is none. `folder` is a real path. */
export async function findFile(folder: string, name: string): Promise<string | undefined> {
  if (!/^[\w.-][\w .+-]*$/.test(name) || name === '.' || name === '..') {
    throw new EngineError('MODEL_FORMAT', `expected the name of a file in the model's folder, got ${shown(name)}`);
  }
  let real: string;
  try {
    real = await realpath(join(folder, name));
    // A pipe or device is refused before it is opened: opening one can block for ever.
    if (!(await stat(real)).isFile()) throw new EngineError('MODEL_FORMAT', `${name}: expected a file`);
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new EngineError('MODEL_NOT_FOUND', `${name}: cannot be read: ${reason(cause)}`, { cause });
  }
  if (dirname(real) !== folder) {
    throw new EngineError(
      'MODEL_FORMAT',
      `${name}: expected a file in the model's folder, got a link to ${shown(real)}`,
    );
  }
  return real;
}

/** Opens a file found by {@link findFile} for the length of `use`. */
export async function withFile<T>(path: string, name: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    return await use(file);
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    throw new EngineError('MODEL_NOT_FOUND', `${name}: cannot be read: ${reason(cause)}`, { cause });
  } finally {
    await file?.close();
  }
}

/** Exactly `length` bytes from `position`. */
export async function readBytes(file: FileHandle, name: string, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let filled = 0; filled < length;) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, position + filled);
    if (bytesRead === 0) {
      throw new EngineError('MODEL_FORMAT', `${name}: expected ${position + length} bytes, got ${position + filled}`);
    }
    filled += bytesRead;
  }
  return bytes;
}

/** The text of a file of the model, or undefined if there is none. */
export async function readText(folder: string, name: string, mostBytes: number): Promise<string | undefined> {
  const path = await findFile(folder, name);
  if (path === undefined) return undefined;
  return withFile(path, name, async (file) => {
    const { size } = await file.stat();
    if (size > mostBytes) {
      throw new EngineError('MODEL_FORMAT', `${name}: expected at most ${mostBytes} bytes, got ${size}`);
    }
    return decodeText(name, await readBytes(file, name, 0, size));
  });
}

/** A JSON file of the model, or undefined if there is none. */
export async function readJson(folder: string, name: string, mostBytes: number): Promise<unknown> {
  const text = await readText(folder, name, mostBytes);
  return text === undefined ? undefined : parseJson(name, text);
}

export function decodeText(name: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new EngineError('MODEL_FORMAT', `${name}: expected UTF-8 text, got other bytes`, { cause });
  }
}

export function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EngineError('MODEL_FORMAT', `${name}: expected JSON, got ${shown(text.slice(0, 40))}: ${reason(cause)}`, {
      cause,
    });
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
