import { fileURLToPath } from 'node:url';

/**
 * The folder of the small model that ships with this package.
 *
 * @example
 * await using engine = await Engine.load(TALES);
 */
export const TALES = fileURLToPath(new URL('../../models/tales', import.meta.url));
