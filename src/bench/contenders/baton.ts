// This package by its public API: what its users get.
import { Engine } from '../../engine.ts';
import type { LoadOptions } from '../../options.ts';
import type { OpenContender } from '../contender.ts';
import { type PeerRequest, type PeerRound, type PeerSetting, warmUp } from '../peer-requests.ts';

export interface BatonSetting extends PeerSetting {
  readonly options: LoadOptions;
}

export async function open(setting: BatonSetting): Promise<OpenContender<PeerRound>> {
  const { model, threads, concurrency: rows, requests, options } = setting;
  // Rounds repeat their prompts, which must not be what makes them quick.
  const engine = await Engine.load(model, { threads, rows, prefixReuse: false, ...options });
  const play = async (work: readonly PeerRequest[]) => {
    const begin = performance.now();
    const ended = await Promise.all(
      work.map(({ prompt, outputTokens }) => {
        return engine.complete({ prompt, maxTokens: outputTokens, temperature: 0, repetitionPenalty: 1, ignoreEos: true });
      }),
    );
    return {
      ms: performance.now() - begin,
      ttftMs: ended.map(({ timings }) => timings.ttftMs ?? NaN),
      outputTokens: ended.map(({ usage }) => usage.completionTokens),
    };
  };
  await play(warmUp(setting));
  return { play: () => play(requests), close: () => engine.close() };
}
