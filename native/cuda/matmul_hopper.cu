// out = x w^T + bias, out += x w^T, out = silu(x gate^T) * x up^T on compute capability 9.0; computed as out^T = w x^T:
// weights are the wide side, 64 outputs and 64 tokens per instruction.
//
// Law:    every sum is one chain of one instruction along k, ascending from zero: no split, no second accumulator. The
//         tile decides speed alone, and a token's bits do not depend on it.
// Grid:   one block per multiprocessor, which takes every gridDim.x-th tile. Its ring runs on across tiles, so that the
//         next one's first stages arrive during an epilogue.
// Block:  one thread of the last warpgroup has the copy engine fill a ring of stages, 128 bytes of k of every row of
//         the tile. The other warpgroups have 64 outputs each: they multiply a stage by all the tile's tokens, and
//         release it when the next one's products are queued, so that the tensor cores never wait for a release.
// Reads:  a tile's rows once. Rows beyond the matrices are zeros, and not read.
// Writes: straight from accumulators: a warp's store is 8 outputs of 4 tokens, whole sectors of 32 bytes, or halves of
//         them (bf16).
// Bound:  in estimates for an H100; nothing here is measured yet.
//         Few tokens: memory. 14 stages are 112 KB of weights on their way to each multiprocessor; 3.35 TB/s for 1 us
//         are 25 KB on each of 132, or 52 KB on each of 64, which is all that 4,096 outputs occupy: 30 bytes per clock
//         there, of the 64 that fit. A stage of weights may then last 280 clocks, and takes 128 of the tensor cores'.
//         With 64 tokens a tile reads as much of them, from L2, as of weights: close to what L2 gives.
//
//         Many tokens: shared memory. In the 1,024 clocks that 128 x 256 take the tensor cores per stage, they read
//         128 KB and 48 KB arrive, of 128 KB possible: about 3/4 of the peak. Instructions of 64 x 128, for all tiles,
//         would make that 96 + 48 KB, and cost the tensor cores twice the time where tokens are few.

#include "cuda/matmul_hopper.h"

#include <algorithm>
#include <cassert>

#include "cuda/hopper.cuh"
#include "cuda/matmul_epilogue.cuh"
#include "cuda/tensor_map.h"

namespace baton::cuda {

namespace {

// A block's share of out^T: outputs by the warpgroup, 64 each, tokens by the product, 64 each.
template <int kWarpgroups, int kProducts>
struct HopperTile {
  static constexpr int kOutputs = kWarpgroups * kTileRows;
  static constexpr int kTokens = kProducts * kTileRows;
  static constexpr int kThreads = (kWarpgroups + 1) * kWarpgroup;
  static constexpr bool kMovesRegisters = kThreads * 232 > 65536;  // 232 for all would not fit
  static constexpr int kStageBytes = (kOutputs + kTokens) * kTileRowBytes;
  static constexpr int kStages = 226 * 1024 / kStageBytes;  // a block has 227 KB
  static constexpr int kBytes = kStages * kStageBytes + 2 * kStages * int(sizeof(uint64_t));
  static_assert(kTokens <= 256, "the copy engine takes no more rows at once");
};

// Tiles in the order in which blocks take them. Neighbours share rows in L2: first those of the same outputs, kGroup of
// them at most, whose tokens then stay there (2,048 of 8 KB: 16 of 50 MB) while all weights pass by.
struct TileOrder {
  static constexpr int kGroup = 8;
  int output_tiles;
  int token_tiles;

