#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/kernels.h"

// What matrix products do with their sums. A lane has four of 16 outputs and 8 tokens: those of (output, token),
// (output, token + 1), (output + 8, token) and (output + 8, token + 1). A kernel adds its addend() to each before it
// stores any result, so that no read waits for a write. Every operation that could be fused into another is an
// intrinsic, or the compiler might round it in one kernel and not in the next.
namespace baton::cuda {

__device__ inline float scaled_sum(float sum, float addend, const OperandView&, const MatrixView&, int, int) {
  return __fadd_rn(sum, addend);
}
__device__ inline float scaled_sum(int32_t sum, float addend, const OperandView& x, const MatrixView& w, int output,
                                   int token) {
  return __fadd_rn(__fmul_rn(float(sum), __fmul_rn(x.scales[token], w.scales[output])), addend);
}

struct Sums {
  float* out;  // [rows, outputs]
  int32_t rows;
  int32_t outputs;

  __device__ int64_t at(int output, int token) const { return int64_t(token) * outputs + output; }

  __device__ void store(const float (&sums)[4], int output, int token) const {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int o = output + i / 2 * 8, t = token + i % 2;
      if (o < outputs && t < rows) out[at(o, t)] = sums[i];
    }
  }
};

// out = sum + bias
struct Store : Sums {
  const float* bias;  // [outputs] or null
  __device__ float addend(int output, int) const { return bias == nullptr ? 0 : bias[output]; }
};

// out += sum
struct Add : Sums {
  __device__ float addend(int output, int token) const { return out[at(output, token)]; }
};

// silu(gate) * up
__device__ inline float swiglu(float gate, float up) { return gate / __fadd_rn(1, expf(-gate)) * up; }

// out = swiglu(gate, up): gates are the upper 8 of 16 outputs, ups the lower. What lies beyond width is not touched.
template <typename Value>
struct Swiglu {
  Value* out;  // [rows, pitch]
  int32_t rows;
  int32_t width;
  int64_t pitch;  // values

  __device__ float addend(int, int) const { return 0; }

  __device__ void store(const float (&sums)[4], int output, int token) const {
    const int i = output / 16 * 8 + output % 8;
#pragma unroll
    for (int j = 0; j < 2; j++) {
      if (i >= width || token + j >= rows) continue;
      out[(token + j) * pitch + i] = Value(swiglu(sums[j], sums[2 + j]));
    }
  }
};

}  // namespace baton::cuda
