import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { EngineError } from '../errors.ts';

/** The special tokens that a template may write. */
export interface TemplateTokens {
  readonly bosText: string | null;
  readonly eosText: string | null;
}

const MOST_RANGE = 100_000; // a template comes from a model folder, and nobody else limits its loops

/** A model's chat template: a conversation in, the text that the model was trained to continue out. */
export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;
  readonly #tokens: TemplateTokens;
  readonly #now: () => Date;

  constructor(source: string, tokens: TemplateTokens, now: () => Date = () => new Date()) {
    try {
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (cause) {
      const message = `chat template: expected Jinja, got a syntax error: ${messageOf(cause)}`;
      throw new EngineError('MODEL_FORMAT', message, { cause });
    }
    this.#tokens = tokens;
    this.#now = now;
  }

  /** `addGenerationPrompt` opens the assistant's turn, for the model to fill. */
  render(messages: readonly { readonly role: string; readonly content: string }[], addGenerationPrompt = true): string {
    const environment = new Environment();
    const globals = {
      true: true,
      false: false,
      none: null,
      True: true,
      False: false,
      None: null,
      messages: messages.map((message) => ({ ...message })),
      add_generation_prompt: addGenerationPrompt,
      bos_token: this.#tokens.bosText ?? '',
      eos_token: this.#tokens.eosText ?? '',
      range,
      strftime_now: (format: string) => strftime(this.#now(), format),
      raise_exception: (reason: string) => {
        throw new EngineError('INVALID_OPTION', `messages: the model's chat template refused them: ${reason}`);
      },
    };
    for (const [name, value] of Object.entries(globals)) environment.set(name, value);

    try {
      return String(new Interpreter(environment).run(this.#program).value);
    } catch (cause) {
      if (cause instanceof EngineError) throw cause;
      throw new EngineError('MODEL_FORMAT', `chat template: failed on these messages: ${messageOf(cause)}`, { cause });
    }
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** Python's range, with one to three numbers. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!(count <= MOST_RANGE)) throw new Error(`range: expected at most ${MOST_RANGE} numbers, got ${count}`);
  return Array.from({ length: count }, (_, i) => start + i * step);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** Python's strftime in its C locale, local time; templates use it to write today's date. */
function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const month = MONTHS[date.getMonth()] ?? '';
  const day = DAYS[date.getDay()] ?? '';
  const fields: Record<string, string> = {
    '%Y': String(date.getFullYear()),
    '%y': two(date.getFullYear() % 100),
    '%m': two(date.getMonth() + 1),
    '%d': two(date.getDate()),
    '%B': month,
    '%b': month.slice(0, 3),
    '%A': day,
    '%a': day.slice(0, 3),
    '%H': two(date.getHours()),
    '%M': two(date.getMinutes()),
    '%S': two(date.getSeconds()),
    '%%': '%',
  };
  return format.replace(/%./g, (field) => fields[field] ?? field);
}
