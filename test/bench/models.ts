import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findModel } from '../../src/bench/models.ts';
import { UsageError } from '../../src/flags.ts';
import { TALES } from '../../src/model/tales.ts';

const models = suite('models of benches');
const temporary = mkdtempSync(join(tmpdir(), 'baton-models-'));
process.env['TMPDIR'] = temporary;
models.after(() => rmSync(temporary, { recursive: true }));

models('are tales unless another is named', async () => {
  assert.equal(await findModel(), { name: 'tales', folder: TALES });
});

models('a public shape has synthetic weights, named as such, that are made once', async () => {
  const [first, beside] = await Promise.all([findModel('nano-llama'), findModel('nano-llama')]);
  assert.is(first.name, 'nano-llama (synthetic)');
  assert.equal(beside, first);
  assert.equal(readdirSync(join(temporary, 'baton-bench')), ['nano-llama'], 'nothing half made is left');
  const { ino } = statSync(join(first.folder, 'model.safetensors'));
  await findModel('nano-llama');
  assert.is(statSync(join(first.folder, 'model.safetensors')).ino, ino);
});

models('may be a folder, called by its name', async () => {
  assert.equal(await findModel(TALES), { name: 'tales', folder: TALES });
});

models('are refused where there is none', async () => {
  const missing = join(temporary, 'none');
  assert.not(existsSync(missing));
  try {
    await findModel(missing);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, UsageError);
    assert.match((error as Error).message, /--model: expected tales, SmolLM2-135M, .*, or a model folder, got .*none/);
  }
});

models.run();