  __host__ __device__ int count() const { return output_tiles * token_tiles; }
  __device__ int group(int tile) const { return tile / (kGroup * output_tiles) * kGroup; }
  __device__ int width(int tile) const { return min(kGroup, token_tiles - group(tile)); }
  __device__ int place(int tile) const { return tile - group(tile) * output_tiles; }
  __device__ int token(int tile) const { return group(tile) + place(tile) % width(tile); }
  __device__ int output(int tile) const { return place(tile) / width(tile); }
};

__device__ inline void multiply_group(float (&sums)[32], uint64_t w, uint64_t x) { multiply_group_bf16(sums, w, x); }
__device__ inline void multiply_group(int32_t (&sums)[32], uint64_t w, uint64_t x) { multiply_group_int8(sums, w, x); }

// stages: of 128 bytes, along k
template <typename Sum, typename Tile, typename Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    matmul_hopper_kernel(const __grid_constant__ CUtensorMap w_map, const __grid_constant__ CUtensorMap x_map,
                         Epilogue epilogue, OperandView x, MatrixView w, TileOrder tiles, int stages) {
// Empty for other targets, which lack the instructions: never launched there.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kProducts = Tile::kTokens / kTileRows;
  constexpr int kSteps = kTileRowBytes / kProductBytes;
  constexpr int kConsumerWarps = (Tile::kThreads - kWarpgroup) / kWarp;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  unsigned char* const ring = shared_memory();
  uint64_t* const full = reinterpret_cast<uint64_t*>(ring + Tile::kStages * Tile::kStageBytes);  // [kStages]
  uint64_t* const empty = full + Tile::kStages;                                                  // [kStages]

  // Barriers
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Tile::kStages; stage++) {
      barrier_init(full + stage, 1);
      barrier_init(empty + stage, kConsumerWarps);
    }
    barrier_init_fence();
  }
  __syncthreads();

  RingPlace<Tile::kStages> place;
  if (warp >= kConsumerWarps) {
    // Load
    if constexpr (Tile::kMovesRegisters) registers_release<40>();
    if (threadIdx.x % kWarpgroup == 0) {
      for (int tile = int(blockIdx.x); tile < tiles.count(); tile += int(gridDim.x)) {
        for (int i = 0; i < stages; i++, place.advance()) {
          unsigned char* const to = ring + place.stage * Tile::kStageBytes;
          uint64_t* const barrier = full + place.stage;
          barrier_wait(empty + place.stage, place.parity ^ 1);
          barrier_expect(barrier, Tile::kStageBytes);
          load_tile(to, &w_map, barrier, i * kTileRowBytes, tiles.output(tile) * Tile::kOutputs);
          load_tile(to + Tile::kOutputs * kTileRowBytes, &x_map, barrier, i * kTileRowBytes,
                    tiles.token(tile) * Tile::kTokens);
        }
      }
    }
  } else {
    if constexpr (Tile::kMovesRegisters) registers_claim<232>();
    for (int tile = int(blockIdx.x); tile < tiles.count(); tile += int(gridDim.x)) {
      // Multiply
      Sum sums[kProducts][32] = {};
#pragma unroll
      for (int j = 0; j < kProducts; j++) products_settle(sums[j]);
      uint64_t* release = nullptr;
      for (int i = 0; i < stages; i++, place.advance()) {
        const uint64_t stage = product_tile(ring + place.stage * Tile::kStageBytes);
        const uint64_t w_rows = product_tile(stage, warp / 4 * kTileRows, 0);
        const uint64_t x_rows = product_tile(stage, Tile::kOutputs, 0);
        barrier_wait(full + place.stage, place.parity);
        products_fence();
#pragma unroll
        for (int step = 0; step < kSteps; step++) {
#pragma unroll
          for (int j = 0; j < kProducts; j++) {
            multiply_group(sums[j], product_tile(w_rows, 0, step * kProductBytes),
                           product_tile(x_rows, j * kTileRows, step * kProductBytes));
          }
        }
        products_commit();
        products_wait<1>();
        if (release != nullptr && lane == 0) barrier_arrive(release);
        release = empty + place.stage;
      }
      products_wait<0>();
      if (lane == 0) barrier_arrive(release);

      // Store
      const int output = tiles.output(tile) * Tile::kOutputs + warp * 16 + lane / 4;
#pragma unroll
      for (int j = 0; j < kProducts; j++) {
        products_settle(sums[j]);
        const int token = tiles.token(tile) * Tile::kTokens + j * kTileRows + lane % 4 * 2;
        float values[8][4] = {};
#pragma unroll
        for (int k = 0; k < 32; k++) {
          const int o = output + k % 4 / 2 * 8, t = token + k / 4 * 8 + k % 2;
          if (o >= w.outputs || t >= x.rows) continue;
          values[k / 4][k % 4] = scaled_sum(sums[j][k], epilogue.addend(o, t), x, w, o, t);
        }
#pragma unroll
        for (int k = 0; k < 8; k++) epilogue.store(values[k], output, token + 8 * k);
      }
    }
  }
#endif
}

