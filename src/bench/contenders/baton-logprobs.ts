// Our log-probabilities along given texts: every text is a row, every step takes its next token, whatever was drawn.
import { loadAddon } from '../../addon.ts';
import { openModel } from '../../model/load.ts';
import { emptyResult, GREEDY, RUN_FIELDS, TOP_LOGPROBS } from '../../native.ts';
import type { OpenContender } from '../contender.ts';

export interface BatonLogprobsSetting {
  readonly model: string;
  readonly weights: string;
  readonly kv: string;
  /** Token ids, all texts of one length. */
  readonly texts: readonly (readonly number[])[];
}

/** Of every position of every text, one after another: the likeliest next tokens. */
export interface BatonLogprobs {
  readonly tokens: Int32Array; // [positions, 20], likeliest first
  readonly logprobs: Float32Array;
}

const SLOTS = 64; // an arena has a multiple of so many

export async function open({ model, weights, kv, texts }: BatonLogprobsSetting): Promise<OpenContender<BatonLogprobs>> {
  const { config, files, tensors } = await openModel(model);
  const rows = texts.length;
  const length = texts[0]!.length;
  const span = Math.ceil(length / SLOTS) * SLOTS;
  const limits = { slots: rows * span, hostSlots: 0, rows, stepTokens: rows, context: length, threads: 0 };
  const device = { device: 'cpu', isa: 'auto', graphs: true, checkLaunches: false, cublasLt: '' };
  const engine = await loadAddon().load({ config, files, tensors, weights, kv, ...limits, ...device });
  return {
    async play() {
      const tokens = new Int32Array(rows * length * TOP_LOGPROBS);
      const logprobs = new Float32Array(tokens.length);
      const result = emptyResult(rows);
      for (let position = 0; position < length; position++) {
        const runs = new Int32Array(rows * RUN_FIELDS);
        for (let row = 0; row < rows; row++) runs.set([row, row * span, 0, position, 1], row * RUN_FIELDS);
        const sampling = { ...GREEDY, logprobs: TOP_LOGPROBS };
        const starts = texts.map((_, row) => ({ row, sampling, tokens: [], promptLength: 0 }));
        await engine.step(
          {
            ...{ moves: new Int32Array(0), moveCount: 0, rowMoves: new Int32Array(0), rowMoveCount: 0 },
            starts: position === 0 ? starts : [],
            runs,
            runCount: rows,
            tokens: Int32Array.from(texts, (text) => text[position]!),
            tokenCount: rows,
          },
          result,
        );
        for (let row = 0; row < rows; row++) {
          const [from, to] = [row * TOP_LOGPROBS, (row * length + position) * TOP_LOGPROBS];
          tokens.set(result.topTokens.subarray(from, from + TOP_LOGPROBS), to);
          logprobs.set(result.topLogprobs.subarray(from, from + TOP_LOGPROBS), to);
        }
      }
      return { tokens, logprobs };
    },
    close: () => engine.close(),
  };
}
