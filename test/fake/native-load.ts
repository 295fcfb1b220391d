// The native engine as the tests of model folders need it: found or not, and given the least of everything.

import { fromNative } from '../../src/errors.ts';
import type { ModelFolder } from '../../src/model/load.ts';
import type { Addon, NativeEngine, NativeLoad } from '../../src/native.ts';

/** The addon, or why there is none. */
export async function findAddon(): Promise<{ readonly addon?: Addon; readonly reason?: string }> {
  try {
    const { loadAddon } = await import('../../src/addon.ts');
    return { addon: loadAddon() };
  } catch (error) {
    return { reason: (error as Error).message };
  }
}

export function smallestLoad(model: ModelFolder): NativeLoad {
  return {
    config: model.config,
    files: model.files,
    tensors: model.tensors,
    device: 'cpu',
    isa: 'auto',
    threads: 1,
    graphs: true,
    checkLaunches: false,
    cublasLt: '',
    weights: 'f32',
    kv: 'f32',
    slots: 64,
    hostSlots: 0,
    rows: 1,
    stepTokens: 16,
    context: Math.min(64, model.config.context),
  };
}

/** Rejects with an EngineError, as engine.ts would. */
export async function nativeLoad(
  addon: Addon,
  model: ModelFolder,
  changes: Partial<NativeLoad> = {},
): Promise<NativeEngine> {
  try {
    return await addon.load({ ...smallestLoad(model), ...changes });
  } catch (cause) {
    throw fromNative(cause);
  }
}
