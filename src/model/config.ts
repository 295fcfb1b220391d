import { EngineError } from '../errors.ts';
import type { ModelConfig, RopeScaling } from '../native.ts';
import type { Family } from './families.ts';
import { FAMILIES } from './families.ts';
import { Fields, shown } from './fields.ts';

// Upper bounds, far above any model of today; every product that is formed of them stays below 2^53. The engine has the
// same in native/core/config.cpp: it does not take our word for it.
const MOST_LAYERS = 1024;
const MOST_WIDTH = 2 ** 18;
const MOST_HEADS = 2 ** 10;
const MOST_HEAD_DIM = 1024;
const MOST_VOCABULARY = 2 ** 22;
const MOST_CONTEXT = 2 ** 24;

/** Reads config.json. A model we would compute wrongly is refused, not approximated. */
export function readConfig(value: unknown): ModelConfig {
  const fields = new Fields('config.json', value);
  const family = readFamily(fields);
  refuse(fields);

  const hidden = fields.integer('hidden_size', 1, MOST_WIDTH);
  const heads = fields.integer('num_attention_heads', 1, MOST_HEADS);
  const kvHeads = fields.integer('num_key_value_heads', 1, heads, heads);
  if (heads % kvHeads !== 0) throw fields.error('num_key_value_heads', `expected a divisor of the ${heads} heads`);
  const headDim = readHeadDim(fields, family, hidden, heads);
  if (heads * headDim > MOST_WIDTH)
    throw fields.error('head_dim', `expected at most ${MOST_WIDTH} in all ${heads} heads`);

  const config: ModelConfig = {
    layers: fields.integer('num_hidden_layers', 1, MOST_LAYERS),
    hidden,
    intermediate: fields.integer('intermediate_size', 1, MOST_WIDTH),
    heads,
    kvHeads,
    headDim,
    vocabulary: fields.integer('vocab_size', 1, MOST_VOCABULARY),
    context: fields.integer('max_position_embeddings', 1, MOST_CONTEXT),
    rmsEps: fields.number('rms_norm_eps', 1e-12, 1, 1e-6),
    ropeTheta: readRopeTheta(fields),
    ropeScaling: readRopeScaling(fields),
    tiedEmbedding: fields.boolean('tie_word_embeddings', false),
    qkvBias: family.qkvBias === 'attention_bias' ? fields.boolean('attention_bias', false) : family.qkvBias,
    qkNorm: family.qkNorm,
  };
  refuseWindow(fields, config.context);
  return config;
}

function readFamily(fields: Fields): Family {
  const names = fields.get('architectures');
  if (!Array.isArray(names) || names.length !== 1 || typeof names[0] !== 'string') {
    throw fields.error('architectures', 'expected an array of one name');
  }
  const family = FAMILIES.get(names[0]);
  if (family === undefined)
    throw fields.unsupported('architectures', `expected one of ${[...FAMILIES.keys()].join(', ')}`);
  return family;
}

function readHeadDim(fields: Fields, family: Family, hidden: number, heads: number): number {
  const fallback = family.headDim === 'hidden / heads' ? hidden / heads : family.headDim;
  if (!fields.has('head_dim') && !Number.isInteger(fallback)) {
    throw fields.error('num_attention_heads', `expected a divisor of hidden_size ${hidden}`);
  }
  const headDim = fields.integer('head_dim', 2, MOST_HEAD_DIM, fallback);
  if (headDim % 2 !== 0) throw fields.error('head_dim', 'expected an even number');
  return headDim;
}

/** Refuses what changes the arithmetic and is not built. */
function refuse(fields: Fields): void {
  const activation = fields.string('hidden_act') ?? 'silu';
  if (activation !== 'silu' && activation !== 'swish') throw fields.unsupported('hidden_act', 'expected "silu"');
  if (fields.boolean('mlp_bias', false)) throw fields.unsupported('mlp_bias', 'expected false');
  if (fields.has('quantization_config')) {
    throw fields.unsupported('quantization_config', 'expected weights that are not quantised');
  }
  if (fields.number('partial_rotary_factor', 0, 1, 1) !== 1)
    throw fields.unsupported('partial_rotary_factor', 'expected 1');
  const layerTypes = fields.get('layer_types') ?? [];
  if (!Array.isArray(layerTypes)) throw fields.error('layer_types', 'expected an array');
  if (layerTypes.some((type) => type !== 'full_attention')) {
    throw fields.unsupported('layer_types', 'expected "full_attention" for every layer');
  }
}

/** A window as wide as the context never cuts anything off. */
function refuseWindow(fields: Fields, context: number): void {
  if (!fields.has('sliding_window') || !fields.boolean('use_sliding_window', true)) return;
  if (fields.integer('sliding_window', 1, Number.MAX_SAFE_INTEGER) < context) {
    throw fields.unsupported('sliding_window', `expected none, or at least the context of ${context}`);
  }
}

/** Old files write rope_theta at the top, new ones inside rope_parameters. */
function readRopeTheta(fields: Fields): number {
  const inner = fields.fields('rope_parameters');
  return (inner?.has('rope_theta') ? inner : fields).number('rope_theta', 1, 1e15, 10_000);
}

function readRopeScaling(fields: Fields): RopeScaling | null {
  const scaling = fields.fields('rope_scaling') ?? fields.fields('rope_parameters');
  if (scaling === undefined) return null;
  const kind = scaling.string('rope_type') ?? scaling.string('type') ?? 'default';
  if (kind === 'default') return null;
  const factor = () => scaling.number('factor', 1, 1e6);
  if (kind === 'linear') return { kind, factor: factor() };
  if (kind !== 'llama3') {
    throw new EngineError('MODEL_UNSUPPORTED', `${scaling.path}: expected "linear" or "llama3", got ${shown(kind)}`);
  }
  const lowFrequencyFactor = scaling.number('low_freq_factor', 1e-6, 1e6);
  const highFrequencyFactor = scaling.number('high_freq_factor', 1e-6, 1e6);
  if (highFrequencyFactor <= lowFrequencyFactor) {
    throw scaling.error('high_freq_factor', `expected more than low_freq_factor ${lowFrequencyFactor}`);
  }
  const originalContext = scaling.integer('original_max_position_embeddings', 1, MOST_CONTEXT);
  return { kind, factor: factor(), lowFrequencyFactor, highFrequencyFactor, originalContext };
}
