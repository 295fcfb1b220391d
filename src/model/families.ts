import { EngineError } from '../errors.ts';
import type { ModelConfig, TensorEntry } from '../native.ts';
import { shown } from './fields.ts';

/** What sets a family of models apart from Llama. */
export interface Family {
  /** Biases of q, k and v: always, never, or as the field `attention_bias` says. */
  readonly qkvBias: boolean | 'attention_bias';
  readonly qkNorm: boolean;
  /** Where config.json has no head_dim: a number, or hidden / heads. */
  readonly headDim: number | 'hidden / heads';
}

/** By the name in config.json's `architectures`. */
export const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>([
  ['LlamaForCausalLM', { qkvBias: 'attention_bias', qkNorm: false, headDim: 'hidden / heads' }],
  ['MistralForCausalLM', { qkvBias: false, qkNorm: false, headDim: 'hidden / heads' }],
  ['Qwen2ForCausalLM', { qkvBias: true, qkNorm: false, headDim: 'hidden / heads' }],
  ['Qwen3ForCausalLM', { qkvBias: 'attention_bias', qkNorm: true, headDim: 128 }],
]);

/** Types the weights can be stored in: as safetensors names them, and as we do. */
export const STORED_TYPES: ReadonlyMap<string, 'f32' | 'bf16' | 'f16'> = new Map([
  ['F32', 'f32'],
  ['BF16', 'bf16'],
  ['F16', 'f16'],
]);
/** Tables that some old files carry and nobody reads. */
const DERIVED = /\.rotary_emb\.inv_freq$/;

/** Name and shape of every tensor a model of this config has, in the order of the forward pass. */
export function tensorShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { hidden, intermediate, headDim, vocabulary } = config;
  const qWidth = config.heads * headDim;
  const kvWidth = config.kvHeads * headDim;
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [vocabulary, hidden]]]);
  for (let layer = 0; layer < config.layers; layer++) {
    const add = (name: string, ...shape: number[]) => shapes.set(`model.layers.${layer}.${name}`, shape);
    add('input_layernorm.weight', hidden);
    add('self_attn.q_proj.weight', qWidth, hidden);
    add('self_attn.k_proj.weight', kvWidth, hidden);
    add('self_attn.v_proj.weight', kvWidth, hidden);
    if (config.qkvBias) {
      add('self_attn.q_proj.bias', qWidth);
      add('self_attn.k_proj.bias', kvWidth);
      add('self_attn.v_proj.bias', kvWidth);
    }
    if (config.qkNorm) {
      add('self_attn.q_norm.weight', headDim);
      add('self_attn.k_norm.weight', headDim);
    }
    add('self_attn.o_proj.weight', hidden, qWidth);
    add('post_attention_layernorm.weight', hidden);
    add('mlp.gate_proj.weight', intermediate, hidden);
    add('mlp.up_proj.weight', intermediate, hidden);
    add('mlp.down_proj.weight', hidden, intermediate);
  }
  shapes.set('model.norm.weight', [hidden]);
  if (!config.tiedEmbedding) shapes.set('lm_head.weight', [vocabulary, hidden]);
  return shapes;
}

/**
 * The tensors the config calls for, each found and of the right shape and type. A tensor it does not call for is an
 * error too: leaving it out would compute another model's answers.
 */
export function selectTensors(tensors: ReadonlyMap<string, TensorEntry>, config: ModelConfig): TensorEntry[] {
  const shapes = tensorShapes(config);
  const selected: TensorEntry[] = [];
  for (const [name, shape] of shapes) {
    const entry = tensors.get(name);
    if (entry === undefined) throw new EngineError('MODEL_FORMAT', `tensors: expected ${name}, got none`);
    if (String(entry.shape) !== String(shape)) {
      throw new EngineError('MODEL_FORMAT', `${name}: expected the shape ${shown(shape)}, got ${shown(entry.shape)}`);
    }
    if (!STORED_TYPES.has(entry.type)) {
      throw new EngineError(
        'MODEL_UNSUPPORTED',
        `${name}: expected ${[...STORED_TYPES.keys()].join(', ')}, got ${entry.type}`,
      );
    }
    selected.push(entry);
  }
  for (const name of tensors.keys()) {
    const tiedCopy = config.tiedEmbedding && name === 'lm_head.weight';
    if (shapes.has(name) || tiedCopy || DERIVED.test(name)) continue;
    throw new EngineError(
      'MODEL_UNSUPPORTED',
      `tensors: expected those of config.json only, got ${shown(name)} as well`,
    );
  }
  return selected;
}
