// Select sampled: out[i] = x[rows[i]]
//
// Grid:   rows x stretches of a row; a thread copies four values, or one where the width is not a multiple of four.
// Reads:  the named rows of x, once.
// Bound:  latency; at most 64 rows, two dependent trips to memory.

#include <cassert>
#include <type_traits>

#include "cuda/kernels.h"
#include "cuda/vector.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 128;

// Values: float4 or float; `width` counts them.
template <typename Values>
__global__ void __launch_bounds__(kThreads)
    select_sampled_kernel(Values* out, const Values* x, const int32_t* __restrict__ rows, int width) {
  const int i = int(blockIdx.y * kThreads + threadIdx.x);
  if (i >= width) return;
  out[int64_t(blockIdx.x) * width + i] = x[int64_t(rows[blockIdx.x]) * width + i];
}

template <typename Values>
void launch_values(float* out, const float* x, const int32_t* rows, int32_t count, int32_t width, cudaStream_t stream) {
  const dim3 grid(unsigned(count), unsigned((width + kThreads - 1) / kThreads));
  CUDA_CHECK(launch(select_sampled_kernel<Values>, grid, kThreads, 0, stream, reinterpret_cast<Values*>(out),
                    reinterpret_cast<const Values*>(x), rows, width));
}

}  // namespace

void launch_select_sampled(float* out, const float* x, const int32_t* rows, int32_t count, int32_t width,
                           cudaStream_t stream) {
  if (count == 0 || width == 0) return;
  assert(aligned16(out) && aligned16(x));
  if (width % kFour == 0) return launch_values<float4>(out, x, rows, count, width / kFour, stream);
  launch_values<float>(out, x, rows, count, width, stream);
}

}  // namespace baton::cuda
