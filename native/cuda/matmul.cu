// out = x w^T + bias, out += x w^T, out = silu(x gate^T) * x up^T; computed as out^T = w x^T: weights are the wide
// side, 16 outputs and 8 tokens per instruction.
//
// Law:    every sum is one chain of one instruction along k, ascending from zero: no split, no second accumulator. The
//         tile decides speed alone, and a token's bits do not depend on it.
// Grid:   one block per tile; tiles of the same outputs side by side, so that their weights come from memory once.
// Reads:  through a ring of stages in shared memory. A stage is kPitchBytes along k, so that zeros in the padding make
//         guards needless; rows that do not exist are filled with zeros and not read.
// Writes: straight from accumulators: a warp's store is 8 outputs of 4 tokens, whole sectors of 32 bytes; bf16: halves.
// Bound:  Few tokens: memory. 32 outputs take 4 KB per stage, of which 7 to 11 are on their way; an H100 wants 25 to 40
//         KB per multiprocessor. At 3.35 TB/s a stage may last 280 clocks: four multiplications, each waiting for the
//         one before, are 132, and fragments are loaded one step ahead of them. A block reads all its tokens too, from
//         L2: beyond 16 tokens this counts, so tiles of more tokens have more outputs (see TileChoice).
//         Many tokens: tensor cores. A warp's 64 x 64 needs 4 KB of fragments per step (32 clocks of shared memory) for
//         32 multiplications (64 clocks on an A100).

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <iterator>

#include "cuda/device.cuh"
#include "cuda/kernels.h"
#include "cuda/matmul_epilogue.cuh"
#include "cuda/mma.cuh"

namespace baton::cuda {

namespace {

// Where 16 bytes of a stage's row are. Each row has an order of its own, so that the same chunk of 8 rows, which
// load_matrix reads at a time, lies in 8 different groups of banks.
__device__ inline unsigned char* chunk_at(unsigned char* rows, int row, int chunk) {
  return rows + row * kPitchBytes + (chunk ^ row % 8) * 16;
}

// What one step along k needs of a warp's kOutputTiles x 16 outputs and kTokenTiles x 8 tokens, in the order of
// multiply_bf16 and multiply_int8: two chunks of each row.
template <int kOutputTiles, int kTokenTiles>
struct MatrixFragments {
  uint32_t w[kOutputTiles][4];
  uint32_t x[kTokenTiles][2];

  // Whole warps only.
  __device__ void load(unsigned char* w_rows, unsigned char* x_rows, int step) {
    const int lane = int(threadIdx.x % kWarp);
#pragma unroll
    for (int i = 0; i < kOutputTiles; i++) {
      load_matrix(w[i], chunk_at(w_rows, 16 * i + lane % 16, 2 * step + lane / 16));
    }
#pragma unroll
    for (int i = 0; i < kTokenTiles; i += 2) {  // two at a time; of a single one, twice the same
      const int row = (8 * i + lane / 16 * 8 + lane % 8) % (8 * kTokenTiles);
      uint32_t r[4];
      load_matrix(r, chunk_at(x_rows, row, 2 * step + lane / 8 % 2));
#pragma unroll
      for (int j = 0; j < 2 && i + j < kTokenTiles; j++) {
        x[i + j][0] = r[2 * j];
        x[i + j][1] = r[2 * j + 1];
      }
    }
  }
};

struct Bf16Product {
  using Sum = float;
  template <int kOutputTiles, int kTokenTiles>
  using Fragments = MatrixFragments<kOutputTiles, kTokenTiles>;
  static constexpr int kSteps = kPitchBytes / 32;

  __device__ static void multiply(float (&sums)[4], const uint32_t (&w)[4], const uint32_t (&x)[2]) {
    multiply_bf16(sums, w, x);
  }
};

struct Int8Product {
  using Sum = int32_t;
  template <int kOutputTiles, int kTokenTiles>
  using Fragments = MatrixFragments<kOutputTiles, kTokenTiles>;
  static constexpr int kSteps = kPitchBytes / 32;

