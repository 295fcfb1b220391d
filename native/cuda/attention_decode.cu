// Attention of single tokens (decode): out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V, in the order of operations
// of attention.cuh.
//
// Grid:   splits × (KV heads × tiles of 16 heads that share one) × tokens. A block takes every gridDim.x-th split of
//         its token; one without any ends at once. Its 4 warps share a tile of keys in turn by keys (scores) and by
//         columns (values). Then a second kernel merges the splits, two columns a thread, where there is more than one.
// Reads:  K and V once per KV head (per 16 heads that share it), q once per split.
// Bound:  memory: K and V, and for a merge another 2 floats per column, head and split, which with 4 heads per KV head
//         are 3 %. A tile of 64 keys of 128 is 32 KiB: an H100 brings it to an SM in 2,260 cycles, and to compute with
//         it takes a block some 650, nearly all of them waiting: three blocks fill the SM.

#include <algorithm>
#include <cassert>

#include "cuda/attention.cuh"

namespace baton::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kKeysPerWarp = kKeyTile / kWarps;
static_assert(kKeysPerWarp == 16, "a warp's weights are one first operand");

template <int kWidth>
struct DecodeMemory {
  bf16 ring[TileRing<kWidth, kThreads>::kBytes / sizeof(bf16)];
  uint4 weights[kWarps][kWarp];  // of the tile: per 16 keys the threads' parts of a first operand
  float largest[kWarps][kLaneTile];
};

// Of one split: scores, softmax and values of all its tiles. All threads of the block; the warp gets its columns.
template <int kWidth>
__device__ void attend_split(SplitState<kWidth, kWarps>& state, DecodeMemory<kWidth>& memory, const bf16* keys,
                             const bf16* values, int begin, int end, const float* const (&q_rows)[2], int head_dim,
                             float scale) {
  const int warp = threadIdx.x / kWarp;
  const int thread = threadIdx.x % kWarp;
  const int group = thread / 4;
  const int last[2] = {end - 1, end - 1};

  // Load
  TileRing<kWidth, kThreads> ring(memory.ring, keys, values, begin, end);
  uint32_t q[kWidth / 16][4];
  load_query<kWidth>(q, q_rows, head_dim);

  for (int position = begin; position < end; position += kKeyTile) {
    // Scores: of the warp's own keys
    const int key_tile = ring.next();
    float s[kKeysPerWarp / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kWidth / 16; k++) add_scores<kWidth>(s, q[k], memory.ring, key_tile, warp * kKeysPerWarp, k);
    if (position + kKeyTile > end) mask_scores(s, position + warp * kKeysPerWarp, last);

    // Softmax: the largest of all warps' keys
    float largest[2];
    largest_scores(largest, s);
    if (thread % 4 == 0) {
      memory.largest[warp][group] = largest[0];
      memory.largest[warp][group + 8] = largest[1];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kWarps; i++) {
      largest[0] = fmaxf(largest[0], memory.largest[i][group]);
      largest[1] = fmaxf(largest[1], memory.largest[i][group + 8]);
    }
    state.raise(largest, scale);
    uint32_t own[1][4];
    softmax_weights(own, s, scale, state.largest);
    memory.weights[warp][thread] = make_uint4(own[0][0], own[0][1], own[0][2], own[0][3]);

    // Values: the warp's own columns of all keys
    const int value_tile = ring.next();
    uint32_t p[kKeyTile / 16][4];
#pragma unroll
    for (int k = 0; k < kKeyTile / 16; k++) {
      const uint4 part = memory.weights[k][thread];
      p[k][0] = part.x, p[k][1] = part.y, p[k][2] = part.z, p[k][3] = part.w;
    }
    state.add(p, memory.ring, value_tile, warp * 8);
  }
}

