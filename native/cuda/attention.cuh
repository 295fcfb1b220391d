#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cuda/device.cuh"
#include "cuda/kernels.h"
#include "cuda/mma.cuh"

// What attention's kernels share. A lane is one query head of one token. Whichever kernel computes it, a lane goes
// through one sequence of operations on the same values, so it gets the same bits:
//
//   for each split of kAttentionSplit positions, ascending:  m = -infinity, l = 0, acc = 0
//     for each tile of kKeyTile positions, ascending:
//       s[k] = q . k          a chain of products of 16 along d, from zero; -infinity beyond the lane's position
//       m' = max(m, scale max_k s[k]),  c = 2^(m - m'),  p[k] = bf16(2^(scale s[k] - m'))
//       acc = c acc + sum_k p[k] v[k],  l = c l + sum_k p[k]      products of 16 along k; l's with ones for v
//     total = total 2^(mt - M) + acc 2^(m - M),  M = max(mt, m)   likewise l
//   out = total / l
//
// attention_hopper.cuh says what is otherwise on compute capability 9.0, in both kernels there.
//
// Positions beyond the lane's own change nothing (c is 1, p is 0), however many of them a kernel visits. Products with
// a sum are written as fmaf: left to the compiler, two kernels could round them differently.
namespace baton::cuda {

constexpr int kLaneTile = 16;  // lanes of one matrix product
constexpr int kKeyTile = 64;   // positions
static_assert(kAttentionSplit % kKeyTile == 0);

// Scores are in units of log2(e), so that the softmax needs no other exponential than 2^x.
inline float attention_scale(int32_t head_dim) { return float(1.4426950408889634 / std::sqrt(double(head_dim))); }

inline int split_count(int32_t context) { return (context + kAttentionSplit - 1) / kAttentionSplit; }

// A block without a split costs a third of an SM 1 µs or so, and a graph's bound on the context may be far too high.
// This many are some 10 times what an H100 holds, enough to even out lengths. others: the rest of the grid.
inline int split_blocks(int splits, int others) {
  constexpr int kMostBlocks = 4096;
  return std::clamp(kMostBlocks / others, 1, splits);
}

// Where a split of head `head` of the i-th token to decode leaves its largest, its sum and its values [head_dim].
__device__ inline float* partial_at(float* workspace, const AttentionView& view, int i, int head, int split,
                                    int splits) {
  return workspace + ((int64_t(i) * view.heads + head) * splits + split) * (view.kv.head_dim + 2);
}

// Where a token's request has its position 0.
__device__ inline int64_t first_slot(const TokenView& tokens, int token) {
  return int64_t(tokens.slots[token]) - tokens.positions[token];
}

// Index of its first key (or value) in the cache.
__device__ inline int64_t kv_index(const KvView& kv, int layer, int kv_head, int64_t slot) {
  return ((int64_t(layer) * kv.kv_heads + kv_head) * kv.slots + slot) * kv.width;
}

__device__ inline uint32_t pack_bf16(float low, float high) {
  const bf16x2 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// Columns `column` and the next of a token's row of out.
__device__ inline void store_pair(const OperandView& out, int token, int column, float low, float high) {
  unsigned char* row = static_cast<unsigned char*>(out.values) + token * out.pitch;
  if (out.type == WeightType::f32) {
    *reinterpret_cast<float2*>(row + column * sizeof(float)) = make_float2(low, high);
  } else {
    *reinterpret_cast<uint32_t*>(row + column * sizeof(bf16)) = pack_bf16(low, high);
  }
}

// Tiles [rows, kWidth] in shared memory, at multiples of 1,024 bytes. Chunks of 8 columns are permuted within 128 bytes
// (64 where kWidth is no multiple of that), so that those of 8 rows at one column lie in all the banks.
template <int kWidth>
struct TileLayout {
  static constexpr int kSpan = kWidth % 64 == 0 ? 64 : 32;

  // Index of an element; column is a multiple of 8.
  __device__ static int at(int row, int column) {
    const int turn = kSpan == 64 ? row % 8 : row / 2 % 4;
    return row * kWidth + (column ^ turn * 8);
  }
  // Index of the element `columns` further on than that at `index` (of any tile), whose column has none of their bits.
  // An index that changes from tile to tile goes in, so the compiler cannot keep all that come out in registers.
  __device__ static int further(int index, int columns) { return (index ^ columns % kSpan) + columns / kSpan * kSpan; }
};

// Tiles of keys and values on their way from the cache to shared memory: the keys of the first tile, its values, the
// keys of the next, … Rows from `end` on are zeros and are not read: there may be anything, and 0 * NaN is NaN.
template <int kWidth, int kThreads>
class TileRing {
 public:
  static constexpr int kTileValues = kKeyTile * kWidth;
  // 64 KiB: on an H100 three blocks, so at least 96 KiB on their way, where 3.35 TB/s times 1 µs are 25 KiB per SM.
  static constexpr int kFit = 64 * 1024 / (kTileValues * int(sizeof(bf16)));
  static constexpr int kBuffers = kFit < 8 ? kFit : 8;
  static constexpr int kBytes = kBuffers * kTileValues * int(sizeof(bf16));

  // keys and values: of position 0. Takes positions begin .. end. All threads of the block; nobody still reads
  // `buffers`.
  __device__ TileRing(bf16* buffers, const bf16* keys, const bf16* values, int begin, int end)
      : buffers_(buffers), keys_(keys), values_(values), position_(begin), end_(end) {
#pragma unroll
    for (int i = 0; i < kBuffers - 1; i++) load();
  }

  // Index in `buffers` of the next tile, [kKeyTile, kWidth], to be read until the next call. All threads of the block;
  // it is a barrier.
  __device__ int next() {
    copy_async_wait<kBuffers - 2>();
    __syncthreads();  // this tile has arrived for all, and all have left the one before, whose place the next takes
    load();
    const int tile = reading_ * kTileValues;
    reading_ = reading_ + 1 == kBuffers ? 0 : reading_ + 1;
    return tile;
  }

 private:
  __device__ void load() {
    constexpr int kChunks = kWidth / 8;
    static_assert(kKeyTile * kChunks % kThreads == 0);
    if (position_ < end_) {
      const bf16* from = (at_values_ ? values_ : keys_) + int64_t(position_) * kWidth;
      bf16* to = buffers_ + writing_ * kTileValues;
#pragma unroll
      for (int i = 0; i < kKeyTile * kChunks; i += kThreads) {
        const int row = (i + threadIdx.x) / kChunks;
        const int column = (i + threadIdx.x) % kChunks * 8;
        copy_async(to + TileLayout<kWidth>::at(row, column), from + row * kWidth + column, position_ + row < end_);
      }
      writing_ = writing_ + 1 == kBuffers ? 0 : writing_ + 1;
      if (at_values_) position_ += kKeyTile;
      at_values_ = !at_values_;
    }
    copy_async_commit();  // an empty group too, so that the count of those behind a tile stays the same
  }

  bf16* buffers_;
  const bf16* keys_;
  const bf16* values_;
  int position_;  // of the next tile to load
  int end_;
  bool at_values_ = false;
  int reading_ = 0;
  int writing_ = 0;
};

// From here on a warp works on a tile of lanes; a thread holds values of two of them, group and group + 8, in the
// places that multiply_bf16 describes.

// A thread's part of 16 lanes' queries, rounded to bf16. rows: of its two lanes [head_dim], null for none.
template <int kWidth>
__device__ inline void load_query(uint32_t (&q)[kWidth / 16][4], const float* const (&rows)[2], int head_dim) {
  const int pair = threadIdx.x % 4 * 2;
#pragma unroll
  for (int k = 0; k < kWidth / 16; k++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int column = k * 16 + i / 2 * 8 + pair;
      const float* row = rows[i % 2];
      const bool there = row != nullptr && column < head_dim;
      const float2 value = there ? *reinterpret_cast<const float2*>(row + column) : make_float2(0, 0);
      q[k][i] = pack_bf16(value.x, value.y);
    }
  }
}

// s[., 8 j ..] += q . keys for dimensions 16 k .. 16 k + 15 and 8 kTiles keys, the first of them at row `key` of the
// tile that begins at buffers[tile]. Whole warps only.
template <int kWidth, int kTiles>
__device__ inline void add_scores(float (&s)[kTiles][4], const uint32_t (&q)[4], const bf16* buffers, int tile, int key,
                                  int k) {
  using Layout = TileLayout<kWidth>;
  const int row = key + threadIdx.x % 8 + threadIdx.x / 16 % 2 * 8;
  const int column = threadIdx.x / 8 % 2 * 8;
  const int at = Layout::further(tile + Layout::at(row, column), k * 16);
#pragma unroll
  for (int j = 0; j < kTiles; j += 2) {
    uint32_t b[4];
    load_matrix(b, buffers + at + j * 8 * kWidth);
    multiply_bf16(s[j], q, {b[0], b[1]});
    multiply_bf16(s[j + 1], q, {b[2], b[3]});
  }
}

// Scores beyond `last`, the positions of the thread's two lanes, become -infinity. position: of s[0].
template <int kTiles>
__device__ inline void mask_scores(float (&s)[kTiles][4], int position, const int (&last)[2]) {
  const int pair = threadIdx.x % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (position + j * 8 + pair + i % 2 > last[i / 2]) s[j][i] = -INFINITY;
    }
  }
}

