// Engine.load: seconds, and memory against weights + keys and values. Synthetic Llama-3.2-1B weights, made once; each
// contender in a process of its own, because only a new process shows its peak.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Engine } from '../src/index.ts';
import { writeScriptRecord } from '../src/bench/record.ts';
import { findModel } from '../src/bench/models.ts';

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'Llama-3.2-1B' },
    weights: { type: 'string', default: 'int8,bf16' },
    one: { type: 'string' },
    out: { type: 'string' },
  },
});
const { folder } = await findModel(flags.shape);

/** Peak resident memory that is not the page cache of a mapped file, in bytes. */
function anonymousBytes(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return 1024 * Number(/RssAnon:\s+(\d+)/.exec(status)?.[1]);
}

function peakBytes(): number {
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

async function measure(weights: 'int8' | 'bf16') {
  const before = anonymousBytes();
  const start = performance.now();
  const engine = await Engine.load(folder, { weights, maxContext: 1024, rows: 4 });
  const seconds = (performance.now() - start) / 1000;
  const { tokens } = await engine.complete({ prompt: [1, 2, 3], maxTokens: 8, temperature: 0, ignoreEos: true });
  const { weightBytes, slotBytes, slots } = engine.stats().model;
  const kvBytes = slotBytes * slots;
  const overhead = (anonymousBytes() - weightBytes - kvBytes) / 1e6;
  await engine.close();
  return {
    shape: flags.shape,
    weights,
    seconds,
    tokens: tokens.length,
    weightMegabytes: weightBytes / 1e6,
    kvMegabytes: kvBytes / 1e6,
    beforeMegabytes: before / 1e6,
    overheadMegabytes: overhead,
    peakMegabytes: peakBytes() / 1e6,
  };
}

if (flags.one !== undefined) {
  console.log(JSON.stringify(await measure(flags.one as 'int8')));
} else {
  const results = flags.weights.split(',').map((weights) => {
    const command = ['--import', 'tsx', fileURLToPath(import.meta.url), '--shape', flags.shape, '--one', weights];
    return JSON.parse(execFileSync(process.execPath, command, { encoding: 'utf8' })) as Awaited<ReturnType<typeof measure>>;
  });
  for (const { weights, seconds, weightMegabytes, kvMegabytes, overheadMegabytes, peakMegabytes } of results) {
    console.log(
      `${flags.shape} (synthetic) ${weights}: ${weightMegabytes.toFixed(0)} MB of weights in ${seconds.toFixed(2)} s; memory ` +
        `weights + ${kvMegabytes.toFixed(0)} MB of keys and values + ${overheadMegabytes.toFixed(0)} MB (peak with mapped file pages ${peakMegabytes.toFixed(0)} MB)`,
    );
  }
  writeScriptRecord(flags.out, results);
}
