import { EngineError } from './errors.ts';

/** `cuda-emu` is for tests: it exists only in builds against the emulator. */
export const DEVICE_NAME = /^(auto|cpu|cuda(-emu)?(:\d{1,3})?)$/;

/** What the environment says: defaults for options that were not given, and switches. Read when asked for. */
export interface Env {
  /** BATON_DEVICE: the device where no option names one. */
  readonly device: string | undefined;
  /** BATON_THREADS: threads of the CPU engine where no option names a number. */
  readonly threads: number | undefined;
  /** BATON_ISA: instruction set of the CPU engine where no option names one. */
  readonly isa: string | undefined;
  /** BATON_NO_GRAPH=1: no recorded steps on a GPU. */
  readonly noGraph: boolean;
  /** BATON_SYNC=1: the GPU is waited for after every launch, so that an error names its operation. */
  readonly sync: boolean;
  /** BATON_CUBLASLT: the library for large products on a GPU, as `NativeLoad` names it. The law of numerics then fails. */
  readonly cublasLt: string;
  /** BATON_CHECK=1: every invariant after every tick. */
  readonly check: boolean;
  /** BATON_TRACE=1: one line per tick on stderr. */
  readonly trace: boolean;
  /** BATON_DEBUG=1: errors show their causes and stacks. */
  readonly debug: boolean;
  /** BATON_PREEMPT_EVERY: a preemption forced every so many steps, for tests: it changes no token. */
  readonly preemptEvery: number | undefined;
  /** BATON_LLM_PREBUILD: the folder in which node-gyp-build looks for the addon. It reads the variable itself. */
  readonly prebuild: string | undefined;
  /** CXX: the compiler that CMake takes. It reads the variable itself. */
  readonly cxx: string | undefined;
  /** NO_COLOR: no colour on a terminal. */
  readonly noColor: boolean;
}

type Variables = Readonly<Record<string, string | undefined>>;

/** A variable set to nothing counts as not set. A value that means nothing throws INVALID_OPTION. */
export function readEnv(variables: Variables = process.env): Env {
  return {
    get device() {
      return choice(variables, 'BATON_DEVICE', DEVICE_NAME, 'auto, cpu, cuda or cuda:N');
    },
    get threads() {
      return integer(variables, 'BATON_THREADS', 1, 256);
    },
    get isa() {
      const isas = 'auto, amx, avx512, avx2, neon or scalar';
      return choice(variables, 'BATON_ISA', /^(auto|amx|avx512|avx2|neon|scalar)$/, isas);
    },
    get noGraph() {
      return flag(variables, 'BATON_NO_GRAPH');
    },
    get sync() {
      return flag(variables, 'BATON_SYNC');
    },
    get cublasLt() {
      const value = text(variables, 'BATON_CUBLASLT') ?? '0';
      return value === '0' ? '' : value === '1' ? 'auto' : value;
    },
    get check() {
      return flag(variables, 'BATON_CHECK');
    },
    get trace() {
      return flag(variables, 'BATON_TRACE');
    },
    get debug() {
      return flag(variables, 'BATON_DEBUG');
    },
    get preemptEvery() {
      return integer(variables, 'BATON_PREEMPT_EVERY', 1, 1_000_000);
    },
    get prebuild() {
      return text(variables, 'BATON_LLM_PREBUILD');
    },
    get cxx() {
      return text(variables, 'CXX');
    },
    get noColor() {
      return text(variables, 'NO_COLOR') !== undefined;
    },
  };
}

/** The only place that reads `process.env`. */
export const env: Env = readEnv();

function text(variables: Variables, name: string): string | undefined {
  return variables[name] || undefined;
}

function choice(variables: Variables, name: string, pattern: RegExp, expected: string): string | undefined {
  const value = text(variables, name);
  if (value === undefined || pattern.test(value)) return value;
  throw invalid(name, expected, value);
}

function integer(variables: Variables, name: string, least: number, most: number): number | undefined {
  const value = text(variables, name);
  if (value === undefined) return undefined;
  const number = Number(value);
  if (/^\d+$/.test(value) && number >= least && number <= most) return number;
  throw invalid(name, `an integer from ${least} to ${most}`, value);
}

function flag(variables: Variables, name: string): boolean {
  const value = text(variables, name);
  if (value === undefined || value === '0') return false;
  if (value === '1') return true;
  throw invalid(name, '0 or 1', value);
}

function invalid(name: string, expected: string, value: string): EngineError {
  return new EngineError('INVALID_OPTION', `${name}: expected ${expected}, got '${value}'`);
}