// The largest score of each of the thread's two lanes. Whole warps only.
template <int kTiles>
__device__ inline void largest_scores(float (&largest)[2], const float (&s)[kTiles][4]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    largest[i] = -INFINITY;
#pragma unroll
    for (int j = 0; j < kTiles; j++) largest[i] = fmaxf(largest[i], fmaxf(s[j][2 * i], s[j][2 * i + 1]));
    largest[i] = fmaxf(largest[i], __shfl_xor_sync(0xffffffffu, largest[i], 1));
    largest[i] = fmaxf(largest[i], __shfl_xor_sync(0xffffffffu, largest[i], 2));
  }
}

// What powers are taken relative to: the largest, or 0 where nothing was seen and all weights are to be 0, not NaN.
__device__ inline float power_reference(float largest) { return largest == -INFINITY ? 0 : largest; }

// p = 2^(scale s - reference) as bf16, in the places of a matrix product's first operand.
template <int kTiles>
__device__ inline void softmax_weights(uint32_t (&p)[kTiles / 2][4], const float (&s)[kTiles][4], float scale,
                                       const float (&largest)[2]) {
  const float reference[2] = {power_reference(largest[0]), power_reference(largest[1])};
#pragma unroll
  for (int j = 0; j < kTiles / 2; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float* two = s[2 * j + i / 2] + i % 2 * 2;
      p[j][i] = pack_bf16(exp2_approximate(fmaf(two[0], scale, -reference[i % 2])),
                          exp2_approximate(fmaf(two[1], scale, -reference[i % 2])));
    }
  }
}

