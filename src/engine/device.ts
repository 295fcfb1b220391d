import { freemem } from 'node:os';
import type { Addon } from '../native.ts';

/** Where a model goes, and what that means for its sizes. */
export interface ChosenDevice {
  readonly name: string;
  readonly freeBytes: number;
  readonly hostFreeBytes: number;
  /** Its memory is nobody else's: what the model leaves of it may become the arena. */
  readonly gpu: boolean;
}

/** `auto` takes the first GPU there is, else the CPU. Throws a native error if there is no such device. */
export function chooseDevice(addon: Addon, asked: string): ChosenDevice {
  const name = asked === 'auto' ? (addon.cuda().devices.find(isGpu)?.name ?? 'cpu') : asked;
  const gpu = isGpu({ name });
  const hostFreeBytes = freemem();
  return { name, gpu, freeBytes: gpu ? addon.cudaFreeBytes(name) : hostFreeBytes, hostFreeBytes };
}

/** The emulator is none. */
function isGpu({ name }: { readonly name: string }): boolean {
  return /^cuda(:|$)/.test(name);
}
