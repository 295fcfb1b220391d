#!/usr/bin/env node
import { env } from '../env.ts';
import { EngineError } from '../errors.ts';
import { nearestName } from '../options.ts';
import { bench } from './bench.ts';
import { build } from './build.ts';
import { chat } from './chat.ts';
import type { Command } from './command.ts';
import { demo } from './demo.ts';
import { UsageError } from '../flags.ts';
import { generate } from './generate.ts';
import { info } from './info.ts';
import { packageVersion } from './package.ts';
import { report } from './report.ts';

const COMMANDS: Readonly<Record<string, Command>> = { demo, generate, chat, info, bench, report, build };

function help(): string {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(9)} ${summary}`);
  return `baton: runs language models inside Node, with rows that are never idle

Usage: baton COMMAND [options]

${lines.join('\n')}

baton COMMAND --help says more. Exit codes: 0 done, 1 failed, 2 wrong usage.`;
}

async function run([name, ...rest]: readonly string[]): Promise<number> {
  if (name === undefined) {
    console.error(help());
    return 2;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    console.log(help());
    return 0;
  }
  if (name === '--version') {
    console.log(packageVersion());
    return 0;
  }
  let command = find(name, COMMANDS);
  let args = rest;
  const [second = '-'] = rest;
  if (command.commands !== undefined && !second.startsWith('-')) {
    command = find(second, command.commands);
    args = rest.slice(1);
  }
  if (args.includes('--help') || args.includes('-h')) {
    console.log(command.help);
    return 0;
  }
  return command.run(args);
}

function find(name: string, commands: Readonly<Record<string, Command>>): Command {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command !== undefined) return command;
  const nearest = nearestName(name, Object.keys(commands));
  const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`;
  throw new UsageError(`unknown command ${JSON.stringify(name)}${hint}`);
}

/** Wrong options are wrong usage, wherever they were found out. */
function exitCodeOf(error: unknown): number {
  return error instanceof UsageError || (error instanceof EngineError && error.code === 'INVALID_OPTION') ? 2 : 1;
}

// A reader that has had enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const args = process.argv.slice(2);
try {
  process.exitCode = await run(args);
} catch (error) {
  process.exitCode = exitCodeOf(error);
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const code = error instanceof EngineError ? ` (${error.code})` : '';
  process.stderr.write(`baton: ${message}${code}\n`);
  const command = Object.hasOwn(COMMANDS, args[0] ?? '') ? `${args[0]} ` : '';
  if (process.exitCode === 2) process.stderr.write(`baton ${command}--help says more\n`);
  if (debugging()) process.stderr.write(`${stack}\n`);
}

/** The environment itself may be what was wrong. */
function debugging(): boolean {
  try {
    return env.debug;
  } catch {
    return false;
  }
}
