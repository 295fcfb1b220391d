#include "cpu/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace baton::cpu {

namespace {

// A block with more than this share of a thread's work is shared out by splits, so that no thread waits long for
// another.
constexpr int64_t kItemsPerThread = 4;

template <KvType kType>
float at(const std::byte* memory, int64_t index) {
  if constexpr (kType == KvType::f32) {
    return reinterpret_cast<const float*>(memory)[index];
  } else {
    return std::bit_cast<float>(uint32_t(reinterpret_cast<const uint16_t*>(memory)[index]) << 16);
  }
}

template <KvType kType>
float key_at(const AttentionTask& task, int32_t position, int32_t i) {
  return at<kType>(task.keys, (task.slot + position) * task.width + i);
}

template <KvType kType>
float value_at(const AttentionTask& task, int32_t position, int32_t i) {
  const int64_t slot = task.slot + position;
  if constexpr (kType == KvType::f32) return at<kType>(task.values, slot * task.width + i);
  return at<kType>(task.values, (slot / 2 * task.width + i) * 2 + slot % 2);
}

template <KvType kType>
void attend_split(const AttentionTask& task, int32_t begin, int32_t end, int32_t lane, Partial out) {
  double scores[kSplit];
  double largest = -std::numeric_limits<double>::infinity();
  for (int32_t position = begin; position < end; position++) {
    double dot = 0;
    for (int32_t i = 0; i < task.head_dim; i++) dot += double(task.q[lane][i]) * key_at<kType>(task, position, i);
    const double score = dot / std::sqrt(double(task.head_dim));
    scores[position - begin] = score;
    if (!(score <= largest)) largest = score;
  }
  out.largest[lane] = float(largest);
  double sum = 0;
  for (int32_t position = begin; position < end; position++) {
    double& score = scores[position - begin];
    score = std::exp(score - double(out.largest[lane]));
    sum += score;
  }
  out.sum[lane] = float(sum);
  for (int32_t i = 0; i < task.width; i++) {
    double value = 0;
    for (int32_t position = begin; position < end; position++) {
      value += scores[position - begin] * value_at<kType>(task, position, i);
    }
    out.values[int64_t(lane) * task.width + i] = float(value);
  }
}

void merge(Partial into, Partial from, int32_t lanes, int32_t width) {
  for (int32_t lane = 0; lane < lanes; lane++) {
    if (from.sum[lane] == 0) continue;
    const double largest = std::max(into.largest[lane], from.largest[lane]);
    const double a = std::exp(into.largest[lane] - largest);
    const double b = std::exp(from.largest[lane] - largest);
    into.largest[lane] = float(largest);
    into.sum[lane] = float(into.sum[lane] * a + from.sum[lane] * b);
    for (int32_t i = 0; i < width; i++) {
      float& value = into.values[int64_t(lane) * width + i];
      value = float(value * a + from.values[int64_t(lane) * width + i] * b);
    }
  }
}

void finish(Partial partial, int32_t lane, int32_t width, int32_t head_dim, float* out) {
  for (int32_t i = 0; i < head_dim; i++) {
    out[i] = float(double(partial.values[int64_t(lane) * width + i]) / partial.sum[lane]);
  }
}

template <KvType kType>
void attend(const AttentionTask& task, Partial out) {
  float memory[Partial::floats(kLanes, kMaxHeadDim)];
  for (int32_t begin = task.begin; begin < task.end; begin += kSplit) {
    const Partial split = begin == task.begin ? out : Partial::in(memory);
    for (int32_t lane = 0; lane < task.lanes; lane++) {
      const int32_t end = std::min({begin + kSplit, task.end, task.position[lane] + 1});
      split.sum[lane] = 0;
      if (begin < end) attend_split<kType>(task, begin, end, lane, split);
    }
    if (begin > task.begin) merge(out, split, task.lanes, task.width);
  }
}

}  // namespace

AttentionKernels scalar_attention_kernels() {
  return {attend<KvType::f32>, attend<KvType::bf16>, merge, finish, append_bf16};
}

