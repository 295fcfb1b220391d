#include "core/weights.h"

#include <algorithm>
#include <array>
#include <string>

namespace baton {

namespace {

template <size_t count>
std::array<TensorView, count> views(const Tensor (&parts)[count]) {
  std::array<TensorView, count> views;
  std::transform(parts, parts + count, views.begin(), [](const Tensor& part) { return part.view(); });
  return views;
}

// Stacks `parts` along their outputs. Arrays in braces are read from left to right, arguments would not be.
template <size_t count>
std::unique_ptr<Matrix> matrix(Backend& backend, WeightType type, const Tensor (&parts)[count]) {
  return backend.matrix(views(parts), type);
}

template <size_t count>
std::unique_ptr<Vector> vector(Backend& backend, const Tensor (&parts)[count]) {
  return backend.vector(views(parts));
}

LayerWeights load_layer(Backend& backend, const TensorFiles& files, const ModelConfig& config, WeightType type,
                        int32_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  const int32_t hidden = config.hidden, q = config.q_width(), kv = config.kv_width();
  LayerWeights weights;
  weights.attention_norm = vector(backend, {files.vector(prefix + "input_layernorm.weight", hidden)});
  weights.qkv = matrix(
      backend, type,
      {files.matrix(attention + "q_proj.weight", q, hidden), files.matrix(attention + "k_proj.weight", kv, hidden),
       files.matrix(attention + "v_proj.weight", kv, hidden)});
  if (config.qkv_bias) {
    weights.qkv_bias =
        vector(backend, {files.vector(attention + "q_proj.bias", q), files.vector(attention + "k_proj.bias", kv),
                         files.vector(attention + "v_proj.bias", kv)});
  }
  if (config.qk_norm) {
    weights.q_norm = vector(backend, {files.vector(attention + "q_norm.weight", config.head_dim)});
    weights.k_norm = vector(backend, {files.vector(attention + "k_norm.weight", config.head_dim)});
  }
  weights.output = matrix(backend, type, {files.matrix(attention + "o_proj.weight", hidden, q)});
  weights.mlp_norm = vector(backend, {files.vector(prefix + "post_attention_layernorm.weight", hidden)});
  weights.gate_up =
      backend.gated_matrix(files.matrix(mlp + "gate_proj.weight", config.intermediate, hidden).view(),
                           files.matrix(mlp + "up_proj.weight", config.intermediate, hidden).view(), type);
  weights.down = matrix(backend, type, {files.matrix(mlp + "down_proj.weight", hidden, config.intermediate)});
  return weights;
}

size_t bytes_of(const std::unique_ptr<Matrix>& matrix) { return matrix ? matrix->bytes : 0; }
size_t bytes_of(const std::unique_ptr<Vector>& vector) { return vector ? size_t(vector->size) * sizeof(float) : 0; }

// An embedding that is no product's operand gains nothing from int8: one row of it is read per token.
std::unique_ptr<Matrix> load_embedding(Backend& backend, const TensorFiles& files, const ModelConfig& config,
                                       WeightType type) {
  const Tensor parts[] = {files.matrix("model.embed_tokens.weight", config.vocabulary, config.hidden)};
  if (type == WeightType::int8 && !config.tied_embedding) {
    type = parts[0].view().type == TensorType::bf16 ? WeightType::bf16 : WeightType::f32;
  }
  return matrix(backend, type, parts);
}

}  // namespace

size_t Weights::bytes() const {
  size_t bytes = bytes_of(embedding) + bytes_of(norm) + bytes_of(untied_head);
  for (const LayerWeights& layer : layers) {
    bytes += bytes_of(layer.attention_norm) + bytes_of(layer.qkv) + bytes_of(layer.qkv_bias) + bytes_of(layer.q_norm) +
             bytes_of(layer.k_norm) + bytes_of(layer.output) + bytes_of(layer.mlp_norm) + bytes_of(layer.gate_up) +
             bytes_of(layer.down);
  }
  return bytes;
}

Weights load_weights(Backend& backend, const TensorFiles& files, const ModelConfig& config, WeightType type,
                     const std::function<void(double share)>& progress) {
  Weights weights;
  const double steps = config.layers + 1;
  progress(0);
  weights.embedding = load_embedding(backend, files, config, type);
  if (!config.tied_embedding) {
    weights.untied_head = matrix(backend, type, {files.matrix("lm_head.weight", config.vocabulary, config.hidden)});
  }
  weights.norm = vector(backend, {files.vector("model.norm.weight", config.hidden)});
  for (int32_t layer = 0; layer < config.layers; layer++) {
    progress((layer + 1) / steps);
    weights.layers.push_back(load_layer(backend, files, config, type, layer));
  }
  progress(1);
  return weights;
}

}  // namespace baton