  __device__ static void multiply(int32_t (&sums)[4], const uint32_t (&w)[4], const uint32_t (&x)[2]) {
    multiply_int8(sums, w, x);
  }
  // Intrinsics, or the compiler would be free to round the product in one instantiation and not in another.
};

// For tests and small models: lanes hold the same sums as above, each made by its lane alone.
struct F32Product {
  using Sum = float;
  template <int kOutputTiles, int kTokenTiles>
  struct Fragments {
    float4 w[kOutputTiles][2];
    float4 x[kTokenTiles][2];

    __device__ void load(unsigned char* w_rows, unsigned char* x_rows, int step) {
      const int lane = int(threadIdx.x % kWarp);
#pragma unroll
      for (int i = 0; i < kOutputTiles * 2; i++) {
        w[i / 2][i % 2] = *reinterpret_cast<const float4*>(chunk_at(w_rows, 8 * i + lane / 4, step));
      }
#pragma unroll
      for (int i = 0; i < kTokenTiles * 2; i++) {
        const int row = i / 2 * 8 + lane % 4 * 2 + i % 2;
        x[i / 2][i % 2] = *reinterpret_cast<const float4*>(chunk_at(x_rows, row, step));
      }
    }
  };
  static constexpr int kSteps = kPitchBytes / 16;

  __device__ static void multiply(float (&sums)[4], const float4 (&w)[2], const float4 (&x)[2]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float4 a = w[i / 2], b = x[i % 2];
      sums[i] = fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sums[i]))));
    }
  }
};

// A block's share of out^T, and each of its warps' share of that.
template <int kOutputsOfBlock, int kTokensOfBlock, int kOutputsOfWarp, int kTokensOfWarp, int kStagesOfRing>
struct Tile {
  static constexpr int kOutputs = kOutputsOfBlock;
  static constexpr int kTokens = kTokensOfBlock;
  static constexpr int kWarpOutputs = kOutputsOfWarp;
  static constexpr int kWarpTokens = kTokensOfWarp;
  static constexpr int kStages = kStagesOfRing;
  static constexpr int kStageBytes = (kOutputs + kTokens) * kPitchBytes;
  static constexpr int kThreads = kOutputs / kWarpOutputs * (kTokens / kWarpTokens) * kWarp;
  static_assert(kWarpOutputs % 16 == 0 && kWarpTokens % 8 == 0 && kStages >= 2);
  static_assert(kStages * kStageBytes <= 99 * 1024, "a block of compute capability 8.6 has no more");
};

// Starts the copies of one stage of kRows rows, of which `rows` exist.
template <int kRows, int kThreads>
__device__ inline void copy_rows(unsigned char* to, const unsigned char* from, int64_t pitch, int rows) {
  constexpr int kChunks = kPitchBytes / 16;
  constexpr int kRowsAtATime = kThreads / kChunks;
  static_assert(kRows % kRowsAtATime == 0);
  const int row = int(threadIdx.x) / kChunks, chunk = int(threadIdx.x) % kChunks;
  from += row * pitch + chunk * 16;
#pragma unroll
  for (int i = 0; i < kRows; i += kRowsAtATime) {
    copy_async(chunk_at(to, row + i, chunk), from, row + i < rows);
    from += kRowsAtATime * pitch;
  }
}

