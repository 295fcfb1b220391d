import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EngineError } from '../../src/errors.ts';
import { readTrace, type TraceOptions, type TraceRequest } from '../../src/simulator/traces.ts';

const traces = suite('Traces');

const folder = mkdtempSync(join(tmpdir(), 'baton-traces-'));
traces.after(() => rmSync(folder, { recursive: true }));

function read(text: string, options?: TraceOptions): TraceRequest[] {
  const path = join(folder, 'trace');
  writeFileSync(path, text);
  return [...readTrace(path, options)];
}

function failure(text: string): string {
  try {
    read(text);
  } catch (error) {
    const { code, message } = error as EngineError;
    return `${code} ${message.replace(/^.*?, line/, 'line')}`;
  }
  return 'nothing';
}

const AZURE = 'TIMESTAMP,ContextTokens,GeneratedTokens\r\n';

traces('Azure 2023: dates to the microsecond, counted from the first', () => {
  const text = `${AZURE}2023-11-16 23:59:59.9000000,374,44\r\n2023-11-17 00:00:00.1234567,396,109\r\n`;
  const [first, second, ...rest] = read(text);
  assert.equal([first, rest], [{ promptTokens: 374, outputTokens: 44, arrivalMs: 0 }, []]);
  assert.equal([second?.promptTokens, second?.outputTokens], [396, 109]);
  assert.ok(Math.abs(second!.arrivalMs - 223.4567) < 0.001, `${second?.arrivalMs}`);
});

traces('Mooncake: milliseconds, and blocks of 512 tokens', () => {
  const text =
    '{"timestamp": 100, "input_length": 513, "output_length": 5, "hash_ids": [0, 7]}\n' +
    '{"timestamp": 3100, "input_length": 512, "output_length": 1, "hash_ids": [0]}';
  assert.equal(read(text), [
    { promptTokens: 513, outputTokens: 5, arrivalMs: 0, blocks: { ids: [0, 7], tokens: 512 } },
    { promptTokens: 512, outputTokens: 1, arrivalMs: 3000, blocks: { ids: [0], tokens: 512 } },
  ]);
});

traces('Vidur: seconds, columns in any order, and others beside them', () => {
  const text = 'num_decode_tokens,arrived_at,pd_ratio,num_prefill_tokens\n5,0.5,2.1,11\n7,2,1.5,12\n';
  assert.equal(read(text), [
    { promptTokens: 11, outputTokens: 5, arrivalMs: 0 },
    { promptTokens: 12, outputTokens: 7, arrivalMs: 1500 },
  ]);
});

traces('lengths without arrivals are all there at once', () => {
  const arrivals = read('num_prefill_tokens,num_decode_tokens\n1,2\n3,4\n').map(({ arrivalMs }) => arrivalMs);
  assert.equal(arrivals, [0, 0]);
});

traces('lengths and times can be scaled; a length stays at least one', () => {
  const line = (at: number) => `{"timestamp": ${at}, "input_length": 1024, "output_length": 3, "hash_ids": [1, 2]}\n`;
  assert.equal(read(line(0) + line(100), { lengthScale: 0.125, timeScale: 0.5 })[1], {
    promptTokens: 128,
    outputTokens: 1,
    arrivalMs: 50,
    blocks: { ids: [1, 2], tokens: 64 },
  });
});

traces('a file is read in pieces: lines and characters may lie across their borders', () => {
  const rows = Array.from({ length: 20_000 }, (_, i) => `${i},${(i % 900) + 1},${(i % 70) + 1},ä€`);
  const read20k = read(`timestamp,input_length,output_length,note\n${rows.join('\n')}\n`);
  assert.is(read20k.length, 20_000);
  assert.ok(
    read20k.every(
      (one, i) => one.arrivalMs === i && one.promptTokens === (i % 900) + 1 && one.outputTokens === (i % 70) + 1,
    ),
  );
});

