import { Loop } from '../loop/loop.ts';
import { Request } from '../loop/request.ts';
import { GREEDY, type NativeEngine } from '../native.ts';

/** Milliseconds of decode steps in which each of so many rows attends to about `x` tokens. */
export interface ContextTimes {
  readonly x: number;
  readonly rows: number;
  readonly ms: readonly number[];
}

const FIRST_MARK = 64; // tokens; each is twice the one before, and the last is the length of the text
const STEPS = 16; // decode steps up to each mark
const UNCOUNTED = 4; // of them, the first

/** `used` rows begin and end together; what was computed of the text for one mark is copied for the next. */
export async function timeContexts(
  engine: NativeEngine,
  { rows, stepTokens }: { readonly rows: number; readonly stepTokens: number }, // that it was loaded with
  text: readonly number[],
  used: number,
): Promise<ContextTimes[]> {
  const context = text.length;
  let ms: number[] = [];
  let decodes = 0;
  const loop = new Loop(engine, {
    rows,
    context,
    stepTokens,
    policy: 'static',
    admission: 'optimistic',
    overlap: engine.device !== 'cpu', // as the library has it
    queueRequests: rows,
    queueTokens: rows * context,
    onToken: () => {},
    onFinish: (_request, _reason, error) => {
      if (error !== undefined) throw error;
    },
    onStep: (step) => {
      if (step.chunkTokens === 0 && ++decodes > UNCOUNTED) ms.push(step.ms);
    },
  });
  const times: ContextTimes[] = [];
  for (let mark = FIRST_MARK; ; mark *= 2) {
    const x = Math.min(mark, context);
    ms = [];
    decodes = 0;
    const asked = { prompt: text.slice(0, x - STEPS), maxTokens: STEPS, minTokens: 0, stopTokens: new Set<number>() };
    for (let id = 0; id < used; id++) loop.add(new Request(id, { ...asked, sampling: GREEDY }));
    while (!loop.idle) await loop.tick();
    times.push({ x, rows: used, ms });
    if (x === context) return times;
  }
}