// How a lane's running total takes in one more split.
struct Merge {
  float total_weight;
  float split_weight;

  // total_largest becomes that of both. Into an empty total (-infinity, zeros) a split goes as it is.
  __device__ Merge(float& total_largest, float split_largest) {
    const float largest = fmaxf(total_largest, split_largest);
    total_weight = exp2_approximate(total_largest - power_reference(largest));
    split_weight = exp2_approximate(split_largest - power_reference(largest));
    total_largest = largest;
  }
  __device__ float operator()(float total, float split) const {
    return fmaf(split, split_weight, total * total_weight);
  }
};

// The softmax of one split before its division; a thread's part of it. kShare warps share the columns: every kShare-th
// tile of 8 is a warp's, from column `first` on.
template <int kWidth, int kShare>
struct SplitState {
  static constexpr int kTiles = kWidth / 8 / kShare;
  static constexpr int kStride = 8 * kShare;

  float largest[2] = {-INFINITY, -INFINITY};
  float sum[4] = {};  // of lane i at 2 i; the places between belong to a matrix product with ones that makes it
  float values[kTiles][4] = {};

  // Takes the largest scores of one more tile and scales what is there to them.
  __device__ void raise(const float (&scores)[2], float scale) {
    float weight[2];
    raise_largest(weight, scores, scale);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] *= weight[i / 2];
    scale_values(weight);
  }
  // The same in parts: the sums and values still have to be scaled by these weights.
  __device__ void raise_largest(float (&weight)[2], const float (&scores)[2], float scale) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float before = largest[i];
      largest[i] = fmaxf(before, scores[i] * scale);
      weight[i] = exp2_approximate(before - power_reference(largest[i]));
    }
  }
  __device__ void scale_values(const float (&weight)[2]) {
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) values[n][i] *= weight[i / 2];
    }
  }

  // Leaves lane i of the thread's two where partial_at says.
  __device__ void store(float* partial, int i, int head_dim, int first) const {
    const int pair = threadIdx.x % 4 * 2;
    if (first == 0 && pair == 0) *reinterpret_cast<float2*>(partial) = make_float2(largest[i], sum[2 * i]);
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const int column = first + n * kStride + pair;
      if (column >= head_dim) return;
      *reinterpret_cast<float2*>(partial + 2 + column) = make_float2(values[n][2 * i], values[n][2 * i + 1]);
    }
  }

  // Adds the values of the tile that begins at buffers[tile], with weights p. Whole warps only.
  __device__ void add(const uint32_t (&p)[kKeyTile / 16][4], const bf16* buffers, int tile, int first) {
    using Layout = TileLayout<kWidth>;
    constexpr uint32_t kOnes = 0x3f803f80;
    const int at = tile + Layout::at(threadIdx.x % kWarp, first);
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; k++) multiply_bf16(sum, p[k], {kOnes, kOnes});
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; k += 2) {
#pragma unroll
      for (int n = 0; n < kTiles; n++) {
        uint32_t b[4];
        load_matrix_transposed(b, buffers + Layout::further(at, n * kStride) + k * 16 * kWidth);
        multiply_bf16(values[n], p[k], {b[0], b[1]});
        multiply_bf16(values[n], p[k + 1], {b[2], b[3]});
      }
    }
  }
};

