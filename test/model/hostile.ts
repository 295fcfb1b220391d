// Folders that lie. Each must give an EngineError that says what was expected; none may be believed.

import { mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import { openModel } from '../../src/model/load.ts';
import type { HeaderEntry, ModelParts } from '../fake/model-folder.ts';
import { makeParts, safetensors, sharded, singleFile, VOCABULARY, writeFolder } from '../fake/model-folder.ts';

const hostile = suite('hostile model folders');
const EMBEDDING = 'model.embed_tokens.weight';
const NORM = 'model.norm.weight';

async function refuses(code: string, folder: string, message: RegExp, label = ''): Promise<void> {
  let error: unknown;
  try {
    await openModel(folder);
  } catch (cause) {
    error = cause;
  }
  assert.instance(error, EngineError, `${label} was accepted, or failed otherwise: ${String(error)}`);
  assert.is((error as EngineError).code, code, `${label}: ${(error as EngineError).message}`);
  assert.match((error as EngineError).message, message, `${label}: ${(error as EngineError).message}`);
}

/** The folder of a toy model after `spoil` has changed its parts. */
function spoilt(spoil: (parts: ModelParts) => void): string {
  const parts = makeParts();
  spoil(parts);
  return writeFolder(singleFile(parts));
}

function entry(parts: ModelParts, name: string): HeaderEntry {
  const found = parts.header[name];
  if (found === undefined) throw new Error(`no tensor ${name}`);
  return found;
}

/** The folder of a toy model with another model.safetensors. */
function withWeights(bytes: Uint8Array): string {
  return writeFolder(new Map([...singleFile(makeParts()), ['model.safetensors', bytes]]));
}

hostile('a valid folder is accepted, so that the rest means something', async () => {
  assert.is((await openModel(writeFolder(singleFile(makeParts())))).tensors.length, 20);
  assert.is((await openModel(writeFolder(sharded(makeParts())))).tensors.length, 20);
});

hostile('missing folders and files', async () => {
  await refuses('MODEL_NOT_FOUND', '/no/such/folder', /expected a folder/);
  await refuses('MODEL_NOT_FOUND', 'with\0nul', /expected a folder/);
  await refuses('MODEL_NOT_FOUND', import.meta.filename ?? process.argv[1] ?? '', /expected a folder, got the file/);
  for (const name of ['config.json', 'tokenizer.json', 'model.safetensors']) {
    const files = singleFile(makeParts());
    files.delete(name);
    await refuses('MODEL_NOT_FOUND', writeFolder(files), new RegExp(name), name);
  }
  const files = sharded(makeParts());
  files.delete('model-00002-of-00002.safetensors');
  await refuses('MODEL_NOT_FOUND', writeFolder(files), /model-00002-of-00002.safetensors/);
});

hostile('lying header lengths', async () => {
  const { header, data } = makeParts();
  const text = JSON.stringify(header);
  const size = 8 + text.length + data.length;
  for (const length of [0n, 1n, BigInt(text.length - 1), BigInt(text.length + 1), BigInt(size - 8), BigInt(size - 7)]) {
    await refuses(
      'MODEL_FORMAT',
      withWeights(safetensors(text, data, length)),
      /model.safetensors/,
      `length ${length}`,
    );
  }
  for (const length of [2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
    await refuses(
      'MODEL_FORMAT',
      withWeights(safetensors(text, data, length)),
      /header of at most/,
      `length ${length}`,
    );
  }
});

hostile("a header above the format's limit is not read", async () => {
  const folder = withWeights(safetensors('{}', Buffer.alloc(0), 100_000_001n));
  truncateSync(join(folder, 'model.safetensors'), 200_000_000); // sparse
  await refuses('MODEL_FORMAT', folder, /at most 100000000 bytes, got 100000001/);
});

hostile('truncation at every part of the file', async () => {
  const { header, data } = makeParts();
  const whole = safetensors(JSON.stringify(header), data);
  for (const length of [0, 1, 7, 8, 9, 100, whole.length - data.length, whole.length - 4, whole.length - 1]) {
    await refuses('MODEL_FORMAT', withWeights(whole.subarray(0, length)), /model.safetensors/, `${length} bytes`);
  }
  await refuses(
    'MODEL_FORMAT',
    withWeights(Buffer.concat([whole, Buffer.alloc(1)])),
    /expected a file of/,
    'a byte more',
  );
});

hostile('headers that are no header', async () => {
  const { data } = makeParts();
  for (const text of [
    '',
    'null',
    '[]',
    '3',
    '"x"',
    '{',
    '{"a":1}',
    '{"a":null}',
    '{"a":[]}',
    '{"a":{}}',
    '{"a":{"dtype":"F32"}}',
  ]) {
    await refuses('MODEL_FORMAT', withWeights(safetensors(text, data)), /model.safetensors.*expected/, text);
  }
  const notText = safetensors('xx', data);
  notText[8] = 0xff;
  await refuses('MODEL_FORMAT', withWeights(notText), /UTF-8/);
});

hostile('lying offsets', async () => {
  const end = makeParts().data.length;
  for (const offsets of [
    [64, 0],
    [-64, 0],
    [0, 2 ** 53],
    [0, 1e308],
    [0.5, 64.5],
    ['0', '64'],
    [0],
    [0, 64, 128],
    null,
    {},
    [end, end + 64],
    [end - 63, end + 1],
    [2 ** 52, 2 ** 52 + 64],
  ]) {
    const folder = spoilt((parts) => (entry(parts, NORM).data_offsets = offsets));
    await refuses('MODEL_FORMAT', folder, /data_offsets: expected/, JSON.stringify(offsets));
  }
});

hostile('overlaps and holes', async () => {
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (entry(parts, NORM).data_offsets = [0, 64])),
    /overlap/,
  );
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => delete parts.header[NORM]),
    /expected a file of|hole/,
  );
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => delete parts.header[EMBEDDING]),
    /hole/,
  );
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (parts.data = Buffer.concat([parts.data, Buffer.alloc(64)]))),
    /expected a file of/,
  );
});

