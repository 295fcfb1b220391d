import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { OutputLengths } from '../../src/loop/output-lengths.ts';
import { drain, make, request } from './fake/requests.ts';

const lengths = suite('OutputLengths');

lengths('expects outputs as long as they may become until it has seen others', () => {
  assert.is(new OutputLengths().share(), 1);
});

lengths('learns the share from requests that ended of themselves', async () => {
  const it = make({ onToken: (one) => void (one.generated === 10 && it.loop.stop(one)) });
  for (let id = 0; id < 400; id++) it.loop.add(request(id, { prompt: 2, maxTokens: 40 }));
  await drain(it.loop);
  const share = it.loop.lengths.share();
  assert.ok(share > 0.25 && share < 0.26, `${share}`);
  assert.is(it.loop.lengths.share(1), 1);
  assert.ok(Math.abs(it.loop.lengths.share(0.5) - (1 + share) / 2) < 1e-9);
});

lengths('learns nothing from those who were aborted', async () => {
  const it = make({ onToken: (one) => void (one.generated === 2 && it.loop.abort(one)) });
  for (let id = 0; id < 20; id++) it.loop.add(request(id, { prompt: 2, maxTokens: 40 }));
  await drain(it.loop);
  assert.is(it.loop.lengths.share(), 1);
});

lengths.run();
