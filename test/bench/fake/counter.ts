// A contender that counts its rounds, or fails as it is told to.
import type { OpenContender } from '../../../src/bench/contender.ts';

export interface Setting {
  readonly name: string;
  readonly fails?: 'open' | 'play' | 'exit' | 'hang';
}

export function open({ name, fails }: Setting): Promise<OpenContender<{ name: string; round: number; pid: number }>> {
  if (fails === 'open') throw new Error('cannot be opened');
  let round = 0;
  return Promise.resolve({
    play: async () => {
      if (fails === 'play' && round === 1) throw new Error('cannot play');
      if (fails === 'exit' && round === 1) {
        console.error('last words');
        process.exit(3);
      }
      if (fails === 'hang') await new Promise(() => {});
      return { name, round: round++, pid: process.pid };
    },
    close: () => Promise.resolve(),
  });
}