hostile('lying shapes', async () => {
  for (const shape of [
    [0],
    [-16],
    [15],
    [17],
    [16.5],
    ['16'],
    [16, 2],
    [2 ** 53],
    [2 ** 32, 2 ** 32],
    [0, 2 ** 53 - 1],
    null,
    16,
    {},
    [],
    [[16]],
  ]) {
    const folder = spoilt((parts) => (entry(parts, NORM).shape = shape));
    await refuses('MODEL_FORMAT', folder, /shape: expected|expected the shape/, JSON.stringify(shape));
  }
  // Bytes that fit, in a shape that does not.
  for (const shape of [
    [4, 4],
    [16, 1],
    [1, 16],
  ]) {
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (entry(parts, NORM).shape = shape)),
      /expected the shape \[16\]/,
    );
  }
  const deep = Array.from({ length: 9 }, (_, i) => (i === 0 ? 16 : 1));
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (entry(parts, NORM).shape = deep)),
    /shape/,
  );
  // A product that is right modulo 2^64.
  const wrapping = [2 ** 33, 2 ** 31, 16];
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (entry(parts, NORM).shape = wrapping)),
    /shape/,
  );
});

hostile('lying types', async () => {
  for (const dtype of ['BF16', 'F64', 'I8', 'BOOL', null, 32, [], {}]) {
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (entry(parts, NORM).dtype = dtype)),
      /shape|dtype/,
      String(dtype),
    );
  }
  for (const dtype of ['I32', 'U32']) {
    await refuses(
      'MODEL_UNSUPPORTED',
      spoilt((parts) => (entry(parts, NORM).dtype = dtype)),
      /F32, BF16, F16/,
    );
  }
  for (const dtype of ['F4', 'f32', '', 'toString']) {
    await refuses(
      'MODEL_UNSUPPORTED',
      spoilt((parts) => (entry(parts, NORM).dtype = dtype)),
      /dtype: expected one of/,
    );
  }
});

hostile('missing and surplus tensors', async () => {
  const gone = 'model.layers.1.mlp.up_proj.weight';
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => {
      parts.header['model.layers.0.self_attn.rotary_emb.inv_freq'] = entry(parts, gone);
      delete parts.header[gone];
    }),
    /expected model.layers.1.mlp.up_proj.weight, got none/,
  );
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (parts.config['num_hidden_layers'] = 3)),
    /expected model.layers.2/,
  );
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (parts.config['tie_word_embeddings'] = false)),
    /expected lm_head.weight/,
  );
  await refuses(
    'MODEL_UNSUPPORTED',
    spoilt((parts) => (parts.config['num_hidden_layers'] = 1)),
    /layers.1/,
  );
  for (const name of [
    'model.layers.0.self_attn.o_proj.bias',
    'model.layers.0.self_attn.q_proj.bias',
    'model.extra.weight',
  ]) {
    const folder = spoilt((parts) => {
      const end = parts.data.length;
      parts.header[name] = { dtype: 'F32', shape: [16], data_offsets: [end, end + 64] };
      parts.data = Buffer.concat([parts.data, Buffer.alloc(64)]);
    });
    await refuses('MODEL_UNSUPPORTED', folder, new RegExp(name));
  }
});

