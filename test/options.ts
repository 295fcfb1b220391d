import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../src/errors.ts';
import { nearestName, readLoadOptions, readRequestOptions } from '../src/options.ts';

const options = suite('Options');

const load = (value: unknown) => () => readLoadOptions(value);
const request = (value: object) => () => readRequestOptions({ prompt: 'x', ...value }, { vocabulary: 100 });

function refused(run: () => unknown, message: RegExp, code = 'INVALID_OPTION'): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    assert.is(error.code, code, error.message);
    assert.match(error.message, message);
    return;
  }
  assert.unreachable(`expected to be refused with ${message}`);
}

options('reads load options as they are', () => {
  const sizes = { kvBytes: 1e9, maxContext: 100, rows: 1024, threads: 0, queueRequests: 1, queueTokens: 1 };
  const names = { device: 'cpu', weights: 'int8', kv: 'f32', policy: 'static', admission: 'reserve', isa: 'scalar' };
  const given = { ...sizes, ...names, prefixReuse: false, onProgress() {} };
  assert.equal(readLoadOptions(given), given);
  assert.equal(readLoadOptions({ rows: undefined }), {});
});

options('names the nearest option when one is unknown', () => {
  refused(load({ row: 3 }), /unknown option "row"; did you mean rows\?/);
  refused(load({ KVBytes: 3 }), /did you mean kvBytes\?/);
  refused(request({ max_tokens: 3 }), /did you mean maxTokens\?/);
  refused(request({ temprature: 3 }), /did you mean temperature\?/);
  refused(request({ stopTokens: [] }), /did you mean stopTokenIds\?/);
  refused(request({ zebra: 1 }), /unknown option "zebra"; expected one of prompt, messages/);
  refused(request(JSON.parse('{"__proto__": 1}') as object), /unknown option|neither/);
  refused(load({ toString: 1 }), /unknown option "toString"/);
  assert.is(nearestName('x'.repeat(1e6), ['rows']), undefined);
});

options('refuses options that would have no effect yet', () => {
  refused(load({ targetItlMs: 20 }), /unknown option "targetItlMs"/);
});

options('takes a salt of up to 256 characters, and prefix reuse on or off', () => {
  const read = (value: object) => readRequestOptions({ prompt: 'x', ...value }, { vocabulary: 100 });
  for (const cacheSalt of ['', 'tenant 7', 'x'.repeat(256)]) assert.is(read({ cacheSalt }).cacheSalt, cacheSalt);
  for (const cacheSalt of ['x'.repeat(257), 7, null]) {
    refused(request({ cacheSalt }), /^cacheSalt: expected text of at most 256 characters, got /);
  }
  refused(load({ prefixReuse: 'no' }), /^prefixReuse: expected true or false, got "no"/);
});

options('says which policies and devices there are', () => {
  refused(load({ policy: 'orca' }), /policy: expected one of relay, static, got "orca"/);
  assert.is(readLoadOptions({ device: 'cuda:1' }).device, 'cuda:1');
  refused(load({ device: 'tpu' }), /device: expected auto, cpu, cuda or cuda:N, got "tpu"/);
  refused(load({ device: 'cuda:' }), /device: expected auto/);
});

const RANGES = {
  rows: [1, 1024],
  threads: [0, 1024],
  kvBytes: [1, Number.MAX_SAFE_INTEGER],
  maxContext: [1, 2 ** 31 - 1],
  queueRequests: [1, 2 ** 31 - 1],
  queueTokens: [1, Number.MAX_SAFE_INTEGER],
  maxTokens: [1, 2 ** 31 - 1],
  minTokens: [0, 2 ** 31 - 1],
  topK: [-1, 2 ** 31 - 1],
  seed: [0, Number.MAX_SAFE_INTEGER],
  n: [1, 64],
  logprobs: [0, 20],
  priority: [1 - 2 ** 31, 2 ** 31 - 1],
} as const;

const NO_NUMBERS = [NaN, Infinity, -Infinity, 1e400, '1', true, null, [1], {}, 1n, Symbol('1'), () => 1];

options('takes integers inside their range only', () => {
  const ofLoading = ['rows', 'threads', 'kvBytes', 'maxContext', 'queueRequests', 'queueTokens'];
  for (const [name, [least, most]] of Object.entries(RANGES)) {
    const read = (value: unknown) => (ofLoading.includes(name) ? load : request)({ [name]: value });
    for (const value of [least, most]) read(value)();
    for (const value of [least - 1, most + 1, least + 0.5, 2 ** 53 + 2, ...NO_NUMBERS]) {
      refused(read(value), new RegExp(`^${name}: expected an integer from ${least} to ${most}, got `));
    }
  }
});

