import type { Bench } from './bench.ts';
import { peers } from './peers.ts';

/** The experiments by name, in the order in which help lists them. */
export const BENCHES: Readonly<Record<string, Bench>> = { peers };