template <typename Product, typename Tile, typename Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    matmul_kernel(Epilogue epilogue, OperandView x, MatrixView w, int stages) {
  constexpr int kOutputTiles = Tile::kWarpOutputs / 16;
  constexpr int kTokenTiles = Tile::kWarpTokens / 8;
  constexpr int kSteps = Product::kSteps;
  static_assert(kSteps % 2 == 0);  // a stage's first fragments are fragments[0]
  constexpr int kWarpsAlongTokens = Tile::kTokens / Tile::kWarpTokens;
  const int token_tiles = (x.rows + Tile::kTokens - 1) / Tile::kTokens;
  const int first_token = int(blockIdx.x) % token_tiles * Tile::kTokens;
  const int first_output = int(blockIdx.x) / token_tiles * Tile::kOutputs;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int warp_token = warp % kWarpsAlongTokens * Tile::kWarpTokens;
  const int warp_output = warp / kWarpsAlongTokens * Tile::kWarpOutputs;
  unsigned char* const ring = shared_memory();

  const auto copy_stage = [&](int stage) {
    if (stage < stages) {
      unsigned char* const to = ring + stage % Tile::kStages * Tile::kStageBytes;
      const int64_t k = int64_t(stage) * kPitchBytes;
      copy_rows<Tile::kOutputs, Tile::kThreads>(
          to, static_cast<const unsigned char*>(w.values) + first_output * w.pitch + k, w.pitch,
          w.outputs - first_output);
      copy_rows<Tile::kTokens, Tile::kThreads>(to + Tile::kOutputs * kPitchBytes,
                                               static_cast<const unsigned char*>(x.values) + first_token * x.pitch + k,
                                               x.pitch, x.rows - first_token);
    }
    copy_async_commit();
  };

  typename Product::template Fragments<kOutputTiles, kTokenTiles> fragments[2];
  const auto load_step = [&](int stage, int step) {
    unsigned char* const rows = ring + stage % Tile::kStages * Tile::kStageBytes;
    fragments[step % 2].load(rows + warp_output * kPitchBytes, rows + (Tile::kOutputs + warp_token) * kPitchBytes,
                             step);
  };
  // Until the next stage is complete, and nobody reads the one before it any more.
  const auto wait_stage = [] {
    copy_async_wait<Tile::kStages - 2>();
    __syncthreads();
  };

  // Multiply: the next step's fragments are loaded first
  typename Product::Sum sums[kOutputTiles][kTokenTiles][4] = {};
  for (int stage = 0; stage < Tile::kStages - 1; stage++) copy_stage(stage);
  wait_stage();
  load_step(0, 0);
  for (int stage = 0; stage < stages; stage++) {
    copy_stage(stage + Tile::kStages - 1);
#pragma unroll
    for (int step = 0; step < kSteps; step++) {
      if (step + 1 < kSteps) {
        load_step(stage, step + 1);
      } else if (stage + 1 < stages) {
        wait_stage();
        load_step(stage + 1, 0);
      }
      const auto& now = fragments[step % 2];
#pragma unroll
      for (int i = 0; i < kOutputTiles; i++) {
#pragma unroll
        for (int j = 0; j < kTokenTiles; j++) Product::multiply(sums[i][j], now.w[i], now.x[j]);
      }
    }
  }

  // Store
  const int output = first_output + warp_output + lane / 4;
  const int token = first_token + warp_token + lane % 4 * 2;
  float values[kOutputTiles][kTokenTiles][4] = {};
#pragma unroll
  for (int i = 0; i < kOutputTiles; i++) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; j++) {
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int o = output + 16 * i + k / 2 * 8, t = token + 8 * j + k % 2;
        if (o >= w.outputs || t >= x.rows) continue;
        values[i][j][k] = scaled_sum(sums[i][j][k], epilogue.addend(o, t), x, w, o, t);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kOutputTiles; i++) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; j++) epilogue.store(values[i][j], output + 16 * i, token + 8 * j);
  }
}

// A tile to choose, and the clocks that 32 bytes of k take with it on an H100: of its busiest multiprocessor's tensor
// cores (1,024 bf16 multiplications each clock) or way to L2 (40 bytes), or of L2 (3,072 bytes). Published and
// estimated figures, not measured; only their ratios matter.
template <typename Epilogue>
struct TileChoice {
  int64_t clocks;
  int64_t blocks;
  int threads;
  size_t shared;
  void (*kernel)(Epilogue, OperandView, MatrixView, int);
};

template <typename Product, typename Tile, typename Epilogue>
TileChoice<Epilogue> tile_choice(const OperandView& x, const MatrixView& w) {
  constexpr int64_t kMultiprocessors = 132;
  constexpr int64_t kRows = Tile::kOutputs + Tile::kTokens;
  const int64_t blocks = (int64_t(w.outputs) + Tile::kOutputs - 1) / Tile::kOutputs *
                         ((int64_t(x.rows) + Tile::kTokens - 1) / Tile::kTokens);
  const int64_t most = (blocks + kMultiprocessors - 1) / kMultiprocessors;  // of one multiprocessor
  const int64_t clocks =
      std::max({most * Tile::kOutputs * Tile::kTokens * 16 / 1024, most * kRows * 32 / 40, blocks * kRows * 32 / 3072});
  return {clocks, blocks, Tile::kThreads, size_t(Tile::kStages) * Tile::kStageBytes,
          matmul_kernel<Product, Tile, Epilogue>};
}

