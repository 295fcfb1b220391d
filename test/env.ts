import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readEnv } from '../src/env.ts';
import { EngineError } from '../src/errors.ts';

const env = suite('env');

env('is all defaults where nothing is set, or set to nothing', () => {
  const names = ['DEVICE', 'THREADS', 'ISA', 'CUBLASLT', 'CHECK', 'TRACE', 'DEBUG', 'PREEMPT_EVERY', 'LLM_PREBUILD'];
  const empty = Object.fromEntries([...names.map((name) => `BATON_${name}`), 'CXX', 'NO_COLOR'].map((name) => [name, '']));
  const expected = {
    device: undefined,
    threads: undefined,
    isa: undefined,
    noGraph: false,
    sync: false,
    cublasLt: '',
    check: false,
    trace: false,
    debug: false,
    preemptEvery: undefined,
    prebuild: undefined,
    cxx: undefined,
    noColor: false,
  };
  assert.equal({ ...readEnv({}) }, expected);
  assert.equal({ ...readEnv(empty) }, expected);
});

env('reads what is set', () => {
  const set = readEnv({
    BATON_DEVICE: 'cpu',
    BATON_THREADS: '4',
    BATON_ISA: 'avx2',
    BATON_NO_GRAPH: '1',
    BATON_SYNC: '1',
    BATON_CUBLASLT: '1',
    BATON_CHECK: '1',
    BATON_TRACE: '0',
    BATON_DEBUG: '1',
    BATON_PREEMPT_EVERY: '7',
    BATON_LLM_PREBUILD: '/opt/baton',
    CXX: 'g++-13',
    NO_COLOR: 'yes',
  });
  const switches = { noGraph: true, sync: true, cublasLt: 'auto', check: true, trace: false, debug: true, preemptEvery: 7, noColor: true };
  const texts = { device: 'cpu', isa: 'avx2', prebuild: '/opt/baton', cxx: 'g++-13' };
  const expected = { ...texts, threads: 4, ...switches };
  assert.equal({ ...set }, expected);
  assert.is(readEnv({ BATON_DEVICE: 'cuda:1' }).device, 'cuda:1');
  assert.is(readEnv({ BATON_CUBLASLT: '0' }).cublasLt, '');
  assert.is(readEnv({ BATON_CUBLASLT: 'libs/libcublasLt.so' }).cublasLt, 'libs/libcublasLt.so');
});

const WRONG: readonly [string, string, 'device' | 'threads' | 'isa' | 'check'][] = [
  ['BATON_DEVICE', 'gpu', 'device'],
  ['BATON_DEVICE', 'cuda:', 'device'],
  ['BATON_THREADS', '0', 'threads'],
  ['BATON_THREADS', '257', 'threads'],
  ['BATON_THREADS', '-1', 'threads'],
  ['BATON_THREADS', '2.5', 'threads'],
  ['BATON_THREADS', '0x10', 'threads'],
  ['BATON_THREADS', 'four', 'threads'],
  ['BATON_ISA', 'AVX2', 'isa'],
  ['BATON_CHECK', 'true', 'check'],
];
for (const [name, value, key] of WRONG) {
  env(`refuses ${name}=${value}, when it is asked for`, () => {
    const wrong = readEnv({ [name]: value });
    assert.throws(
      () => wrong[key],
      (error: EngineError) => {
        assert.is(error.code, 'INVALID_OPTION');
        assert.match(error.message, new RegExp(`^${name}: expected .*, got '${value}'$`));
        return true;
      },
    );
  });
}

env.run();
