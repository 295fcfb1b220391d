// The process of one contender: answers a race's orders until it is told to close, or the race is gone.
import type { Answer, Contender, OpenContender, Order } from './contender.ts';

let contender: OpenContender<unknown> | undefined;

async function obey(order: Order): Promise<Answer> {
  switch (order.kind) {
    case 'open': {
      const { open } = (await import(order.module)) as Contender<unknown, unknown>;
      contender = await open(order.setting);
      return {};
    }
    case 'play':
      return { round: await contender!.play() };
    case 'close':
      await contender?.close();
      return {};
  }
}

process.on('message', (order: Order) => {
  void obey(order)
    .catch((error: unknown) => ({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }))
    .then((answer) => process.send!(answer, () => order.kind === 'close' && process.disconnect()));
});
process.on('disconnect', () => process.exit());
