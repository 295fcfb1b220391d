// The engines of the comparison, as data: which number formats they have, and what their contenders are told.
import { loadAddon } from '../addon.ts';
import { contenderModule } from './contender.ts';
import type { BatonSetting } from './contenders/baton.ts';
import { findNodeLlama, missingNodeLlama, type NodeLlamaSetting } from './contenders/node-llama-cpp.ts';
import { findTransformers, type TransformersSetting } from './contenders/transformers.ts';
import type { GgufType } from './gguf-writer.ts';
import type { PeerSetting } from './peer-requests.ts';

export const BITS = ['32', '16', '8'] as const;
export type Bits = (typeof BITS)[number];

/** What is the same for all contenders of one comparison, `model` being the folder. */
export interface PeerWork extends Omit<PeerSetting, 'threads'> {
  readonly device: string;
  readonly context: number;
  /** All requests at a time with full contexts: on a GPU the contenders share its memory, and nobody may take it all. */
  readonly kvBytes: number;
  readonly from: string;
  /** The model as a GGUF file. */
  gguf(type: GgufType): Promise<string>;
}

/** What a contender may choose. */
export interface Variant {
  readonly format: string;
  readonly threads: number;
}

export interface PeerContender {
  /** As results call it. */
  readonly name: string;
  readonly module: URL;
  readonly devices: readonly string[];
  /** Those it has for so many bits. The quickest is used. */
  readonly formats: Readonly<Record<Bits, readonly string[]>>;
  /** Throws with the reason where it cannot be used. */
  version(from: string): string;
  setting(work: PeerWork, variant: Variant): Promise<PeerSetting>;
}

const SPARE_TOKENS = 8; // it shifts a context that is nearly full

function nodeLlama(name: string, mode: NodeLlamaSetting['mode']): PeerContender {
  return {
    name: `node-llama-cpp ${name}`,
    module: contenderModule('node-llama-cpp'),
    devices: ['cpu'],
    formats: { 32: ['f32'], 16: ['bf16', 'f16'], 8: ['q8_0'] },
    version(from) {
      const version = findNodeLlama(from);
      if (version === undefined) throw missingNodeLlama(from);
      return version;
    },
    async setting({ gguf, concurrency, requests, context, from }, { format, threads }): Promise<NodeLlamaSetting> {
      const model = await gguf(format as GgufType);
      return { model, threads, concurrency, requests, from, mode, context: context + SPARE_TOKENS };
    },
  };
}

function transformers(mode: TransformersSetting['mode']): PeerContender {
  return {
    name: `transformers ${mode}`,
    module: contenderModule('transformers'),
    devices: ['cuda', 'cpu'],
    formats: { 32: [], 16: ['bf16'], 8: [] },
    version: findTransformers,
    async setting({ model, device, concurrency, requests, context, from }, { threads }): Promise<TransformersSetting> {
      return { model, device, threads, concurrency, requests, context, from, mode };
    },
  };
}

export const PEER_CONTENDERS = {
  baton: {
    name: 'baton',
    module: contenderModule('baton'),
    devices: ['cpu', 'cuda'],
    formats: { 32: ['f32'], 16: ['bf16'], 8: ['int8'] },
    version: () => loadAddon().version,
    async setting(work, { format, threads }): Promise<BatonSetting> {
      const { model, device, concurrency, requests, context, kvBytes } = work;
      // Throughput is what is compared, and what the others are set up for.
      const options = { device, weights: format as 'bf16', maxContext: context, kvBytes, targetItlMs: Infinity };
      return { model, threads, concurrency, requests, options };
    },
  },
  evaluate: nodeLlama('evaluate', 'evaluate'),
  best: nodeLlama('best', 'lockstep'),
  generate: transformers('generate'),
  continuous: transformers('continuous'),
} as const satisfies Record<string, PeerContender>;

export type PeerName = keyof typeof PEER_CONTENDERS;
export const PEER_NAMES = Object.keys(PEER_CONTENDERS) as readonly PeerName[];
/** Those that are asked for where nobody says who. */
export const DEFAULT_PEERS: Readonly<Record<string, string>> = {
  cpu: 'baton,evaluate,best',
  cuda: 'baton,generate,continuous',
};
