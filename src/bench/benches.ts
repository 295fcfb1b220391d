import type { Bench } from './bench.ts';
import { kernels } from './kernels.ts';
import { peers } from './peers.ts';
import { relay } from './relay.ts';
import { scale } from './scale.ts';

/** The experiments by name, in the order in which help lists them. */
export const BENCHES: Readonly<Record<string, Bench>> = { kernels, relay, peers, scale };