hostile('one name twice', async () => {
  const { header, data } = makeParts();
  const twice = JSON.stringify(header).replace('{', `{${JSON.stringify(NORM)}:${JSON.stringify(header[NORM])},`);
  await refuses('MODEL_FORMAT', withWeights(safetensors(twice, data)), /different names/);

  const files = sharded(makeParts());
  const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  files.set(second, files.get(first) ?? Buffer.alloc(0));
  await refuses('MODEL_FORMAT', writeFolder(files), /in one file, got .* in two/);
});

hostile('a header of a hundred thousand tensors', async () => {
  const header: Record<string, HeaderEntry> = {};
  for (let i = 0; i < 100_000; i++) header[`t${i}`] = { dtype: 'F32', shape: [0], data_offsets: [0, 0] };
  await refuses(
    'MODEL_FORMAT',
    withWeights(safetensors(JSON.stringify(header), Buffer.alloc(0))),
    /expected model.embed/,
  );
});

hostile('names that mean something to JavaScript', async () => {
  const { header, data } = makeParts();
  for (const name of ['__proto__', 'constructor', 'toString']) {
    const text = JSON.stringify(header).replace('"model.norm.weight"', JSON.stringify(name));
    await refuses('MODEL_FORMAT', withWeights(safetensors(text, data)), /expected model.norm.weight, got none/, name);
  }
});

const INDEX = 'model.safetensors.index.json';

/** The sharded files of a toy model after `spoil` has changed the map of their index. */
function withIndex(spoil: (places: Record<string, unknown>) => void): Map<string, Buffer> {
  const files = sharded(makeParts());
  const index = JSON.parse(String(files.get(INDEX))) as { weight_map: Record<string, unknown> };
  spoil(index.weight_map);
  return files.set(INDEX, Buffer.from(JSON.stringify(index)));
}

