#pragma once

#include <cassert>
#include <limits>

#include "cuda/attention.cuh"
#include "cuda/hopper.cuh"
#include "cuda/tensor_map.h"

// What attention's kernels for compute capability 9.0 share: the sequence of operations of attention.cuh with 64 lanes
// to a warpgroup. A warpgroup has 64 x 64 scores and 64 x 64 values per instruction, whatever the kernel and the width,
// and a lane's values lie in its threads' registers where those of 16 lanes of a warp lie there. What differs:
//
//   s, acc   products of a warpgroup, which need not round like a warp's: a device has one kind for both kernels
//   l        c l + (sum of p[k]), where a thread adds up its own weights of the tile, and at a split's end the four
//            threads of a lane add up theirs
//
// The copy engine brings tiles of 64 keys and tiles of 64 values in turn. Beyond a lane's own position there may be
// anything in them: of keys it makes scores that are masked; values are multiplied by 0, so those from the end on are
// made 0 first.
namespace baton::cuda {

constexpr int kBlockColumns = kTileRowBytes / int(sizeof(bf16));

// The columns of a head, in blocks of 64. kWidth: 64, 128 or 256; the copy engine fills 32 and 96 up with zeros.
template <int kWidth>
struct HeadBlocks {
  static_assert(kWidth % kBlockColumns == 0);
  static constexpr int kCount = kWidth / kBlockColumns;
  static constexpr int kBytes = kCount * kTileBytes;
  static constexpr int kChunks = kCount * kTileRowBytes / 16;  // of a row, 8 columns each
};

// A block's shared memory. queries: of 64 lanes each.
template <int kWidth, int kQueries, int kRingStages>
struct HopperMemory {
  static constexpr int kStages = kRingStages;
  unsigned char queries[kQueries][HeadBlocks<kWidth>::kBytes];
  unsigned char stages[kStages][HeadBlocks<kWidth>::kBytes];  // keys, values, keys, values, …
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t queries_written;
  uint64_t last_loaded;  // values that are not yet full, because there is something to be made 0

  // All threads of the block.
  __device__ void begin(int consumers) {
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < kStages; stage++) {
        barrier_init(full + stage, 1);
        barrier_init(empty + stage, consumers / kWarp);
      }
      barrier_init(&queries_written, consumers);
      barrier_init(&last_loaded, 1);
      barrier_init_fence();
    }
    __syncthreads();
  }
};

// Load

// The matrix of all keys, or values, as the copy engine sees it; kv_row: of a head's slot.
inline CUtensorMap kv_map(const KvView& kv, const void* values, int box_rows) {
  const int64_t rows = int64_t(kv.layers) * kv.kv_heads * kv.slots;
  assert(rows + kKeyTile <= std::numeric_limits<int32_t>::max());
  return tensor_map(values, rows, kv.width * int64_t(sizeof(bf16)), box_rows);
}
__device__ inline int kv_row(const KvView& kv, int layer, int kv_head, int64_t slot) {
  return int((int64_t(layer) * kv.kv_heads + kv_head) * kv.slots + slot);
}

// Rows from `row` of the map to a tile, as many boxes as hold `rows` of them. By one thread.
template <int kWidth, int kBoxRows>
__device__ inline void load_rows(unsigned char* to, const CUtensorMap* map, uint64_t* barrier, int row, int rows) {
  constexpr int kBlocks = HeadBlocks<kWidth>::kCount;
  constexpr int kBoxBytes = kBoxRows * kTileRowBytes;
  const int boxes = (min(rows, kKeyTile) + kBoxRows - 1) / kBoxRows;
  barrier_expect(barrier, boxes * kBlocks * kBoxBytes);
  for (int box = 0; box < boxes; box++) {
    for (int block = 0; block < kBlocks; block++) {
      load_tile(to + block * kTileBytes + box * kBoxBytes, map, barrier, block * kTileRowBytes, row + box * kBoxRows);
    }
  }
}

