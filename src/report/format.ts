// Figures as a reader wants them: three digits that count, and a dash for what there is not.

const NONE = '–';

/** Three digits that count, thousands apart. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (Math.abs(value) >= 999.5) return Math.round(value).toLocaleString('en');
  return Number(value.toPrecision(3)).toLocaleString('en', { maximumFractionDigits: 6, ...places(value) });
}

/** As it was given: a rate, a number of rows. */
export function plain(value: number): string {
  return Number.isFinite(value)
    ? Number(value.toPrecision(9)).toLocaleString('en', { maximumFractionDigits: 9 })
    : NONE;
}

/** Trailing zeros count too: 2.00, 12.0, 120. */
function places(value: number): { minimumFractionDigits: number } {
  const size = Math.abs(value);
  if (size === 0 || size >= 99.95) return { minimumFractionDigits: 0 };
  return { minimumFractionDigits: size >= 9.995 ? 1 : 2 };
}

export function seconds(value: number): string {
  return Number.isFinite(value) ? `${figure(value)} s` : NONE;
}

export function milliseconds(value: number): string {
  return Number.isFinite(value) ? `${figure(value)} ms` : NONE;
}

export function percent(share: number): string {
  if (!Number.isFinite(share)) return NONE;
  const size = Math.abs(100 * share);
  return `${share < 0 ? '−' : ''}${size.toFixed(size !== 0 && size < 99.95 ? 1 : 0)} %`;
}

export function times(ratio: number): string {
  if (!Number.isFinite(ratio)) return NONE;
  return `${ratio >= 99.5 ? Math.round(ratio).toLocaleString('en') : ratio.toFixed(ratio >= 9.995 ? 1 : 2)} ×`;
}

/** From least to most, with the unit once; one figure where they read the same. */
export function range(least: number, most: number, form: (value: number) => string): string {
  const [from, to] = [form(least), form(most)];
  const unit = / \S+$/.exec(to)?.[0] ?? '';
  return from === to ? from : `${from.endsWith(unit) ? from.slice(0, from.length - unit.length) : from} to ${to}`;
}

export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString('en')} ${value === 1 ? one : many}`;
}

/** "a", "a and b", "a, b and c". */
export function listing(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