int multiprocessors() {
  int device = 0, count = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

template <typename Tile>
TileOrder tile_order(const OperandView& x, const MatrixView& w) {
  return {(w.outputs + Tile::kOutputs - 1) / Tile::kOutputs, (x.rows + Tile::kTokens - 1) / Tile::kTokens};
}

// Tensor maps are made anew for each launch: a fraction of a microsecond on the host, and the rows are always right.
template <typename Sum, typename Tile, typename Epilogue>
void launch_tile(Epilogue epilogue, OperandView x, MatrixView w, int blocks, cudaStream_t stream) {
  const TileOrder tiles = tile_order<Tile>(x, w);
  const CUtensorMap w_map = tensor_map(w.values, w.outputs, w.pitch, Tile::kOutputs);
  const CUtensorMap x_map = tensor_map(x.values, x.rows, x.pitch, Tile::kTokens);
  CUDA_CHECK(launch(matmul_hopper_kernel<Sum, Tile, Epilogue>, std::min(tiles.count(), blocks), Tile::kThreads,
                    Tile::kBytes, stream, w_map, x_map, epilogue, x, w, tiles, int(w.pitch / kTileRowBytes)));
}

template <typename Sum, typename Epilogue>
void launch_product(Epilogue epilogue, OperandView x, MatrixView w, cudaStream_t stream) {
  using Few = HopperTile<1, 1>;
  using Square = HopperTile<2, 2>;
  using Wide = HopperTile<2, 4>;
  const int blocks = multiprocessors();
  const auto rounds = [&](TileOrder tiles) { return (tiles.count() + blocks - 1) / blocks; };
  if (x.rows <= Few::kTokens) {
    launch_tile<Sum, Few>(epilogue, x, w, blocks, stream);
  } else if (5 * rounds(tile_order<Wide>(x, w)) <= 3 * rounds(tile_order<Square>(x, w))) {
    // A wide tile is two square ones in about 5/3 of the time, by its bytes (3/2) and its multiplications (2).
    launch_tile<Sum, Wide>(epilogue, x, w, blocks, stream);
  } else {
    launch_tile<Sum, Square>(epilogue, x, w, blocks, stream);
  }
}

template <typename Epilogue>
void launch_typed(Epilogue epilogue, OperandView x, MatrixView w, cudaStream_t stream) {
  assert(x.type == w.type && x.type != WeightType::f32);
  assert(x.width == w.inputs && x.pitch == w.pitch && w.pitch > 0 && w.pitch % kTileRowBytes == 0);
  if (x.rows == 0 || w.outputs == 0) return;
  if (w.type == WeightType::int8) {
    launch_product<int32_t>(epilogue, x, w, stream);
  } else {
    launch_product<float>(epilogue, x, w, stream);
  }
}

template <typename Value>
Swiglu<Value> swiglu(const OperandView& out) {
  return {static_cast<Value*>(out.values), out.rows, out.width, out.pitch / int64_t(sizeof(Value))};
}

}  // namespace

void launch_matmul_hopper(float* out, OperandView x, MatrixView w, const float* bias, cudaStream_t stream) {
  launch_typed(Store{{out, x.rows, w.outputs}, bias}, x, w, stream);
}

void launch_matmul_add_hopper(float* out, OperandView x, MatrixView w, cudaStream_t stream) {
  launch_typed(Add{{out, x.rows, w.outputs}}, x, w, stream);
}

void launch_matmul_swiglu_hopper(OperandView out, OperandView x, MatrixView w, cudaStream_t stream) {
  assert(w.gated && (int64_t(out.width) + 7) / 8 * 16 == w.outputs);
  assert(out.rows == x.rows && out.type != WeightType::int8);
  if (out.type == WeightType::f32) {
    launch_typed(swiglu<float>(out), x, w, stream);
  } else {
    launch_typed(swiglu<bf16>(out), x, w, stream);
  }
}

}  // namespace baton::cuda