// Splits merged, in their order. The last kParked tiles of columns lie in shared memory; what a thread parks it alone
// reads.
template <int kWidth, int kShare, int kParked>
struct SplitTotal {
  using Split = SplitState<kWidth, kShare>;
  static constexpr int kKept = Split::kTiles - kParked;

  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
  float values[kKept][4] = {};
  float4* parked;  // [kParked, threads of the block], of this thread

  // memory: [kParked, threads of the block]
  __device__ explicit SplitTotal(float4* memory) : parked(memory + threadIdx.x) {
#pragma unroll
    for (int n = kKept; n < Split::kTiles; n++) write(n, {});
  }

  __device__ void merge(const Split& split) {
    const Merge merge[2] = {{largest[0], split.largest[0]}, {largest[1], split.largest[1]}};
#pragma unroll
    for (int i = 0; i < 2; i++) sum[i] = merge[i](sum[i], split.sum[2 * i]);
#pragma unroll
    for (int n = 0; n < Split::kTiles; n++) {
      float tile[4];
      read(tile, n);
#pragma unroll
      for (int i = 0; i < 4; i++) tile[i] = merge[i / 2](tile[i], split.values[n][i]);
      write(n, tile);
    }
  }

  // Stores lane i of the thread's two, divided, to a token's head.
  __device__ void store(const OperandView& out, int i, int token, int head, int head_dim, int first) const {
    const int pair = threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < Split::kTiles; n++) {
      const int column = first + n * Split::kStride + pair;
      if (column >= head_dim) return;
      float tile[4];
      read(tile, n);
      store_pair(out, token, head * head_dim + column, tile[2 * i] / sum[i], tile[2 * i + 1] / sum[i]);
    }
  }

 private:
  __device__ void read(float (&tile)[4], int n) const {
    if (n < kKept) {
#pragma unroll
      for (int i = 0; i < 4; i++) tile[i] = values[n][i];
    } else {
      const float4 part = parked[(n - kKept) * blockDim.x];
      tile[0] = part.x, tile[1] = part.y, tile[2] = part.z, tile[3] = part.w;
    }
  }
  __device__ void write(int n, const float (&tile)[4]) {
    if (n < kKept) {
#pragma unroll
      for (int i = 0; i < 4; i++) values[n][i] = tile[i];
    } else {
      parked[(n - kKept) * blockDim.x] = make_float4(tile[0], tile[1], tile[2], tile[3]);
    }
  }
};

// Both for a cache of floats: tokens indices[i], or where that is null those of runs, `longest` the most of one.
void launch_attention_f32(const AttentionView& view, const int32_t* indices, const AttentionRun* runs, int32_t count,
                          int32_t longest, cudaStream_t stream);

// What is left of decode where there is more than one split: merges those that partial_at says.
void launch_attention_merge(const AttentionView& view, const int32_t* indices, int32_t count, int32_t splits,
                            float* workspace, cudaStream_t stream);

}  // namespace baton::cuda
