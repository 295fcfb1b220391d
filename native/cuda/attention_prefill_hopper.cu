// Attention of runs of tokens (prefill) on compute capability 9.0: out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V,
// in the order of operations of attention.cuh and attention_hopper.cuh.
//
// Grid:   KV heads × blocks of lanes, the last (which see most) first × runs. The lanes of a run that share a KV head
//         are token 0's heads, token 1's heads, …; a block has 128 of them, or 64 where a head is 256 wide.
// Block:  a warp of the last warpgroup has the copy engine fill a ring of tiles. Each of the others has 64 lanes, and
//         makes weights of a tile's scores while the tile before is multiplied by its values. Nothing keeps the two in
//         step: while one has only weights to make, the tensor cores are the other's.
// Reads:  K and V once per block of lanes, mostly from L2: 32 bytes per clock with 128 lanes.
// Bound:  in estimates for an H100; nothing here is measured yet. 128 lanes and 64 keys of 128 take the tensor cores
//         1,024 clocks. Meanwhile shared memory gives them 96 KiB and takes 32, of 128 possible: both are full at the
//         peak. Exponentials take 512, instructions some 600 of each scheduler. With 64 columns, exponentials take as
//         long as products; with 256, scores are computed twice, half as much again of products.
#include "cuda/attention_hopper.h"

#include <cassert>

#include "cuda/attention_hopper.cuh"

namespace baton::cuda {

namespace {

constexpr int kWarpgroups = 2;
constexpr int kConsumers = kWarpgroups * kWarpgroup;
constexpr int kThreads = kConsumers + kWarpgroup;

template <int kWidth>
struct PrefillShape {
  // Of 256 columns a warpgroup's registers hold half: two warpgroups take the same lanes, and the scores twice.
  static constexpr int kShare = kWidth > 128 ? 2 : 1;
  static constexpr int kColumns = kWidth / kShare;
  static constexpr int kQueries = kWarpgroups / kShare;
  static constexpr int kLanes = kQueries * kTileRows;  // of a block
  static constexpr bool kMovesRegisters = kColumns > 64;
  using Memory = HopperMemory<kWidth, kQueries, (kWidth > 128 ? 6 : 8)>;
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1)
    attention_prefill_hopper_kernel(const __grid_constant__ CUtensorMap keys,
                                    const __grid_constant__ CUtensorMap values, AttentionView view,
                                    const AttentionRun* runs, float scale) {
// Empty for other targets, which lack the instructions: never launched there.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = PrefillShape<kWidth>;
  const AttentionRun run = runs[blockIdx.z];
  const int group_heads = view.heads / view.kv.kv_heads;
  const int kv_head = blockIdx.x;
  const Lanes lanes = {run.token, kv_head * group_heads, group_heads, run.count * group_heads};
  const int block_lane = (gridDim.y - 1 - blockIdx.y) * Shape::kLanes;
  if (block_lane >= lanes.count) return;

  const int position = view.tokens.positions[run.token];
  const auto end_of = [&](int lane) { return position + (min(lane, lanes.count) - 1) / group_heads + 1; };
  const int end = end_of(block_lane + Shape::kLanes);
  auto& memory = *reinterpret_cast<typename Shape::Memory*>(shared_memory());
  memory.begin(kConsumers);

  const int warp = __shfl_sync(0xffffffffu, int(threadIdx.x) / kWarp, 0);  // so the compiler knows that lanes agree
  if (warp >= kConsumers / kWarp) {
    // Load
    if constexpr (Shape::kMovesRegisters) registers_release<40>();
    if (warp == kConsumers / kWarp) {
      RingPlace<Shape::Memory::kStages> place;
      const int row = kv_row(view.kv, view.layer, kv_head, first_slot(view.tokens, run.token));
      load_tiles<kWidth, kKeyTile>(memory, place, &keys, &values, row, 0, end);
    }
  } else {
    if constexpr (Shape::kMovesRegisters) registers_claim<232>();
    const int query = warp / 4 / Shape::kShare;
    const int first_column = warp / 4 % Shape::kShare * Shape::kColumns;
    write_queries<kWidth, kConsumers / Shape::kQueries>(memory.queries[query], view, lanes,
                                                        block_lane + query * kTileRows,
                                                        threadIdx.x % (kConsumers / Shape::kQueries));
    tiles_fence();
    barrier_arrive(&memory.queries_written);
    barrier_wait(&memory.queries_written, 0);

    const int group_lane = block_lane + query * kTileRows;
    const int warp_lane = group_lane + warp % 4 * 16;
    const int lane = warp_lane + threadIdx.x % kWarp / 4;
    const LaneView seen = {position + warp_lane / group_heads + 1,
                           {position + lane / group_heads, position + (lane + 8) / group_heads}};
    const int most = group_lane < lanes.count ? end_of(group_lane + kTileRows) : 0;
    Consumer<typename Shape::Memory> consumer(memory);
    SplitTotal<Shape::kColumns, 1, 0> total(nullptr);
    for (int begin = 0; begin < most; begin += kAttentionSplit) {
      SplitState<Shape::kColumns, 1> split;
      attend_split<kWidth>(split, consumer, product_tile(memory.queries[query]), first_column / kBlockColumns, begin,
                           min(begin + kAttentionSplit, most), seen, scale);
      total.merge(split);
    }
    consumer.skip((most + kKeyTile - 1) / kKeyTile * kKeyTile, end);

    // Store
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (lane + i * 8 >= lanes.count) break;
      total.store(view.out, i, lanes.token_of(lane + i * 8), lanes.head_of(lane + i * 8), view.kv.head_dim,
                  first_column);
    }
  }
#endif
}

template <int kWidth>
void launch_width(const AttentionView& view, const AttentionRun* runs, int32_t count, int32_t longest,
                  cudaStream_t stream) {
  using Shape = PrefillShape<kWidth>;
  const int64_t lanes = int64_t(longest) * (view.heads / view.kv.kv_heads);
  CUDA_CHECK(launch(attention_prefill_hopper_kernel<kWidth>,
                    dim3(view.kv.kv_heads, uint32_t((lanes + Shape::kLanes - 1) / Shape::kLanes), count), kThreads,
                    sizeof(typename Shape::Memory), stream, kv_map(view.kv, view.kv.keys, kKeyTile),
                    kv_map(view.kv, view.kv.values, kKeyTile), view, runs, attention_scale(view.kv.head_dim)));
}

}  // namespace

void launch_attention_prefill_hopper(AttentionView view, const AttentionRun* runs, int32_t count, int32_t longest,
                                     cudaStream_t stream) {
  assert(view.heads % view.kv.kv_heads == 0 && view.kv.head_dim % 2 == 0 && view.q_stride % 2 == 0);
  assert(view.out.type != WeightType::int8);
  if (count == 0 || longest == 0) return;
  if (view.kv.type == KvType::f32) return launch_attention_f32(view, nullptr, runs, count, longest, stream);

  if (view.kv.width <= 64) {
    launch_width<64>(view, runs, count, longest, stream);
  } else if (view.kv.width <= 128) {
    launch_width<128>(view, runs, count, longest, stream);
  } else {
    launch_width<256>(view, runs, count, longest, stream);
  }
}

}  // namespace baton::cuda
