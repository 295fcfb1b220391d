#pragma once

#include <cstdint>

namespace baton {

enum class WeightType { f32, bf16, int8 };
enum class KvType { f32, bf16 };

// How rotary frequencies are stretched for long contexts.
struct RopeScaling {
  enum class Kind { none, linear, llama3 } kind = Kind::none;
  double factor = 1;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double original_context = 8192;
};

// A decoder-only model of the Llama family, in numbers. Checked by check(): after it, no product below overflows int64.
struct ModelConfig {
  int32_t layers;
  int32_t hidden;
  int32_t intermediate;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t vocabulary;
  int32_t context;  // tokens of one request
  float rms_eps;
  double rope_theta;
  RopeScaling rope_scaling;
  bool tied_embedding;  // the output matrix is the embedding
  bool qkv_bias;        // Qwen2
  bool qk_norm;         // Qwen3: RMS norm of each head of q and k, before rope

  int32_t q_width() const { return heads * head_dim; }
  int32_t kv_width() const { return kv_heads * head_dim; }
  int32_t qkv_width() const { return q_width() + 2 * kv_width(); }

  void check() const;  // throws MODEL_UNSUPPORTED
};

// Tables for rotary embedding: cosine and sine of position * frequency[i], i < head_dim / 2.
// table: [context, head_dim] — per position head_dim / 2 cosines, then head_dim / 2 sines.
void fill_rope_table(const ModelConfig& config, float* table, int32_t context);

}  // namespace baton
