import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The folder of the package; this file lies two folders below it, as source and as built. */
export const PACKAGE = fileURLToPath(new URL('../..', import.meta.url));

export { TALES } from '../model/tales.ts';

export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(`${PACKAGE}package.json`, 'utf8')) as { version: string };
  return version;
}
