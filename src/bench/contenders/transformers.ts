// Hugging Face transformers, in a Python process that answers the same orders: bench/peers/transformers_peer.py.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { OpenContender } from '../contender.ts';
import { type PeerRound, type PeerSetting, warmUp } from '../peer-requests.ts';

const SCRIPT = 'transformers_peer.py';

export interface TransformersSetting extends PeerSetting {
  /** The folder of the script. */
  readonly from: string;
  /** As torch calls it: `cuda`, `cpu`. */
  readonly device: string;
  /** Most tokens of a request. */
  readonly context: number;
  /** Batches that last as long as their longest, or continuous batching. */
  readonly mode: 'generate' | 'continuous';
}

/** Versions of transformers and torch; throws with the reason where there are none. */
export function findTransformers(from: string): string {
  if (!existsSync(join(from, SCRIPT))) throw new Error(`expected ${SCRIPT} in ${from}, got none`);
  const ask = 'import torch, transformers; print(f"{transformers.__version__}, torch {torch.__version__}")';
  const { status, stdout, stderr, error } = spawnSync('python3', ['-c', ask], { encoding: 'utf8' });
  if (status === 0) return stdout.trim();
  throw new Error(error?.message ?? stderr.trim().split('\n').at(-1));
}

export async function open(setting: TransformersSetting): Promise<OpenContender<PeerRound>> {
  const { from, ...rest } = setting;
  const child = spawn('python3', [join(from, SCRIPT)], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => {}); // told by its end
  const closed = once(child, 'close');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const ask = async (order: object): Promise<unknown> => {
    child.stdin.write(`${JSON.stringify(order)}\n`);
    const line = await lines.next();
    if (line.done !== true) return JSON.parse(line.value);
    throw new Error(`${SCRIPT} ended with exit code ${(await closed)[0]}`);
  };
  await ask({ ...rest, warmUp: warmUp(setting) });
  return {
    play: async () => (await ask({ kind: 'play' })) as PeerRound,
    async close() {
      child.stdin.end();
      await closed;
    },
  };
}
