#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/tensor_file.h"

namespace baton {

struct LayerWeights {
  std::unique_ptr<Vector> attention_norm;  // [hidden]
  std::unique_ptr<Matrix> qkv;             // [q_width + 2 kv_width, hidden]
  std::unique_ptr<Vector> qkv_bias;        // [q_width + 2 kv_width], or null
  std::unique_ptr<Vector> q_norm, k_norm;  // [head_dim], or null
  std::unique_ptr<Matrix> output;          // [hidden, q_width]
  std::unique_ptr<Vector> mlp_norm;        // [hidden]
  std::unique_ptr<Matrix> gate_up;         // [2 intermediate, hidden]
  std::unique_ptr<Matrix> down;            // [hidden, intermediate]
};

// A model's weights in backend memory.
struct Weights {
  std::unique_ptr<Matrix> embedding;  // [vocabulary, hidden]
  std::vector<LayerWeights> layers;
  std::unique_ptr<Vector> norm;         // [hidden]
  std::unique_ptr<Matrix> untied_head;  // [vocabulary, hidden]; null where the embedding is the head

  const Matrix& head() const { return untied_head ? *untied_head : *embedding; }
  size_t bytes() const;
};

// Finds a model's tensors by their Hugging Face names, checks their shapes and gives them to the backend. `progress` is
// told the share done after each layer; what it throws ends the load.
Weights load_weights(Backend& backend, const TensorFiles& files, const ModelConfig& config, WeightType type,
                     const std::function<void(double share)>& progress);

}  // namespace baton
