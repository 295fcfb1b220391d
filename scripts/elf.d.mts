export interface Elf {
  /** As Node names it: x64, arm64. */
  readonly machine: string;
  /** Loads at any address. */
  readonly shared: boolean;
  /** Other libraries it must find. */
  readonly needed: readonly string[];
  /** RPATH and RUNPATH: where it would look for them first. */
  readonly runPaths: readonly string[];
  /** Versions of symbols they must have. */
  readonly versions: readonly string[];
  readonly exported: readonly string[];
  /** Its code must be written to when it is loaded. */
  readonly writesCode: boolean;
  readonly executableStack: boolean;
  /** Tables of addresses become read-only once they are filled, */
  readonly relro: boolean;
  /** all of them when it is loaded. */
  readonly bindNow: boolean;
  readonly dynamic: readonly { readonly at: number; readonly tag: number; readonly value: number }[];
  readonly stackAt: number | undefined;
  readonly symbolsAt: number;
}

export function readElf(bytes: Buffer): Elf;
