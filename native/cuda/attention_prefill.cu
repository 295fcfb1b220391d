// Attention of runs of tokens (prefill): out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V, in the order of
// operations of attention.cuh.
//
// Grid:   KV heads × blocks of lanes, the last (which see most) first × runs. The lanes of a run that share a KV head
//         are token 0's heads, token 1's heads, …; a warp takes 16 of them, and the block's 8 warps share tiles of 64
//         keys. Where a head is 256 wide, two warps take the same lanes and half of the columns each.
// Reads:  K and V once per block of lanes, mostly from L2: 16 bytes per cycle and SM with 128 lanes of 128.
// Bound:  shared memory: a warp reads all of a tile for its 16 lanes, 2 cycles of the SM's for a product that takes
//         mma.sync 1.6. That is 474 TFLOP/s on an H100; the softmax overlaps only in part.

#include <algorithm>
#include <cassert>

#include "cuda/attention.cuh"

namespace baton::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

template <int kWidth>
struct PrefillShape {
  // What fits in 255 registers: two warps share 256 columns; of 128, half of the total is parked, which adds 6 % to
  // what goes through shared memory (with less of it, ptxas 13.0 spills).
  static constexpr int kShare = kWidth > 128 ? 2 : 1;
  static constexpr int kParked = kWidth == 128 ? 8 : 0;
  static constexpr int kLaneTiles = kWarps / kShare;
  static constexpr int kLanes = kLaneTiles * kLaneTile;  // of a block
};

// The queries of a warp's 16 lanes, a thread's part: in registers, or, with a width of 256, in shared memory.
template <int kWidth>
struct Query {
  static constexpr int kSharedBytes = 0;
  uint32_t parts[kWidth / 16][4];

  __device__ Query(unsigned char*, int, const float* const (&rows)[2], int head_dim) {
    load_query<kWidth>(parts, rows, head_dim);
  }
  __device__ void read(uint32_t (&q)[4], int k) const {
#pragma unroll
    for (int i = 0; i < 4; i++) q[i] = parts[k][i];
  }
};

template <>
struct Query<256> {
  static constexpr int kSharedBytes = PrefillShape<256>::kLanes * 256 * int(sizeof(bf16));
  uint4* parts;  // [256 / 16, kWarp]

