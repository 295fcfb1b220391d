import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openModel } from '../../src/model/load.ts';
import { makeParts, sharded, singleFile, writeFolder } from '../fake/model-folder.ts';

const load = suite('openModel');
const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));

load('reads the embedded model', async () => {
  const model = await openModel(path('models/tales'));
  assert.equal(model.config, {
    layers: 8,
    hidden: 256,
    intermediate: 640,
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    vocabulary: 2048,
    context: 512,
    rmsEps: 1e-5,
    ropeTheta: 10000,
    ropeScaling: null,
    tiedEmbedding: true,
    qkvBias: false,
    qkNorm: false,
  });
  assert.is(model.storedType, 'bf16');
  assert.is(model.tensors.length, 2 + 9 * 8);
  assert.equal(model.eosTokens, [0]);
  assert.is(model.bosToken, 0);
  assert.equal(model.generation, { temperature: 0.8, topP: 0.95, topK: 50 });
  assert.match(model.tokenizer.chatTemplate ?? '', /for message in messages/);
  assert.equal(model.files, [`${model.folder}/model.safetensors`]);
});

load('counts offsets from the start of the file', async () => {
  const parts = makeParts();
  const { tensors } = await openModel(writeFolder(singleFile(parts)));
  const dataBegin = 8 + Buffer.byteLength(JSON.stringify(parts.header));
  assert.equal(tensors[0], {
    name: 'model.embed_tokens.weight',
    file: 0,
    type: 'F32',
    shape: [300, 16],
    begin: dataBegin,
    end: dataBegin + 300 * 16 * 4,
  });
});

load('finds the tensors of every shard of an index', async () => {
  const parts = makeParts();
  const one = await openModel(writeFolder(singleFile(parts)));
  const two = await openModel(writeFolder(sharded(parts)));
  assert.is(two.files.length, 2);
  assert.equal(
    two.tensors.map(({ name }) => name),
    one.tensors.map(({ name }) => name),
  );
  assert.equal([...new Set(two.tensors.map(({ file }) => file))].sort(), [0, 1]);
});

load('passes on only the tensors of the forward pass', async () => {
  const parts = makeParts();
  const end = parts.data.length;
  parts.header['model.layers.0.self_attn.rotary_emb.inv_freq'] = {
    dtype: 'F32',
    shape: [2],
    data_offsets: [end, end + 8],
  };
  parts.header['lm_head.weight'] = { dtype: 'F32', shape: [1], data_offsets: [end + 8, end + 12] };
  parts.data = Buffer.concat([parts.data, Buffer.alloc(12)]);
  const { tensors } = await openModel(writeFolder(singleFile(parts)));
  assert.not.ok(tensors.some(({ name }) => name === 'lm_head.weight' || name.endsWith('inv_freq')));
});

load('takes end tokens from config.json where generation_config.json has none', async () => {
  const parts = makeParts();
  assert.equal((await openModel(writeFolder(singleFile(parts)))).eosTokens, [0, 1]);
  parts.generation['eos_token_id'] = 7;
  assert.equal((await openModel(writeFolder(singleFile(parts)))).eosTokens, [7]);
});

load('takes no sampling advice unless it says to sample', async () => {
  const parts = makeParts();
  parts.generation = { do_sample: false, temperature: 0.7 };
  assert.equal((await openModel(writeFolder(singleFile(parts)))).generation, {});
});

load('prefers chat_template.jinja, and the default of several templates', async () => {
  const parts = makeParts();
  parts.tokenizerConfig['chat_template'] = [
    { name: 'tool_use', template: 'tools' },
    { name: 'default', template: 'plain' },
  ];
  const files = singleFile(parts);
  assert.is((await openModel(writeFolder(files))).tokenizer.chatTemplate, 'plain');
  files.set('chat_template.jinja', Buffer.from('file'));
  assert.is((await openModel(writeFolder(files))).tokenizer.chatTemplate, 'file');
});

load('needs neither tokenizer_config.json nor generation_config.json', async () => {
  const files = singleFile(makeParts());
  files.delete('tokenizer_config.json');
  files.delete('generation_config.json');
  const model = await openModel(writeFolder(files));
  assert.is(model.tokenizer.chatTemplate, null);
  assert.equal(model.generation, {});
});

const stories = path('../shared/models/stories260K/hf');
if (existsSync(stories)) {
  load('reads a public model', async () => {
    const model = await openModel(stories);
    assert.is(model.config.headDim, 8);
    assert.is(model.storedType, 'f32');
    assert.equal(model.eosTokens, [2]);
  });
} else {
  console.log('SKIP reads a public model: ../shared/models/stories260K is not here');
  load.skip('reads a public model');
}

load.run();