hostile('an index that names files elsewhere', async () => {
  const elsewhere = [
    '/etc/passwd.safetensors',
    '../x.safetensors',
    'a/../../x.safetensors',
    'sub/x.safetensors',
    'a\0.safetensors',
  ];
  for (const place of [...elsewhere, '..\\x.safetensors', '\n.safetensors', `${'x'.repeat(300)}.safetensors`]) {
    const files = withIndex((places) => (places[NORM] = place));
    const code = place.length > 300 ? 'MODEL_NOT_FOUND' : 'MODEL_FORMAT';
    await refuses(code, writeFolder(files), /expected the name of a file in the model's folder|cannot be read/, place);
  }
  for (const place of [3, null, {}, '', '..', 'config.json']) {
    const files = withIndex((places) => (places[NORM] = place));
    await refuses('MODEL_FORMAT', writeFolder(files), /expected the name of a .safetensors file/, String(place));
  }
});

hostile('an index that does not match its shards', async () => {
  const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  const swapped = withIndex((places) => {
    for (const [name, file] of Object.entries(places)) places[name] = file === first ? second : first;
  });
  await refuses('MODEL_FORMAT', writeFolder(swapped), /got none there/);
  await refuses('MODEL_FORMAT', writeFolder(withIndex((places) => (places['ghost'] = first))), /"ghost"/);
  for (const text of [' ', '[]', '{}', '{"weight_map":[]}', '{"weight_map":{}}', '{"weight_map":null}']) {
    const files = sharded(makeParts()).set(INDEX, Buffer.from(text));
    await refuses('MODEL_FORMAT', writeFolder(files), /index.json/, text);
  }
});

hostile('links that lead out of the folder', async () => {
  const outside = writeFolder(singleFile(makeParts()));
  for (const name of ['model.safetensors', 'config.json', 'tokenizer.json']) {
    const folder = writeFolder(singleFile(makeParts()));
    rmSync(join(folder, name));
    symlinkSync(join(outside, name), join(folder, name));
    await refuses(
      'MODEL_FORMAT',
      folder,
      new RegExp(`${name}: expected a file in the model's folder, got a link`),
      name,
    );
  }
  const circle = writeFolder(singleFile(makeParts()));
  rmSync(join(circle, 'config.json'));
  symlinkSync('config.json', join(circle, 'config.json'));
  await refuses('MODEL_NOT_FOUND', circle, /config.json: cannot be read/);
});

hostile('a link within the folder, and a link to the folder, are followed', async () => {
  const folder = writeFolder(singleFile(makeParts()));
  writeFileSync(join(folder, 'weights.bin'), singleFile(makeParts()).get('model.safetensors') ?? '');
  rmSync(join(folder, 'model.safetensors'));
  symlinkSync('weights.bin', join(folder, 'model.safetensors'));
  symlinkSync(folder, `${folder}-link`);
  assert.is((await openModel(`${folder}-link`)).files[0], join(folder, 'weights.bin'));
});

hostile('folders and pipes in place of files', async () => {
  for (const name of ['model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    const files = singleFile(makeParts());
    files.delete(name);
    const folder = writeFolder(files);
    mkdirSync(join(folder, name));
    await refuses('MODEL_FORMAT', folder, /expected a file/, name);
    const piped = writeFolder(files);
    execFileSync('mkfifo', [join(piped, name)]);
    await refuses('MODEL_FORMAT', piped, /expected a file/, name);
  }
});

hostile('a tokenizer of another vocabulary', async () => {
  const ids: [unknown, RegExp][] = [
    [VOCABULARY, /vocabulary of 300, got 300/],
    [-1, /got -1/],
    [1.5, /got 1.5/],
    ['7', /got "7"/],
    [null, /got null/],
    [2 ** 53, /got/],
  ];
  for (const [id, message] of ids) {
    const vocab = { a: 0, b: id };
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (parts.tokenizer['model'] = { vocab })),
      message,
      `vocab ${String(id)}`,
    );
    const added = [{ id, content: '<|x|>' }];
    const expected = id === null ? /token "<|x|>"/ : message;
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (parts.tokenizer['added_tokens'] = added)),
      expected,
      `added ${String(id)}`,
    );
  }
  const unigram = Array.from({ length: VOCABULARY + 1 }, (_, i) => [`t${i}`, 0]);
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (parts.tokenizer['model'] = { vocab: unigram })),
    /got 300/,
  );
  for (const model of [undefined, 3, [], {}, { vocab: 3 }]) {
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (parts.tokenizer['model'] = model)),
      /tokenizer.json: model/,
    );
  }
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (parts.tokenizer['added_tokens'] = {})),
    /added_tokens/,
  );
  await refuses(
    'MODEL_FORMAT',
    spoilt((parts) => (parts.config['vocab_size'] = VOCABULARY + 1)),
    /expected the shape \[301,16\]/,
  );
});

hostile('begin and end tokens outside the vocabulary', async () => {
  for (const id of [VOCABULARY, -1, 0.5, '0', [0, VOCABULARY], [[0]], {}, true]) {
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (parts.config['eos_token_id'] = id)),
      /eos_token_id/,
      JSON.stringify(id),
    );
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (parts.generation['bos_token_id'] = id)),
      /bos_token_id/,
      JSON.stringify(id),
    );
  }
});

hostile('sampling advice out of range', async () => {
  for (const [key, value] of Object.entries({
    temperature: -1,
    top_p: 0,
    top_k: 1.5,
    min_p: 2,
    repetition_penalty: 0,
    do_sample: 3,
  })) {
    await refuses(
      'MODEL_FORMAT',
      spoilt((parts) => (parts.generation[key] = value)),
      new RegExp(key),
      key,
    );
  }
});

hostile('chat templates that are no text', async () => {
  for (const template of [3, {}, [3], [{ name: 'default', template: 3 }]]) {
    const folder = spoilt((parts) => (parts.tokenizerConfig['chat_template'] = template));
    await refuses('MODEL_FORMAT', folder, /chat_template/, JSON.stringify(template));
  }
});

hostile('files that are not JSON keep the cause', async () => {
  const files = singleFile(makeParts());
  files.set('config.json', Buffer.from('{"hidden_size": }'));
  try {
    await openModel(writeFolder(files));
    assert.unreachable('accepted');
  } catch (error) {
    assert.instance(error, EngineError);
    assert.instance((error as EngineError).cause, SyntaxError);
    assert.match((error as EngineError).message, /^config.json: expected JSON, got "/);
  }
});

hostile('JSON nested a million deep', async () => {
  const files = singleFile(makeParts());
  files.set('config.json', Buffer.from(`${'['.repeat(1_000_000)}`));
  await refuses('MODEL_FORMAT', writeFolder(files), /config.json/);
  files.set('config.json', Buffer.from(`{"architectures":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`));
  await refuses('MODEL_FORMAT', writeFolder(files), /config.json/);
});

hostile.run();