void AttentionScratch::attention(const KvCache& cache, const AttentionKernels& kernels, ThreadPool& pool,
                                 std::span<const Run> runs, int32_t layer, int32_t heads, const float* q,
                                 int64_t q_stride, float* out, int64_t out_stride) {
  const KvShape& shape = cache.shape();
  const int32_t group = heads / shape.kv_heads;

  // Blocks
  blocks_.clear();
  int64_t work = 0;  // positions of all blocks
  for (int32_t token = 0, i = 0; i < int32_t(runs.size()); token += runs[size_t(i)].count, i++) {
    const Run& run = runs[size_t(i)];
    // One KV head after another: its keys and values stay in the second-level cache from block to block.
    for (int32_t kv_head = 0; kv_head < shape.kv_heads; kv_head++) {
      for (int32_t lane = 0; lane < run.count * group; lane += kLanes) {
        const int32_t lanes = std::min(kLanes, run.count * group - lane);
        const int32_t end = run.position + (lane + lanes - 1) / group + 1;
        blocks_.push_back({i, token, lane, lanes, end, kv_head, -1});
        work += end;
      }
    }
  }

  // Items
  items_.clear();
  shared_.clear();
  int64_t floats = 0;
  for (int32_t i = 0; i < int32_t(blocks_.size()); i++) {
    Block& block = blocks_[size_t(i)];
    if (pool.size() == 1 || block.end <= kSplit || block.end * pool.size() * kItemsPerThread <= work) {
      items_.push_back({i, 0, block.end});
      continue;
    }
    shared_.push_back(i);
    block.partial = floats;
    for (int32_t begin = 0; begin < block.end; begin += kSplit) {
      items_.push_back({i, begin, std::min(begin + kSplit, block.end)});
      floats += Partial::floats(block.lanes, cache.width());
    }
  }
  if (partials_.size() < size_t(floats)) partials_.resize(size_t(floats));

  const auto row_offset = [&](const Block& block, int32_t lane, int64_t stride) {
    const int32_t place = block.lane + lane;
    const int32_t head = block.kv_head * group + place % group;
    return int64_t(block.token + place / group) * stride + int64_t(head) * shape.head_dim;
  };
  const auto finish = [&](const Block& block, Partial partial) {
    for (int32_t lane = 0; lane < block.lanes; lane++) {
      kernels.finish(partial, lane, cache.width(), shape.head_dim, out + row_offset(block, lane, out_stride));
    }
  };

  pool.run(int32_t(items_.size()), [&](int32_t index) {
    const Item& item = items_[size_t(index)];
    const Block& block = blocks_[size_t(item.block)];
    const Run& run = runs[size_t(block.run)];
    AttentionTask task;
    task.keys = cache.keys(layer, block.kv_head);
    task.values = cache.values(layer, block.kv_head);
    task.width = cache.width();
    task.head_dim = shape.head_dim;
    task.slot = int64_t(run.offset) + run.masked;
    task.begin = item.begin;
    task.end = item.end;
    task.lanes = block.lanes;
    for (int32_t lane = 0; lane < block.lanes; lane++) {
      task.q[lane] = q + row_offset(block, lane, q_stride);
      task.position[lane] = run.position + (block.lane + lane) / group;
    }
    const auto attend = shape.type == KvType::f32 ? kernels.attend_f32 : kernels.attend_bf16;
    if (block.partial < 0) {
      alignas(64) float memory[Partial::floats(kLanes, kMaxHeadDim)];
      attend(task, Partial::in(memory));
      finish(block, Partial::in(memory));
    } else {
      const int64_t split = item.begin / kSplit;
      attend(task, Partial::in(&partials_[size_t(block.partial + split * Partial::floats(block.lanes, task.width))]));
    }
  });

  pool.run(int32_t(shared_.size()), [&](int32_t index) {
    const Block& block = blocks_[size_t(shared_[size_t(index)])];
    const int64_t size = Partial::floats(block.lanes, cache.width());
    const Partial first = Partial::in(&partials_[size_t(block.partial)]);
    for (int32_t begin = kSplit; begin < block.end; begin += kSplit) {
      const int64_t split = begin / kSplit;
      kernels.merge(first, Partial::in(&partials_[size_t(block.partial + split * size)]), block.lanes, cache.width());
    }
    finish(block, first);
  });
}

}  // namespace baton::cpu