options('takes finite numbers inside their range only', () => {
  const ranges: Record<string, { good: number[]; bad: number[] }> = {
    temperature: { good: [0, 2], bad: [-0.1, 2.1] },
    topP: { good: [1e-9, 1], bad: [0, 1.1, -1] },
    minP: { good: [0, 1], bad: [-0.1, 1.1] },
    repetitionPenalty: { good: [0.01, 2], bad: [0, -1] },
    presencePenalty: { good: [-2, 2], bad: [-2.1, 2.1] },
    frequencyPenalty: { good: [-2, 2], bad: [-2.1, 2.1] },
  };
  for (const [name, { good, bad }] of Object.entries(ranges)) {
    for (const value of good) request({ [name]: value })();
    const message = new RegExp(`^${name}: expected a number `);
    for (const value of [...bad, ...NO_NUMBERS]) refused(request({ [name]: value }), message);
  }
});

options('reads the small forms of values into one', () => {
  const read = (value: object) => readRequestOptions({ prompt: 'x', ...value }, { vocabulary: 100 });
  assert.is(read({ temperature: 1e-6 }).temperature, 0);
  assert.is(read({ topK: -1 }).topK, 0);
  assert.equal(read({ stop: 'end' }).stop, ['end']);
  assert.equal(read({ logitBias: { 7: -100, 99: 1 } }).logitBias, [[7, -100], [99, 1]]);
  assert.equal(readRequestOptions({ prompt: Int32Array.of(1, 2) }, { vocabulary: 100 }).prompt, [1, 2]);
});

options('needs a prompt or messages, not both', () => {
  refused(() => readRequestOptions({}, { vocabulary: 100 }), /expected prompt or messages, got neither/);
  refused(request({ messages: [{ role: 'user', content: '' }] }), /got both/);
  for (const value of [undefined, null, 'text', 7, []]) {
    refused(() => readRequestOptions(value, { vocabulary: 100 }), /request options: expected an object/);
  }
});

options('takes token ids of the vocabulary only', () => {
  refused(request({ prompt: [1, 100] }), /^prompt\[1\]: expected an integer from 0 to 99, got 100/);
  refused(request({ prompt: [-1] }), /^prompt\[0\]/);
  refused(request({ prompt: [1.5] }), /^prompt\[0\]/);
  refused(request({ prompt: ['1'] }), /^prompt\[0\]/);
  refused(request({ prompt: [] }), /at least one token/);
  refused(request({ prompt: 7 }), /^prompt: expected text/);
  refused(request({ stopTokenIds: [100] }), /expected an integer from 0 to 99, got 100/);
  refused(request({ stopTokenIds: new Array(1025).fill(1) }), /at most 1024/);
  refused(request({ logitBias: { 100: 1 } }), /logitBias: expected token ids/);
  refused(request({ logitBias: { '1e1': 1 } }), /logitBias: expected token ids/);
  refused(request({ logitBias: { 1: 101 } }), /logitBias\[1\]: expected a number from -100 to 100, got 101/);
  refused(request({ logitBias: { 1: NaN } }), /logitBias\[1\]/);
  refused(request({ logitBias: [1] }), /logitBias: expected/);
});

options('takes up to 16 stops, none of them empty or half a character', () => {
  request({ stop: new Array(16).fill('x') })();
  for (const stop of [new Array(17).fill('x'), '', ['a', ''], [1], 7, '\ud83d', { 0: 'a' }]) {
    refused(request({ stop }), /^stop: expected text/);
  }
});

options('takes messages with a role and content, and nothing it would ignore', () => {
  const read = (messages: unknown) => () => readRequestOptions({ messages }, { vocabulary: 100 });
  read([{ role: 'user', content: 'x' }])();
  refused(read([]), /^messages: expected an array of at least one/);
  refused(read('x'), /^messages: expected/);
  refused(read([null]), /messages\[0\]: expected an object/);
  refused(read([{ role: 'user' }]), /messages\[0\]: expected role and content/);
  refused(read([{ role: 'user', content: 7 }]), /content: expected text, got 7/);
  refused(read([{ role: 'user', content: 'x', name: 'y' }]), /messages\[0\]: unknown option "name"/);
});

options('refuses minTokens beyond maxTokens, and values that are no flag, function or signal', () => {
  refused(request({ minTokens: 5, maxTokens: 4 }), /minTokens: expected at most maxTokens \(4\), got 5/);
  refused(request({ ignoreEos: 1 }), /ignoreEos: expected true or false, got 1/);
  refused(request({ signal: {} }), /signal: expected an AbortSignal/);
  refused(load({ onProgress: 1 }), /onProgress: expected a function/);
});

options('answers anything with values or an EngineError', () => {
  const names = ['prompt', 'messages', 'stop', 'logitBias', 'seed', 'topP', 'signal', 'n', 'x'];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), fc.anything()), (value) => {
      try {
        readRequestOptions(value, { vocabulary: 100 });
      } catch (error) {
        assert.instance(error, EngineError);
        assert.ok((error as EngineError).message.length < 1000);
      }
    }),
    { numRuns: 2000, seed: 7 },
  );
});

options.run();
