import { readFile } from 'node:fs/promises';
import type { Engine } from '../engine.ts';
import type { Completion } from '../engine/run.ts';
import { EngineError } from '../errors.ts';
import type { RequestOptions } from '../options.ts';
import { type Command, loadEngine, printJson, printText } from './command.ts';
import { HELP_FLAG, helpOf, JSON_FLAG, LOAD_FLAGS, MODEL_FLAG, readFlags, REQUEST_FLAGS } from '../flags.ts';
import { toOptions, UsageError } from '../flags.ts';
import { TALES } from './package.ts';
import { Progress } from './progress.ts';

const DEFAULT_ROWS = 32;
const AHEAD = 4; // requests in flight per row: enough that no row waits, few enough for any number of prompts

const FLAGS = {
  prompt: { type: 'text', value: 'TEXT', help: 'what to continue' },
  prompts: { type: 'text', value: 'FILE', help: 'many: on each line a JSON text, or { prompt, …request options }' },
  n: { type: 'number', value: 'N', help: 'continuations of the same prompt' },
  ...REQUEST_FLAGS,
  ...MODEL_FLAG,
  ...LOAD_FLAGS,
  ...JSON_FLAG,
  ...HELP_FLAG,
} as const;

export const generate: Command = {
  summary: 'continue a prompt, or a file of prompts',
  help: `Usage: baton generate --prompt TEXT [options]
       baton generate --prompts FILE.jsonl [options]

Streams the text of one prompt. Many prompts share the batch; each answer is one line of JSON, in the order of the
prompts, and options in a line go before those of the command line.

${helpOf(FLAGS)}`,

  async run(args) {
    const values = readFlags(args, FLAGS);
    if ((values.prompt === undefined) === (values.prompts === undefined)) {
      throw new UsageError(`expected --prompt or --prompts, got ${values.prompt === undefined ? 'neither' : 'both'}`);
    }
    const request: RequestOptions = toOptions(values, { ...REQUEST_FLAGS, n: FLAGS.n });
    const requests = values.prompts === undefined ? [] : await readPrompts(values.prompts, request);
    const load = toOptions(values, LOAD_FLAGS);
    const inFlight = AHEAD * (values.rows ?? DEFAULT_ROWS);
    // Each of them may ask for as many choices as there can be.
    const many = values.prompts === undefined ? {} : { queueRequests: Math.max(1, inFlight) * 64 };

    await using engine = await loadEngine(values.model ?? TALES, { rows: DEFAULT_ROWS, ...many, ...load });
    if (values.prompts !== undefined) return await runMany(engine, requests, inFlight, values.json === true);
    const one = { ...request, prompt: values.prompt ?? '' };
    if (values.json) printJson(await engine.complete(one));
    else await print(engine, one);
    return 0;
  },
};

/** One continuation as it grows; several one after another. */
async function print(engine: Engine, options: RequestOptions): Promise<void> {
  if ((options.n ?? 1) > 1) {
    const { choices = [] } = await engine.complete(options);
    for (const [i, { text }] of choices.entries()) printText(`[${i + 1}] ${text}\n\n`);
    return;
  }
  for await (const { text } of engine.stream(options)) printText(text);
  process.stdout.write('\n');
}

async function readPrompts(path: string, defaults: RequestOptions): Promise<RequestOptions[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new UsageError(`--prompts: expected a file that can be read, got ${path} (${(cause as Error).message})`);
  }
  const requests: RequestOptions[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (cause) {
      throw new UsageError(`${path}, line ${i + 1}: expected JSON, got ${(cause as Error).message}`);
    }
    if (typeof value === 'string') value = { prompt: value };
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new UsageError(`${path}, line ${i + 1}: expected a text or an object`);
    }
    requests.push({ ...defaults, ...value });
  }
  return requests;
}

type Answer = Completion | { readonly error: { readonly code: string; readonly message: string } };

/** A prompt that fails has its error in its place and spares the others; the exit code tells. */
async function runMany(
  engine: Engine,
  requests: readonly RequestOptions[],
  inFlight: number,
  json: boolean,
): Promise<number> {
  const answers: (Answer | undefined)[] = [];
  const progress = new Progress('generating');
  let next = 0;
  let done = 0;
  let printed = 0;
  let failed = false;

  const lane = async () => {
    for (let i = next++; i < requests.length; i = next++) {
      try {
        answers[i] = await engine.complete(requests[i] as RequestOptions);
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        answers[i] = { error: { code: error.code, message: error.message } };
        failed = true;
      }
      progress.show(++done / requests.length, `${done}/${requests.length}`);
      if (json) continue;
      for (let answer; (answer = answers[printed]) !== undefined; answers[printed++] = undefined) {
        progress.end();
        process.stdout.write(`${JSON.stringify(answer)}\n`);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlight, requests.length) }, lane));
  progress.end();
  if (json) printJson(answers);
  return failed ? 1 : 0;
}
