// SwiGLU: out[r, i] = silu(gate) * up, where a product left its sums in memory
//
// Grid:   rows x stretches of a row; a thread computes one value.
// Reads:  the product once. Eight gates lie side by side, and their ups behind them: sectors of 32 bytes.
// Bound:  memory; 8 bytes read and 2 or 4 written per value.

#include <cassert>

#include "cuda/device.cuh"
#include "cuda/kernels.h"
#include "cuda/matmul_epilogue.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kGates = 8;  // side by side, before as many ups; see MatrixView

template <typename Value>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(OperandView out, const float* a, int outputs) {
  const int64_t row = blockIdx.x;
  const int i = int(blockIdx.y * kThreads + threadIdx.x);
  if (i >= out.width) return;
  const float* gate = a + row * outputs + i / kGates * 2 * kGates + i % kGates;
  Value* to = reinterpret_cast<Value*>(static_cast<unsigned char*>(out.values) + row * out.pitch);
  to[i] = Value(swiglu(gate[0], gate[kGates]));
}

}  // namespace

void launch_swiglu(OperandView out, const float* a, int32_t outputs, cudaStream_t stream) {
  if (out.rows == 0 || out.width == 0) return;
  assert(out.type != WeightType::int8 && outputs == (out.width + kGates - 1) / kGates * 2 * kGates);
  const dim3 grid(unsigned(out.rows), unsigned((out.width + kThreads - 1) / kThreads));
  const auto kernel = out.type == WeightType::bf16 ? swiglu_kernel<bf16> : swiglu_kernel<float>;
  CUDA_CHECK(launch(kernel, grid, kThreads, 0, stream, out, a, outputs));
}

}  // namespace baton::cuda