  // The first of the two warps that share the lanes writes them. To be read after a barrier.
  __device__ Query(unsigned char* memory, int tile, const float* const (&rows)[2], int head_dim)
      : parts(reinterpret_cast<uint4*>(memory) + (tile * 16 * kWarp + threadIdx.x % kWarp)) {
    if (int(threadIdx.x) / kWarp != tile) return;
    uint32_t q[256 / 16][4];
    load_query<256>(q, rows, head_dim);
#pragma unroll
    for (int k = 0; k < 256 / 16; k++) parts[k * kWarp] = make_uint4(q[k][0], q[k][1], q[k][2], q[k][3]);
  }
  __device__ void read(uint32_t (&q)[4], int k) const {
    const uint4 part = parts[k * kWarp];
    q[0] = part.x, q[1] = part.y, q[2] = part.z, q[3] = part.w;
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    attention_prefill_kernel(AttentionView view, const AttentionRun* runs, float scale) {
  using Shape = PrefillShape<kWidth>;
  using Ring = TileRing<kWidth, kThreads>;
  const AttentionRun run = runs[blockIdx.z];
  const int group_heads = view.heads / view.kv.kv_heads;
  const int lanes = run.count * group_heads;
  const int block_lane = (gridDim.y - 1 - blockIdx.y) * Shape::kLanes;
  if (block_lane >= lanes) return;

  const int kv_head = blockIdx.x;
  const int64_t first = kv_index(view.kv, view.layer, kv_head, first_slot(view.tokens, run.token));
  const int position = view.tokens.positions[run.token];
  const int end = position + (std::min(block_lane + Shape::kLanes, lanes) - 1) / group_heads + 1;
  bf16* buffers = reinterpret_cast<bf16*>(shared_memory());
  Ring ring(buffers, static_cast<const bf16*>(view.kv.keys) + first, static_cast<const bf16*>(view.kv.values) + first,
            0, end);

  // Load: the queries of the thread's two lanes
  const int tile = threadIdx.x / kWarp % Shape::kLaneTiles;
  const int first_column = threadIdx.x / kWarp / Shape::kLaneTiles * 8;
  const int warp_lane = block_lane + tile * kLaneTile;
  const int lane = warp_lane + threadIdx.x % kWarp / 4;
  const float* rows[2] = {};
#pragma unroll
  for (int i = 0; i < 2; i++) {
    if (lane + i * 8 >= lanes) break;
    const int token = run.token + (lane + i * 8) / group_heads;
    const int head = kv_head * group_heads + (lane + i * 8) % group_heads;
    rows[i] = view.q + token * view.q_stride + head * view.kv.head_dim;
  }
  const Query<kWidth> query(shared_memory() + Ring::kBytes, tile, rows, view.kv.head_dim);

  // What the warp's first and last lanes see
  const int least = position + warp_lane / group_heads + 1;
  const int most = warp_lane >= lanes ? 0 : position + std::min(warp_lane + kLaneTile - 1, lanes - 1) / group_heads + 1;
  SplitTotal<kWidth, Shape::kShare, Shape::kParked> total(reinterpret_cast<float4*>(shared_memory() + Ring::kBytes));
  SplitState<kWidth, Shape::kShare> split;
  for (int key = 0; key < end; key += kKeyTile) {
    if (key > 0 && key % kAttentionSplit == 0) {
      total.merge(split);
      split = {};
    }
    const bool seen = key < most;

    // Scores and softmax
    const int key_tile = ring.next();
    uint32_t p[kKeyTile / 16][4];
    if (seen) {
      float s[kKeyTile / 8][4] = {};
#pragma unroll
      for (int k = 0; k < kWidth / 16; k++) {
        uint32_t q[4];
        query.read(q, k);
        add_scores<kWidth>(s, q, buffers, key_tile, 0, k);
      }
      if (key + kKeyTile > least) {
        const int last[2] = {position + lane / group_heads, position + (lane + 8) / group_heads};
        mask_scores(s, key, last);
      }
      float largest[2];
      largest_scores(largest, s);
      split.raise(largest, scale);
      softmax_weights(p, s, scale, split.largest);
    }

    // Values
    const int value_tile = ring.next();
    if (seen) split.add(p, buffers, value_tile, first_column);
  }
  total.merge(split);

  // Store
#pragma unroll
  for (int i = 0; i < 2; i++) {
    if (lane + i * 8 >= lanes) break;
    const int token = run.token + (lane + i * 8) / group_heads;
    const int head = kv_head * group_heads + (lane + i * 8) % group_heads;
    total.store(view.out, i, token, head, view.kv.head_dim, first_column);
  }
}

template <int kWidth>
void launch_width(const AttentionView& view, const AttentionRun* runs, int32_t count, int32_t longest,
                  cudaStream_t stream) {
  constexpr int kLanes = PrefillShape<kWidth>::kLanes;
  const int64_t lanes = int64_t(longest) * (view.heads / view.kv.kv_heads);
  CUDA_CHECK(launch(attention_prefill_kernel<kWidth>,
                    dim3(view.kv.kv_heads, uint32_t((lanes + kLanes - 1) / kLanes), count), kThreads,
                    TileRing<kWidth, kThreads>::kBytes + Query<kWidth>::kSharedBytes +
                        PrefillShape<kWidth>::kParked * kThreads * sizeof(float4),
                    stream, view, runs, attention_scale(view.kv.head_dim)));
}

}  // namespace

void launch_attention_prefill(AttentionView view, const AttentionRun* runs, int32_t count, int32_t longest,
                              cudaStream_t stream) {
  assert(view.heads % view.kv.kv_heads == 0 && view.kv.head_dim % 2 == 0 && view.q_stride % 2 == 0);
  assert(view.out.type != WeightType::int8);
  if (count == 0 || longest == 0) return;
  if (view.kv.type == KvType::f32) return launch_attention_f32(view, nullptr, runs, count, longest, stream);

  switch (view.kv.width) {
    case 32:
      return launch_width<32>(view, runs, count, longest, stream);
    case 64:
      return launch_width<64>(view, runs, count, longest, stream);
    case 96:
      return launch_width<96>(view, runs, count, longest, stream);
    case 128:
      return launch_width<128>(view, runs, count, longest, stream);
    default:
      launch_width<256>(view, runs, count, longest, stream);
  }
}

}  // namespace baton::cuda
