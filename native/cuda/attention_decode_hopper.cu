// Attention of single tokens (decode) on compute capability 9.0: out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V,
// in the order of operations of attention.cuh and attention_hopper.cuh.
//
// Grid:   splits × (KV heads × tiles of 64 heads that share one) × tokens. A block takes every gridDim.x-th split of
//         its token; one without any ends at once. A warpgroup multiplies, and a warp has the copy engine fill its ring
//         of tiles. Then the splits are merged as in attention_decode.cu, where there is more than one.
// Reads:  K and V once per KV head, and at most 15 positions beyond a token's own; q once per split.
// Bound:  memory, in estimates for an H100; nothing here is measured yet. The rows of a product that are no heads, 48
//         of 64 at the best, cost nothing but power: 64 rows are 64 operations per byte of K and V, where the device
//         has 295. So a tile of 64 keys and values of 128, 32 KiB, takes an SM 2,260 clocks to read, and 512 of its
//         tensor cores' and 256 of exponentials. From its arrival to its release a warpgroup needs some 900, nearly all
//         of them waiting: two blocks, with 192 KiB on their way where 25 would do.
#include "cuda/attention_hopper.h"

#include <cassert>

#include "cuda/attention_hopper.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = kWarpgroup + kWarp;
constexpr int kBoxRows = 16;

template <int kWidth>
struct DecodeShape {
  static constexpr int kBlocks = kWidth > 128 ? 1 : kWidth > 64 ? 2 : 3;  // of a multiprocessor
  using Memory = HopperMemory<kWidth, 1, (kWidth > 64 ? 6 : 8)>;
};

// splits: the most of one token, for which there is room in the workspace.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, DecodeShape<kWidth>::kBlocks)
    attention_decode_hopper_kernel(const __grid_constant__ CUtensorMap keys, const __grid_constant__ CUtensorMap values,
                                   AttentionView view, const int32_t* indices, float* workspace, int splits,
                                   float scale) {
// Empty for other targets, which lack the instructions: never launched there.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = DecodeShape<kWidth>;
  const int token = indices[blockIdx.z];
  const int length = view.tokens.positions[token] + 1;
  if (int(blockIdx.x) * kAttentionSplit >= length) return;
  auto& memory = *reinterpret_cast<typename Shape::Memory*>(shared_memory());
  memory.begin(kWarpgroup);

  const int group_heads = view.heads / view.kv.kv_heads;
  const int kv_head = blockIdx.y % view.kv.kv_heads;
  const int warp = __shfl_sync(0xffffffffu, int(threadIdx.x) / kWarp, 0);  // so the compiler knows that lanes agree
  if (warp == kWarpgroup / kWarp) {
    // Load
    const int row = kv_row(view.kv, view.layer, kv_head, first_slot(view.tokens, token));
    RingPlace<Shape::Memory::kStages> place;
    for (int split = blockIdx.x; split * kAttentionSplit < length; split += gridDim.x) {
      const int begin = split * kAttentionSplit;
      load_tiles<kWidth, kBoxRows>(memory, place, &keys, &values, row, begin, min(begin + kAttentionSplit, length));
    }
    return;
  }

  const Lanes lanes = {token, kv_head * group_heads, group_heads, group_heads};
  const int first_lane = blockIdx.y / view.kv.kv_heads * kTileRows;
  write_queries<kWidth, kWarpgroup>(memory.queries[0], view, lanes, first_lane, threadIdx.x);
  tiles_fence();
  barrier_arrive(&memory.queries_written);
  barrier_wait(&memory.queries_written, 0);

  const int lane = first_lane + warp * 16 + threadIdx.x % kWarp / 4;
  const LaneView seen = {length, {length - 1, length - 1}};
  Consumer<typename Shape::Memory> consumer(memory);
  for (int split = blockIdx.x; split * kAttentionSplit < length; split += gridDim.x) {
    const int begin = split * kAttentionSplit;
    SplitState<kWidth, 1> state;
    attend_split<kWidth>(state, consumer, product_tile(memory.queries[0]), 0, begin,
                         min(begin + kAttentionSplit, length), seen, scale);

    // Store
    if (length <= kAttentionSplit) {
      SplitTotal<kWidth, 1, 0> total(nullptr);
      total.merge(state);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (lane + i * 8 >= group_heads) break;
        total.store(view.out, i, token, lanes.head_of(lane + i * 8), view.kv.head_dim, 0);
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (lane + i * 8 >= group_heads) break;
      state.store(partial_at(workspace, view, blockIdx.z, lanes.head_of(lane + i * 8), split, splits), i,
                  view.kv.head_dim, 0);
    }
  }
#endif
}

template <int kWidth>
void launch_width(const AttentionView& view, const int32_t* indices, int32_t count, int splits, float* workspace,
                  cudaStream_t stream) {
  using Shape = DecodeShape<kWidth>;
  const int lane_tiles = (view.heads / view.kv.kv_heads + kTileRows - 1) / kTileRows;
  const int y = view.kv.kv_heads * lane_tiles;
  CUDA_CHECK(launch(attention_decode_hopper_kernel<kWidth>, dim3(split_blocks(splits, y * count), y, count), kThreads,
                    sizeof(typename Shape::Memory), stream, kv_map(view.kv, view.kv.keys, kBoxRows),
                    kv_map(view.kv, view.kv.values, kBoxRows), view, indices, workspace, splits,
                    attention_scale(view.kv.head_dim)));
}

}  // namespace

void launch_attention_decode_hopper(AttentionView view, const int32_t* indices, int32_t count, int32_t context,
                                    float* workspace, cudaStream_t stream) {
  assert(view.heads % view.kv.kv_heads == 0 && view.kv.head_dim % 2 == 0 && view.q_stride % 2 == 0);
  assert(view.out.type != WeightType::int8);
  if (count == 0) return;
  if (view.kv.type == KvType::f32) return launch_attention_f32(view, indices, nullptr, count, 1, stream);

  const int splits = split_count(context);
  if (view.kv.width <= 64) {
    launch_width<64>(view, indices, count, splits, workspace, stream);
  } else if (view.kv.width <= 128) {
    launch_width<128>(view, indices, count, splits, workspace, stream);
  } else {
    launch_width<256>(view, indices, count, splits, workspace, stream);
  }
  launch_attention_merge(view, indices, count, splits, workspace, stream);
}

}  // namespace baton::cuda