// The tiles of positions begin .. end. row: of position 0 in the maps. One whole warp; only at the end of a block's
// tiles may `end` not be a multiple of a tile.
template <int kWidth, int kBoxRows, typename Memory>
__device__ inline void load_tiles(Memory& memory, RingPlace<Memory::kStages>& place, const CUtensorMap* keys,
                                  const CUtensorMap* values, int row, int begin, int end) {
  using Blocks = HeadBlocks<kWidth>;
  const int thread = threadIdx.x % kWarp;
  for (int position = begin; position < end; position += kKeyTile) {
    const int rows = end - position;
    if (thread == 0) {
      barrier_wait(memory.empty + place.stage, place.parity ^ 1);
      load_rows<kWidth, kBoxRows>(memory.stages[place.stage], keys, memory.full + place.stage, row + position, rows);
    }
    place.advance();
    unsigned char* const tile = memory.stages[place.stage];
    uint64_t* const full = memory.full + place.stage;
    if (thread == 0) {
      barrier_wait(memory.empty + place.stage, place.parity ^ 1);
      load_rows<kWidth, kBoxRows>(tile, values, rows < kKeyTile ? &memory.last_loaded : full, row + position, rows);
    }
    if (rows < kKeyTile) {
      barrier_wait(&memory.last_loaded, 0);
      for (int i = rows * Blocks::kChunks + thread; i < kKeyTile * Blocks::kChunks; i += kWarp) {
        const int chunk = i % Blocks::kChunks;
        unsigned char* const block_row = tile + chunk / 8 * kTileBytes + i / Blocks::kChunks * kTileRowBytes;
        *reinterpret_cast<uint4*>(block_row + chunk % 8 * 16) = make_uint4(0, 0, 0, 0);
      }
      tiles_fence();
      __syncwarp();
      if (thread == 0) barrier_arrive(full);
    }
    place.advance();
  }
}

// Lanes that share a KV head: token 0's heads, token 1's heads, …
struct Lanes {
  int token;  // first
  int head;   // first
  int group_heads;
  int count;

  __device__ int token_of(int lane) const { return token + lane / group_heads; }
  __device__ int head_of(int lane) const { return head + lane % group_heads; }
};

// Queries of 64 lanes, rounded to bf16, zeros for those that there are not. Thread `thread` of kThreads.
template <int kWidth, int kThreads>
__device__ inline void write_queries(unsigned char* tile, const AttentionView& view, const Lanes& lanes, int first_lane,
                                     int thread) {
  using Blocks = HeadBlocks<kWidth>;
  static_assert(kTileRows * Blocks::kChunks % kThreads == 0);
#pragma unroll 4
  for (int i = thread; i < kTileRows * Blocks::kChunks; i += kThreads) {
    const int row = i / Blocks::kChunks, chunk = i % Blocks::kChunks;
    const int lane = first_lane + row;
    uint32_t pairs[4] = {};
    if (lane < lanes.count) {
      const float* q = view.q + lanes.token_of(lane) * view.q_stride + lanes.head_of(lane) * view.kv.head_dim;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int column = chunk * 8 + 2 * j;
        if (column >= view.kv.head_dim) break;
        const float2 pair = *reinterpret_cast<const float2*>(q + column);
        pairs[j] = pack_bf16(pair.x, pair.y);
      }
    }
    unsigned char* const block_row = tile + chunk / 8 * kTileBytes + row * kTileRowBytes;
    *reinterpret_cast<uint4*>(block_row + (chunk % 8 ^ row % 8) * 16) =
        make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

// From here on a warpgroup works on a tile of lanes; a thread holds values of two of them.

// Accumulators of 64 x 64 products, as the functions for tiles of 8 columns know them.
template <int kTiles>
__device__ inline float (&accumulators(float (&tiles)[kTiles][4], int block))[32] {
  return reinterpret_cast<float(&)[32]>(tiles[block * 8]);
}

// s = q . keys, queued.
template <int kWidth>
__device__ inline void queue_scores(float (&s)[kKeyTile / 8][4], uint64_t query, uint64_t keys) {
  constexpr int kSteps = kTileRowBytes / kProductBytes;
#pragma unroll
  for (int k = 0; k < kWidth / 16; k++) {
    const int row = k / kSteps * kTileRows, byte = k % kSteps * kProductBytes;
    multiply_group_bf16(accumulators(s, 0), product_tile(query, row, byte), product_tile(keys, row, byte), k > 0);
  }
  products_commit();
}

// split += p . values, queued; `values` begins at the split's first block of columns.
template <int kColumns>
__device__ inline void queue_values(SplitState<kColumns, 1>& split, const uint32_t (&p)[kKeyTile / 16][4],
                                    uint64_t values) {
#pragma unroll
  for (int k = 0; k < kKeyTile / 16; k++) {
#pragma unroll
    for (int block = 0; block < kColumns / kBlockColumns; block++) {
      multiply_group_bf16(accumulators(split.values, block), p[k], product_tile(values, block * kTileRows + k * 16, 0));
    }
  }
  products_commit();
}

// Around products that read the split and these weights: before their fence, and after their wait.
template <int kColumns>
__device__ inline void settle(SplitState<kColumns, 1>& split, uint32_t (&p)[kKeyTile / 16][4]) {
#pragma unroll
  for (int block = 0; block < kColumns / kBlockColumns; block++) products_settle(accumulators(split.values, block));
#pragma unroll
  for (int k = 0; k < kKeyTile / 16; k++) products_settle(p[k]);
}

// What of a tile a thread's two lanes see.
struct LaneView {
  int least;    // all lanes of the warp see positions below
  int last[2];  // of the thread's
};

// Makes a tile's scores the weights of its values, rounded to bf16 but still floats: registers of a first operand must
// not be written while other products are in flight. The split's values have still to be scaled by `weight`.
template <int kColumns>
__device__ inline void weigh(float (&s)[kKeyTile / 8][4], float (&weight)[2], SplitState<kColumns, 1>& split,
                             int position, const LaneView& lanes, float scale) {
  products_settle(accumulators(s, 0));
  if (position + kKeyTile > lanes.least) mask_scores(s, position, lanes.last);
  float largest[2];
  largest_scores(largest, s);
  split.raise_largest(weight, largest, scale);
  uint32_t p[kKeyTile / 16][4];
  softmax_weights(p, s, scale, split.largest);

  float sum[2] = {};
#pragma unroll
  for (int j = 0; j < kKeyTile / 16; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float* two = s[2 * j + i / 2] + i % 2 * 2;
      two[0] = __uint_as_float(p[j][i] << 16);
      two[1] = __uint_as_float(p[j][i] & 0xffff0000);
      sum[i % 2] += two[0] + two[1];
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++) split.sum[2 * i] = fmaf(split.sum[2 * i], weight[i], sum[i]);
}

// Weights in the places of a first operand.
__device__ inline void pack_weights(uint32_t (&p)[kKeyTile / 16][4], const float (&s)[kKeyTile / 8][4]) {
#pragma unroll
  for (int j = 0; j < kKeyTile / 16; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float* two = s[2 * j + i / 2] + i % 2 * 2;
      p[j][i] = pack_bf16(two[0], two[1]);
    }
  }
}

