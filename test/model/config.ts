import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EngineError } from '../../src/errors.ts';
import { readConfig } from '../../src/model/config.ts';
import { makeParts } from '../fake/model-folder.ts';

const config = suite('readConfig');
const read = (fields: Record<string, unknown>) => readConfig({ ...makeParts().config, ...fields });

function refuses(code: string, fields: Record<string, unknown>, message: RegExp): void {
  const text = JSON.stringify(fields);
  try {
    read(fields);
  } catch (error) {
    assert.instance(error, EngineError);
    assert.is((error as EngineError).code, code, text);
    assert.match((error as EngineError).message, message);
    return;
  }
  assert.unreachable(`${text} was accepted`);
}

config('derives what is absent', () => {
  const { headDim, kvHeads, rmsEps, ropeTheta, tiedEmbedding } = read({
    num_key_value_heads: null,
    rms_norm_eps: undefined,
    rope_theta: undefined,
    tie_word_embeddings: undefined,
  });
  assert.equal(
    { headDim, kvHeads, rmsEps, ropeTheta, tiedEmbedding },
    {
      headDim: 4,
      kvHeads: 4,
      rmsEps: 1e-6,
      ropeTheta: 10000,
      tiedEmbedding: false,
    },
  );
});

config('knows the families', () => {
  assert.is(read({ architectures: ['Qwen2ForCausalLM'] }).qkvBias, true);
  const qwen3 = read({ architectures: ['Qwen3ForCausalLM'] });
  assert.equal([qwen3.qkNorm, qwen3.qkvBias, qwen3.headDim], [true, false, 128]);
  const mistral = read({ architectures: ['MistralForCausalLM'], sliding_window: null });
  assert.equal([mistral.qkNorm, mistral.qkvBias], [false, false]);
  assert.is(read({ attention_bias: true }).qkvBias, true);
});

config('names the families it knows when it refuses one', () => {
  const known = /LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, got \["GPT2LMHeadModel"\]/;
  refuses('MODEL_UNSUPPORTED', { architectures: ['GPT2LMHeadModel'] }, known);
  refuses('MODEL_UNSUPPORTED', { architectures: ['constructor'] }, /expected one of/);
  for (const architectures of [undefined, [], ['LlamaForCausalLM', 'x'], [3], 'LlamaForCausalLM']) {
    refuses('MODEL_FORMAT', { architectures }, /architectures/);
  }
});

config('reads rotary settings from their old and new places', () => {
  assert.is(read({ rope_theta: 500000 }).ropeTheta, 500000);
  assert.is(read({ rope_theta: undefined, rope_parameters: { rope_type: 'default', rope_theta: 123 } }).ropeTheta, 123);
  assert.is(read({ rope_scaling: { type: 'default' } }).ropeScaling, null);
  assert.equal(read({ rope_scaling: { type: 'linear', factor: 2.5 } }).ropeScaling, { kind: 'linear', factor: 2.5 });
  const scaling = { factor: 32, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const expected = { kind: 'llama3', factor: 32, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192 };
  assert.equal(read({ rope_scaling: { rope_type: 'llama3', ...scaling } }).ropeScaling, expected);
  assert.equal(read({ rope_parameters: { rope_type: 'llama3', ...scaling } }).ropeScaling, expected);
  refuses('MODEL_UNSUPPORTED', { rope_scaling: { type: 'yarn', factor: 4 } }, /linear.*llama3.*yarn/);
  refuses('MODEL_FORMAT', { rope_scaling: { type: 'linear' } }, /factor/);
  refuses('MODEL_FORMAT', { rope_scaling: { type: 'linear', factor: 0 } }, /factor/);
  refuses('MODEL_FORMAT', { rope_scaling: { type: 'llama3', ...scaling, high_freq_factor: 1 } }, /high_freq_factor/);
  refuses('MODEL_FORMAT', { rope_scaling: 'linear' }, /rope_scaling/);
});

config('accepts a sliding window only where it cuts nothing off', () => {
  for (const fields of [
    { sliding_window: null },
    { sliding_window: 256 },
    { sliding_window: 32, use_sliding_window: false },
  ]) {
    assert.is(read(fields).context, 256);
  }
  refuses('MODEL_UNSUPPORTED', { sliding_window: 255 }, /sliding_window.*256.*255/);
  refuses('MODEL_UNSUPPORTED', { sliding_window: 32, use_sliding_window: true }, /sliding_window/);
  refuses('MODEL_UNSUPPORTED', { layer_types: ['full_attention', 'sliding_attention'] }, /layer_types/);
});

config('refuses what it would compute wrongly', () => {
  refuses('MODEL_UNSUPPORTED', { hidden_act: 'gelu' }, /hidden_act.*silu.*gelu/);
  refuses('MODEL_UNSUPPORTED', { mlp_bias: true }, /mlp_bias/);
  refuses('MODEL_UNSUPPORTED', { quantization_config: { quant_method: 'gptq' } }, /quantization_config/);
  refuses('MODEL_UNSUPPORTED', { partial_rotary_factor: 0.5 }, /partial_rotary_factor/);
});

const INTEGERS = [
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'vocab_size',
  'max_position_embeddings',
];

config('checks every integer', () => {
  for (const key of INTEGERS) {
    for (const value of [0, -1, 1.5, 2 ** 31, 2 ** 53, 1e308, '64', true, [], {}]) {
      refuses('MODEL_FORMAT', { [key]: value }, new RegExp(`${key}: expected .*, got`));
    }
    if (key !== 'head_dim' && key !== 'num_key_value_heads')
      refuses('MODEL_FORMAT', { [key]: undefined }, new RegExp(key));
  }
});

config('checks every other number', () => {
  for (const value of [0, -1, 2, '1e-5', []]) refuses('MODEL_FORMAT', { rms_norm_eps: value }, /rms_norm_eps/);
  for (const value of [0, -1, 1e300, '10000', {}]) refuses('MODEL_FORMAT', { rope_theta: value }, /rope_theta/);
  for (const value of ['yes', 1, {}]) refuses('MODEL_FORMAT', { tie_word_embeddings: value }, /tie_word_embeddings/);
});

config('checks that heads divide', () => {
  refuses('MODEL_FORMAT', { num_key_value_heads: 3 }, /num_key_value_heads: expected a divisor of the 4 heads, got 3/);
  refuses('MODEL_FORMAT', { num_key_value_heads: 8 }, /num_key_value_heads/);
  refuses('MODEL_FORMAT', { num_attention_heads: 6, num_key_value_heads: 3 }, /num_attention_heads.*divisor/);
  refuses('MODEL_FORMAT', { head_dim: 7 }, /head_dim.*even/);
  refuses('MODEL_FORMAT', { num_attention_heads: 1024, num_key_value_heads: 1, head_dim: 512 }, /head_dim/);
});

config('keeps every product within 2^53', () => {
  const { layers, hidden, vocabulary, intermediate, heads, headDim, context } = read({
    num_hidden_layers: 1024,
    hidden_size: 2 ** 18,
    intermediate_size: 2 ** 18,
    vocab_size: 2 ** 22,
    num_attention_heads: 2 ** 8,
    head_dim: 1024,
    max_position_embeddings: 2 ** 24,
  });
  const f32Bytes = 4;
  for (const values of [vocabulary * hidden, hidden * intermediate, context * headDim, layers * heads * headDim]) {
    assert.ok(values * f32Bytes < 2 ** 53);
  }
});

config('refuses what is no object', () => {
  for (const value of [null, [], 'x', 3]) assert.throws(() => readConfig(value), /config.json: expected a JSON object/);
});

config.run();
