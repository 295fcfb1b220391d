import { createInterface } from 'node:readline/promises';
import type { Engine } from '../engine.ts';
import type { Completion } from '../engine/run.ts';
import { EngineError } from '../errors.ts';
import type { ChatMessage, RequestOptions } from '../options.ts';
import { type Command, loadEngine, printJson, printText } from './command.ts';
import { HELP_FLAG, helpOf, JSON_FLAG, LOAD_FLAGS, MODEL_FLAG, readFlags, REQUEST_FLAGS, toOptions } from '../flags.ts';
import { TALES } from './package.ts';

const DEFAULT_MAX_TOKENS = 256; // leaves room for turns to come

const FLAGS = {
  system: { type: 'text', value: 'TEXT', help: 'instructions that stand before the conversation' },
  ...REQUEST_FLAGS,
  ...MODEL_FLAG,
  ...LOAD_FLAGS,
  ...JSON_FLAG,
  ...HELP_FLAG,
} as const;

export const chat: Command = {
  summary: 'talk with a model',
  help: `Usage: baton chat [--model DIR] [options]

Every line is a turn. Ctrl-C ends an answer, /reset forgets the conversation, /exit or the end of input leaves.
When the context is full, the oldest turns are forgotten. With --json, the turns are printed at the end.

${helpOf(FLAGS)}`,

  async run(args) {
    const values = readFlags(args, FLAGS);
    const options = { maxTokens: DEFAULT_MAX_TOKENS, ...toOptions(values, REQUEST_FLAGS) };
    const json = values.json === true;
    const prompt = json || process.stdin.isTTY !== true ? '' : '> ';
    await using engine = await loadEngine(values.model ?? TALES, { rows: 1, ...toOptions(values, LOAD_FLAGS) });

    await engine.stream({ ...options, prompt: '' }).return(); // wrong options are refused before the first turn

    const system: ChatMessage[] = values.system === undefined ? [] : [{ role: 'system', content: values.system }];
    const messages: ChatMessage[] = [];
    const turns: ({ user: string } & Completion)[] = [];
    const lines = createInterface({ input: process.stdin, output: prompt === '' ? undefined : process.stdout, prompt });
    let answering: AbortController | undefined;
    lines.on('SIGINT', () => (answering === undefined ? lines.close() : answering.abort()));

    lines.prompt();
    for await (const line of lines) {
      const user = line.trim();
      if (user === '/exit') break;
      if (user === '/reset') messages.length = 0;
      else if (user !== '') {
        messages.push({ role: 'user', content: user });
        answering = new AbortController();
        try {
          const answer = await reply(engine, system, messages, { ...options, signal: answering.signal }, json);
          messages.push({ role: 'assistant', content: answer.text });
          turns.push({ user, ...answer });
        } catch (error) {
          // A turn that is too long, or that the template refuses, ends nothing but itself.
          if (!(error instanceof EngineError && ['TOO_LONG', 'INVALID_OPTION'].includes(error.code))) throw error;
          process.stderr.write(`${error.message}\n`);
          messages.pop();
        }
        answering = undefined;
      }
      lines.prompt();
    }
    lines.close();
    if (json) printJson({ turns });
    return 0;
  },
};

/** Answers the last message, forgetting the oldest turns until the conversation fits. */
async function reply(
  engine: Engine,
  system: readonly ChatMessage[],
  messages: ChatMessage[],
  options: RequestOptions,
  quiet: boolean,
): Promise<Completion> {
  for (;;) {
    const stream = engine.stream({ ...options, messages: [...system, ...messages] });
    try {
      for await (const { text } of stream) if (!quiet) printText(text);
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'TOO_LONG' || messages.length < 3) throw error;
      messages.splice(0, 2);
      continue;
    }
    if (!quiet) process.stdout.write('\n');
    if (stream.completion !== undefined) return stream.completion;
    throw new EngineError('INTERNAL', 'chat: the stream ended without a completion');
  }
}
