#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/config.h"
#include "core/plan.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace baton::cpu {

constexpr int32_t kMaxHeadDim = 256;

struct KvShape {
  int32_t layers;
  int32_t kv_heads;
  int32_t head_dim;  // at most kMaxHeadDim
  int32_t slots;     // even
  KvType type;
};

// Writes one token's k and v [head_dim], rounded to bf16, and zeros up to width: into its row of keys, and into its
// halves of its pair of values (`half` 0 or 1; the other half may be written by another thread at the same time).
using AppendBf16 = void (*)(uint16_t* key, uint16_t* pair, int32_t half, const float* k, const float* v,
                            int32_t head_dim, int32_t width);
void append_bf16(uint16_t* key, uint16_t* pair, int32_t half, const float* k, const float* v, int32_t head_dim,
                 int32_t width);  // in plain loops

// Keys and values of all layers. Each KV head of each layer has its slots in a row, so that a span is one stretch of
// memory:
//   f32   keys and values [slot][width]
//   bf16  keys [slot][width]; values [slot / 2][width][2], as AMX reads the right side of a product
// width is head_dim filled up with zeros to whole vectors. Memory is reserved at once and used when first written.
class KvCache {
 public:
  explicit KvCache(const KvShape& shape, AppendBf16 append = append_bf16);  // throws MODEL_UNSUPPORTED, OUT_OF_MEMORY

  const KvShape& shape() const { return shape_; }
  int32_t width() const { return width_; }
  size_t slot_bytes() const;  // keys and values of one token, all layers

  // From slot 0 of a KV head. Up to 32 keys beyond its last slot may be read; they mean nothing.
  const std::byte* keys(int32_t layer, int32_t kv_head) const { return keys_ + head_bytes(layer, kv_head); }
  const std::byte* values(int32_t layer, int32_t kv_head) const { return values_ + head_bytes(layer, kv_head); }

  // Writes one token's k and v [head_dim]. Different slots may be written by different threads at once.
  void append(int32_t layer, int32_t kv_head, int32_t slot, const float* k, const float* v);
  // What append wrote, as the cache's type keeps it.
  void read(int32_t layer, int32_t kv_head, int32_t slot, float* k, float* v) const;

  // Copies slots in all layers. The moves are independent of each other; each may overlap itself.
  void apply(std::span<const Move> moves, ThreadPool& pool);

 private:
  size_t row_bytes() const { return size_t(width_) * (shape_.type == KvType::f32 ? 4 : 2); }
  size_t head_bytes(int32_t layer, int32_t kv_head) const {
    return (size_t(layer) * size_t(shape_.kv_heads) + size_t(kv_head)) * size_t(shape_.slots) * row_bytes();
  }

  KvShape shape_;
  AppendBf16 append_bf16_;
  int32_t width_;
  Memory memory_;
  std::byte* keys_ = nullptr;    // [layers, kv_heads, slots, width]
  std::byte* values_ = nullptr;  // as many bytes, behind the keys
};

}  // namespace baton::cpu
