import { UsageError } from '../flags.ts';

/** Reads one value of a file: gives it back with its type, or throws UsageError with where, expected and got. */
export type Shape<T> = (value: unknown, where: string) => T;

/** NaN has no JSON: it is written as null, and read again. */
export const number: Shape<number> = (value, where) => {
  if (value === null) return NaN;
  return typeof value === 'number' ? value : wrong(where, 'a number', value);
};

/** Where null means that there is none. */
export const nullable: Shape<number | null> = (value, where) => (value === null ? null : number(value, where));

export const text: Shape<string> = (value, where) =>
  typeof value === 'string' ? value : wrong(where, 'a text', value);

export function oneOf<const Name extends string>(...names: readonly Name[]): Shape<Name> {
  return (value, where) => names.find((name) => name === value) ?? wrong(where, names.join(' or '), value);
}

export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return (value, where) => (value === undefined ? undefined : shape(value, where));
}

export function list<T>(shape: Shape<T>): Shape<readonly T[]> {
  return (value, where) =>
    Array.isArray(value) ? value.map((one, i) => shape(one, `${where}[${i}]`)) : wrong(where, 'a list', value);
}

/** Keys that it does not name come from a newer version, and are left out. */
export function object<T extends object>(shapes: { readonly [Key in keyof T]-?: Shape<T[Key]> }): Shape<T> {
  const entries = Object.entries<Shape<unknown>>(shapes);
  return (value, where) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong(where, 'an object', value);
    const fields: Readonly<Record<string, unknown>> = { ...value };
    const read = entries.map(
      ([key, shape]) => [key, shape(fields[key], where === '' ? key : `${where}.${key}`)] as const,
    );
    return Object.fromEntries(read.filter(([, field]) => field !== undefined)) as T;
  };
}

const MOST_SHOWN = 60; // letters of a value in a message

export function wrong(where: string, expected: string, got: unknown): never {
  const shown = got === undefined ? 'nothing' : JSON.stringify(got);
  const cut = shown.length > MOST_SHOWN ? `${shown.slice(0, MOST_SHOWN)}…` : shown;
  throw new UsageError(`${where === '' ? '' : `${where}: `}expected ${expected}, got ${cut}`);
}