// splits: the most of one token, for which there is room in the workspace.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, kWidth > 128 ? 2 : 3)
    attention_decode_kernel(AttentionView view, const int32_t* indices, float* workspace, int splits, float scale) {
  auto& memory = *reinterpret_cast<DecodeMemory<kWidth>*>(shared_memory());
  const int token = indices[blockIdx.z];
  const int length = view.tokens.positions[token] + 1;
  if (int(blockIdx.x) * kAttentionSplit >= length) return;

  // The thread's two lanes, heads of the group
  const int warp = threadIdx.x / kWarp;
  const int group_heads = view.heads / view.kv.kv_heads;
  const int kv_head = blockIdx.y % view.kv.kv_heads;
  const int lane = blockIdx.y / view.kv.kv_heads * kLaneTile + threadIdx.x % kWarp / 4;
  const int head = kv_head * group_heads + lane;
  const bool there[2] = {lane < group_heads, lane + 8 < group_heads};
  const float* q = view.q + token * view.q_stride + head * view.kv.head_dim;
  const float* const q_rows[2] = {there[0] ? q : nullptr, there[1] ? q + 8 * view.kv.head_dim : nullptr};

  const int64_t first = kv_index(view.kv, view.layer, kv_head, first_slot(view.tokens, token));
  const bf16* keys = static_cast<const bf16*>(view.kv.keys) + first;
  const bf16* values = static_cast<const bf16*>(view.kv.values) + first;
  for (int split = blockIdx.x; split * kAttentionSplit < length; split += gridDim.x) {
    const int begin = split * kAttentionSplit;
    SplitState<kWidth, kWarps> state;
    attend_split<kWidth>(state, memory, keys, values, begin, std::min(begin + kAttentionSplit, length), q_rows,
                         view.kv.head_dim, scale);
    // survives: a block has a second split only among thousands of blocks, which are too many for the emulator
    __syncthreads();  // the next split's tiles go where others may still read this one's

    // Store
    if (length <= kAttentionSplit) {
      SplitTotal<kWidth, kWarps, 0> total(nullptr);
      total.merge(state);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (there[i]) total.store(view.out, i, token, head + i * 8, view.kv.head_dim, warp * 8);
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (!there[i]) continue;
      state.store(partial_at(workspace, view, blockIdx.z, head + i * 8, split, splits), i, view.kv.head_dim, warp * 8);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    attention_merge_kernel(AttentionView view, const int32_t* indices, float* workspace, int splits) {
  const int token = indices[blockIdx.y];
  const int length = view.tokens.positions[token] + 1;
  const int head_dim = view.kv.head_dim;
  const int column = (blockIdx.x * kThreads + threadIdx.x) * 2;
  if (length <= kAttentionSplit || column >= view.heads * head_dim) return;

  const int head = column / head_dim;
  const float* partial = partial_at(workspace, view, blockIdx.y, head, 0, splits);
  const int stride = head_dim + 2;
  const int at = 2 + column % head_dim;
  float largest = -INFINITY;
  float sum = 0;
  float2 value = make_float2(0, 0);
#pragma unroll 8  // loads that wait for nothing, at 0.6 µs each
  for (int begin = 0; begin < length; begin += kAttentionSplit) {
    const float2 split = *reinterpret_cast<const float2*>(partial);  // largest, sum
    const float2 split_value = *reinterpret_cast<const float2*>(partial + at);
    partial += stride;
    const Merge merge(largest, split.x);
    sum = merge(sum, split.y);
    value = make_float2(merge(value.x, split_value.x), merge(value.y, split_value.y));
  }
  store_pair(view.out, token, column, value.x / sum, value.y / sum);
}

template <int kWidth>
void launch_width(const AttentionView& view, const int32_t* indices, int32_t count, int splits, float* workspace,
                  cudaStream_t stream) {
  const int lane_tiles = (view.heads / view.kv.kv_heads + kLaneTile - 1) / kLaneTile;
  const int y = view.kv.kv_heads * lane_tiles;
  CUDA_CHECK(launch(attention_decode_kernel<kWidth>, dim3(split_blocks(splits, y * count), y, count), kThreads,
                    sizeof(DecodeMemory<kWidth>), stream, view, indices, workspace, splits,
                    attention_scale(view.kv.head_dim)));
}

}  // namespace

int64_t attention_workspace_floats(int32_t tokens, int32_t heads, int32_t head_dim, int32_t context) {
  const int splits = split_count(context);
  return splits > 1 ? int64_t(tokens) * heads * splits * (head_dim + 2) : 0;
}

void launch_attention_decode(AttentionView view, const int32_t* indices, int32_t count, int32_t context,
                             float* workspace, cudaStream_t stream) {
  assert(view.heads % view.kv.kv_heads == 0 && view.kv.head_dim % 2 == 0 && view.q_stride % 2 == 0);
  assert(view.out.type != WeightType::int8);
  if (count == 0) return;
  if (view.kv.type == KvType::f32) return launch_attention_f32(view, indices, nullptr, count, 1, stream);

  const int splits = split_count(context);
  switch (view.kv.width) {
    case 32:
      launch_width<32>(view, indices, count, splits, workspace, stream);
      break;
    case 64:
      launch_width<64>(view, indices, count, splits, workspace, stream);
      break;
    case 96:
      launch_width<96>(view, indices, count, splits, workspace, stream);
      break;
    case 128:
      launch_width<128>(view, indices, count, splits, workspace, stream);
      break;
    default:
      launch_width<256>(view, indices, count, splits, workspace, stream);
  }
  launch_attention_merge(view, indices, count, splits, workspace, stream);
}

void launch_attention_merge(const AttentionView& view, const int32_t* indices, int32_t count, int32_t splits,
                            float* workspace, cudaStream_t stream) {
  if (splits == 1) return;
  const int columns = view.heads * view.kv.head_dim;
  CUDA_CHECK(launch(attention_merge_kernel, dim3((columns / 2 + kThreads - 1) / kThreads, count), kThreads, 0, stream,
                    view, indices, workspace, splits));
}

}  // namespace baton::cuda