traces('a line is read when it is asked for', () => {
  const path = join(folder, 'lazy');
  writeFileSync(path, `num_prefill_tokens,num_decode_tokens\n1,2\n1,none\n`);
  const source = readTrace(path);
  assert.equal(source.next().value, { promptTokens: 1, outputTokens: 2, arrivalMs: 0 });
  assert.throws(() => source.next());
});

const BAD: readonly [string, string, RegExp][] = [
  [
    'a length of zero',
    `${AZURE}2023-11-16 18:15:46.68,0,44\n`,
    /line 2: expected ContextTokens to be an integer from 1, got 0/,
  ],
  [
    'a length that is none',
    'input_length,output_length\n5,many\n',
    /line 2: expected output_length to be an integer from 1, got many/,
  ],
  ['half a token', 'input_length,output_length\n5,1\n\n5,1.5\n', /line 4: expected output_length .* got 1.5/],
  [
    'a field too few',
    'timestamp,input_length,output_length\n0,5\n',
    /line 2: expected 3 fields, as in the header, got 2/,
  ],
  ['a time that is none', `${AZURE}yesterday,5,5\n`, /line 2: expected TIMESTAMP to be a time, got yesterday/],
  ['a day that is none', `${AZURE}2023-13-41 18:15:46,5,5\n`, /line 2: expected TIMESTAMP to be a time/],
  [
    'a time before the last',
    'timestamp,input_length,output_length\n9,5,5\n7,5,5\n',
    /line 3: expected an arrival no earlier than the one before, got 2 ms less/,
  ],
  [
    'columns of another trace',
    'time,prompt,answer\n1,2,3\n',
    /line 2: expected one of ContextTokens, input_length, num_prefill_tokens, got time, prompt, answer/,
  ],
  [
    'broken JSON',
    '{"input_length": 5, "output_length": 5}\n{"input_length": 5,\n',
    /line 2: expected a JSON object, got {"input_length": 5,/,
  ],
  [
    'JSON that is no object',
    '{"input_length": 5, "output_length": 5}\n[5, 5]\n',
    /line 2: expected a JSON object, got \[5, 5\]/,
  ],
  [
    'blocks that do not fit the prompt',
    '{"input_length": 513, "output_length": 5, "hash_ids": [1]}\n',
    /line 1: expected hash_ids to be 2 integers from 0 for 513 tokens, got \[1\]/,
  ],
  [
    'blocks that are none',
    '{"input_length": 5, "output_length": 5, "hash_ids": "1"}\n',
    /line 1: expected hash_ids to be 1 integers/,
  ],
];

for (const [name, text, expected] of BAD) {
  traces(`${name} is an error with its line`, () => {
    const found = failure(text);
    assert.match(found, /^INVALID_ARGUMENT /);
    assert.match(found, expected);
  });
}

traces('a file that cannot be read is an error', () => {
  assert.throws(() => [...readTrace(join(folder, 'gone'))], /expected a file that can be read, got .*gone/);
});

const shared = fileURLToPath(new URL('../../../shared/traces/', import.meta.url));

/** Requests, tokens of prompts and outputs, and milliseconds of the whole, counted with another program. */
const REAL: readonly [string, readonly number[]][] = [
  ['AzureLLMInferenceTrace_conv.csv', [19_366, 22_361_870, 4_088_665, 3_501_722]],
  ['mooncake_conversation.jsonl', [12_031, 144_793_823, 4_122_048, 3_536_999]],
];

for (const [file, expected] of REAL) {
  const name = `the public trace ${file} is read whole`;
  if (!existsSync(shared + file)) {
    traces.skip(name);
    console.log(`SKIP ${name}: ../shared/traces is not here`);
    continue;
  }
  traces(name, () => {
    let [count, prompt, output, ms] = [0, 0, 0, 0];
    for (const { promptTokens, outputTokens, arrivalMs } of readTrace(shared + file)) {
      count++;
      prompt += promptTokens;
      output += outputTokens;
      ms = arrivalMs;
    }
    assert.equal([count, prompt, output, Math.round(ms)], expected);
  });
}

traces.run();
