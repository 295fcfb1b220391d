import fc from 'fast-check';
import { POLICY_NAMES } from '../../../src/loop/loop.ts';

/** Lengths of a request: mostly short, so that much happens in few steps. */
export const LENGTHS = {
  prompt: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 100 })),
  maxTokens: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 92 })),
};

/** What a loop of any kind may be made with; `moreTokens` than rows make its stepTokens. */
export const SETTING = {
  policy: fc.constantFrom(...POLICY_NAMES),
  admission: fc.constantFrom('optimistic' as const, 'reserve' as const),
  rows: fc.integer({ min: 1, max: 6 }),
  moreTokens: fc.oneof(fc.nat({ max: 10 }), fc.nat({ max: 300 })),
  chunkTokens: fc.integer({ min: 1, max: 64 }),
  preemptEvery: fc.constantFrom<number[]>(0, 0, 1, 3, 7),
  preemptBy: fc.constantFrom('park' as const, 'park' as const, 'recompute' as const),
  hostSlots: fc.constantFrom<number[]>(0, 64, 192, 1024),
  agingMs: fc.constantFrom<number[]>(1, 10, 10_000),
};