template <typename Product, typename... Tiles, typename Epilogue>
void launch_tiled(Epilogue epilogue, const OperandView& x, const MatrixView& w, cudaStream_t stream) {
  const TileChoice<Epilogue> choices[] = {tile_choice<Product, Tiles, Epilogue>(x, w)...};
  const TileChoice<Epilogue>& tile = *std::min_element(
      std::begin(choices), std::end(choices), [](const auto& a, const auto& b) { return a.clocks < b.clocks; });
  assert(tile.blocks <= INT32_MAX);
  CUDA_CHECK(launch(tile.kernel, dim3(unsigned(tile.blocks)), dim3(tile.threads), tile.shared, stream, epilogue, x, w,
                    int(pitch_bytes(w.inputs, w.type) / kPitchBytes)));
}

// outputs, tokens of a block and of a warp, stages
using Tile32x8 = Tile<32, 8, 16, 8, 12>;
using Tile32x16 = Tile<32, 16, 16, 16, 12>;
using Tile32x32 = Tile<32, 32, 16, 32, 10>;
using Tile64x32 = Tile<64, 32, 16, 32, 8>;
using Tile64x64 = Tile<64, 64, 32, 32, 6>;
using Tile128x64 = Tile<128, 64, 64, 32, 4>;
using Tile128x128 = Tile<128, 128, 64, 64, 3>;

template <typename Epilogue>
void launch_epilogue(Epilogue epilogue, const OperandView& x, const MatrixView& w, cudaStream_t stream) {
  assert(x.type == w.type && x.width == w.inputs);
  assert(x.pitch % kPitchBytes == 0 && x.pitch >= pitch_bytes(x.width, x.type));
  assert(w.pitch % kPitchBytes == 0 && w.pitch >= pitch_bytes(w.inputs, w.type));
  if (x.rows == 0) return;
  switch (w.type) {
    case WeightType::bf16:
      return launch_tiled<Bf16Product, Tile32x8, Tile32x16, Tile32x32, Tile64x32, Tile64x64, Tile128x64, Tile128x128>(
          epilogue, x, w, stream);
    case WeightType::int8:
      return launch_tiled<Int8Product, Tile32x8, Tile32x16, Tile32x32, Tile64x32, Tile64x64, Tile128x64, Tile128x128>(
          epilogue, x, w, stream);
    case WeightType::f32:
      return launch_tiled<F32Product, Tile32x8, Tile32x32>(epilogue, x, w, stream);
  }
}

template <typename Value>
Swiglu<Value> swiglu(const OperandView& out) {
  return {static_cast<Value*>(out.values), out.rows, out.width, out.pitch / int64_t(sizeof(Value))};
}

}  // namespace

void launch_matmul(float* out, OperandView x, MatrixView w, const float* bias, cudaStream_t stream) {
  assert(!w.gated);
  launch_epilogue(Store{{out, x.rows, w.outputs}, bias}, x, w, stream);
}

void launch_matmul_add(float* out, OperandView x, MatrixView w, cudaStream_t stream) {
  assert(!w.gated);
  launch_epilogue(Add{{out, x.rows, w.outputs}}, x, w, stream);
}

void launch_matmul_swiglu(OperandView out, OperandView x, MatrixView w, cudaStream_t stream) {
  assert(w.gated && (int64_t(out.width) + 7) / 8 * 16 == w.outputs);
  assert(out.rows == x.rows && out.type != WeightType::int8);
  if (out.type == WeightType::f32) {
    launch_epilogue(swiglu<float>(out), x, w, stream);
  } else {
    launch_epilogue(swiglu<bf16>(out), x, w, stream);
  }
}

}  // namespace baton::cuda