// Where a consumer is in the ring.
template <typename Memory>
struct Consumer {
  Memory& memory;
  RingPlace<Memory::kStages> keys = {};
  RingPlace<Memory::kStages> values = {1, 0};

  explicit __device__ Consumer(Memory& memory) : memory(memory) {}

  __device__ uint64_t wait(const RingPlace<Memory::kStages>& place) const {
    barrier_wait(memory.full + place.stage, place.parity);
    return product_tile(memory.stages[place.stage]);
  }
  // Gives the tile back, and goes to the next of its kind. Once this warp's part of the products has read it.
  __device__ void release(RingPlace<Memory::kStages>& place) {
    if (threadIdx.x % kWarp == 0) barrier_arrive(memory.empty + place.stage);
    place.advance();
    place.advance();
  }
  // Tiles that others need.
  __device__ void skip(int begin, int end) {
    for (int position = begin; position < end; position += kKeyTile) {
      wait(keys);
      release(keys);
      wait(values);
      release(values);
    }
  }
};

// One split's positions begin .. end, at least one. While a tile's values are added, the next one's scores become
// weights. first_block: of the columns in `split`.
template <int kWidth, int kColumns, typename Memory>
__device__ inline void attend_split(SplitState<kColumns, 1>& split, Consumer<Memory>& consumer, uint64_t query,
                                    int first_block, int begin, int end, const LaneView& lanes, float scale) {
  const int first_row = first_block * kTileRows;
  float s[kKeyTile / 8][4] = {};
  uint32_t p[kKeyTile / 16][4];
  float weight[2];

  // The first tile's scores
  products_settle(accumulators(s, 0));
  const uint64_t first_keys = consumer.wait(consumer.keys);
  products_fence();
  queue_scores<kWidth>(s, query, first_keys);
  products_wait<0>();
  consumer.release(consumer.keys);
  weigh(s, weight, split, begin, lanes, scale);
  pack_weights(p, s);

  for (int position = begin + kKeyTile; position < end; position += kKeyTile) {
    // Scores of this tile, values of the one before
    products_settle(accumulators(s, 0));
    settle(split, p);
    const uint64_t keys = consumer.wait(consumer.keys);
    const uint64_t values = consumer.wait(consumer.values);
    products_fence();
    queue_scores<kWidth>(s, query, keys);
    queue_values(split, p, product_tile(values, first_row, 0));
    products_wait<1>();
    consumer.release(consumer.keys);
    weigh(s, weight, split, position, lanes, scale);
    products_wait<0>();
    settle(split, p);
    consumer.release(consumer.values);
    split.scale_values(weight);
    pack_weights(p, s);
  }

  // The last tile's values
  settle(split, p);
  const uint64_t values = consumer.wait(consumer.values);
  products_fence();
  queue_values(split, p, product_tile(values, first_row, 0));
  products_wait<0>();
  settle(split, p);
  consumer.release(consumer.values);
#pragma unroll
  for (int i = 0; i < 2; i++) {
    split.sum[2 * i] += __shfl_xor_sync(0xffffffffu, split.sum[2 * i], 1);
    split.sum[2 * i] += __shfl_xor_sync(0xffffffffu, split.sum[2 * i], 2);
  }
}

}  // namespace baton::cuda
