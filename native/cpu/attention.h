#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/plan.h"
#include "cpu/kv_cache.h"
#include "cpu/thread_pool.h"

namespace baton::cpu {

// The unit of attention is a block of lanes against one KV head. A lane is one head of one token; those that share the
// KV head and belong to one run follow each other: token 0's heads, token 1's heads, …
constexpr int32_t kLanes = 16;

// A lane's positions are taken in splits of this many, each with a softmax of its own, merged in order. Splits begin at
// fixed positions, so it makes no difference who computes which. Between 128, 256 and 512 no difference could be told
// from noise, at 512 to 16,384 positions and head_dim 64 and 128 (2-core AMX Xeon, 2026-11).
constexpr int32_t kSplit = 256;

struct AttentionTask {
  const std::byte* keys;  // of the KV head, from slot 0; see KvCache
  const std::byte* values;
  int32_t width;  // of a row of them
  int32_t head_dim;
  int64_t slot;        // of position 0
  int32_t begin, end;  // positions; begin is a multiple of kSplit, end the last lane's position + 1 or less
  int32_t lanes;
  const float* q[kLanes];    // [head_dim] each
  int32_t position[kLanes];  // the last that the lane sees; never falls from lane to lane
};

// Softmax over some positions before its division: per lane the largest score, the sum of e^(score − largest), and the
// sum of the values with those weights. Owns nothing.
struct Partial {
  float* largest;  // [kLanes]
  float* sum;      // [kLanes]; 0: the lane sees none of the positions
  float* values;   // [lanes, width]

  static constexpr int64_t floats(int32_t lanes, int32_t width) { return 2 * kLanes + int64_t(lanes) * width; }
  static Partial in(float* memory) { return {memory, memory + kLanes, memory + 2 * kLanes}; }
};

struct AttentionKernels {
  // score = q · key / sqrt(head_dim); the splits of begin .. end, merged
  void (*attend_f32)(const AttentionTask& task, Partial out);
  void (*attend_bf16)(const AttentionTask& task, Partial out);
  // into = what both have seen
  void (*merge)(Partial into, Partial from, int32_t lanes, int32_t width);
  // out = values of one lane / its sum
  void (*finish)(Partial partial, int32_t lane, int32_t width, int32_t head_dim, float* out);
  AppendBf16 append_bf16;
};

AttentionKernels scalar_attention_kernels();

// What one attention call after another works in; kept from step to step, it grows to the largest seen.
class AttentionScratch {
 public:
  // out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V over positions 0 .. position of t, for the tokens of all runs,
  // one after another. q and out: rows of [heads * head_dim], a stride apart.
  void attention(const KvCache& cache, const AttentionKernels& kernels, ThreadPool& pool, std::span<const Run> runs,
                 int32_t layer, int32_t heads, const float* q, int64_t q_stride, float* out, int64_t out_stride);

 private:
  struct Block {
    int32_t run;
    int32_t token;  // of the run's first, in the step
    int32_t lane;   // first of the block, counted from the run's first
    int32_t lanes;
    int32_t end;  // positions its last lane sees
    int32_t kv_head;
    int64_t partial;  // of its first split in partials_; -1: not shared out
  };
  // One index of the pool's loop: a block, or one split of it.
  struct Item {
    int32_t block;
    int32_t begin, end;  // positions
  };

  std::vector<Block> blocks_;
  std::vector<Item> items_;
  std::vector<int32_t> shared_;  // blocks whose splits are items
  std::vector<float> partials_;
};

}  // namespace baton::cpu
