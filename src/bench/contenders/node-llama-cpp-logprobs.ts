// llama.cpp's log-probabilities along given texts, from the raw logits of its controlledEvaluate.
import type { OpenContender } from '../contender.ts';
import { openNodeLlama } from './node-llama-cpp.ts';

export interface NodeLlamaLogprobsSetting {
  readonly from: string;
  /** A GGUF file. */
  readonly model: string;
  /** Of keys and values. */
  readonly kv: 'F16' | 'F32';
  readonly texts: readonly (readonly number[])[];
  /** Which tokens to tell of, equally many at each position. */
  readonly tokens: Int32Array; // [positions, …]
}

/** Of every position of every text, one after another. */
export interface NodeLlamaLogprobs {
  readonly logprobs: Float32Array; // of the tokens that were asked for
  readonly likeliest: Int32Array; // [positions]
  readonly likeliestLogprobs: Float32Array;
}

export async function open(setting: NodeLlamaLogprobsSetting): Promise<OpenContender<NodeLlamaLogprobs>> {
  const { from, model, kv, texts, tokens } = setting;
  const length = texts[0]!.length;
  const opened = await openNodeLlama({ from, model, kv, threads: 1, concurrency: 1, context: length + 8 });
  const sequence = opened.sequences[0]!;
  return {
    async play() {
      const positions = texts.length * length;
      const each = tokens.length / positions;
      const logprobs = new Float32Array(tokens.length);
      const likeliest = new Int32Array(positions);
      const likeliestLogprobs = new Float32Array(positions);
      for (const [number, text] of texts.entries()) {
        await sequence.clearHistory();
        const outputs = await sequence.controlledEvaluate(text.map((token) => [token, { generateNext: { logits: true } }]));
        for (let at = 0; at < length; at++) {
          const logits = outputs[at]?.next.logits;
          if (logits === undefined) throw new Error(`text ${number}, position ${at}: expected logits, got none`);
          const [[best, most]] = logits as unknown as [[number, number]]; // sorted, likeliest first
          let sum = 0;
          for (const logit of logits.values()) sum += Math.exp(logit - most);
          const position = number * length + at;
          likeliest[position] = best;
          likeliestLogprobs[position] = -Math.log(sum);
          for (let i = position * each; i < (position + 1) * each; i++) {
            logprobs[i] = logits.get(tokens[i]!)! - most - Math.log(sum);
          }
        }
      }
      return { logprobs, likeliest, likeliestLogprobs };
    },
    close: opened.close,
  };
}
