// Convert: out = x as a matrix product's operand: copied, rounded to bf16, or quantised to int8 with a scale per row
//
// Grid:   one block per row, its threads chosen by the width.
// Reads:  x once, kept in registers while int8 looks for the row's largest magnitude. Rows whose width is not a
//         multiple of four, or beyond 32,768, are read again from L2.
// Bound:  memory; 4 bytes read and 1 to 4 written per value.

#include <cassert>

#include "cuda/operand.cuh"

namespace baton::cuda {

namespace {

constexpr int kAnyThreads = 256;

template <WeightType kType, int kThreads, int kFours>
__global__ void __launch_bounds__(kThreads) convert_kernel(OperandView out, const float* x) {
  const int64_t row = blockIdx.x;
  BlockRow<kThreads, kFours> values;
  values.load(x + row * out.width, out.width);
  store_row<kType>(out, row, values);
}

template <WeightType kType>
__global__ void __launch_bounds__(kAnyThreads) convert_any_kernel(OperandView out, const float* x) {
  const int64_t row = blockIdx.x;
  x += row * out.width;
  store_values<kType, kAnyThreads>(out, row, [&](int i) { return x[i]; });
}

template <WeightType kType>
void launch_type(OperandView out, const float* x, cudaStream_t stream) {
  const auto queue = [&](auto* kernel, int threads) {
    CUDA_CHECK(launch(kernel, out.rows, threads, 0, stream, out, x));
  };
  if (out.width % kFour != 0 || out.width > 32768) return queue(convert_any_kernel<kType>, kAnyThreads);
  if (out.width <= 512) return queue(convert_kernel<kType, 128, 1>, 128);
  if (out.width <= 2048) return queue(convert_kernel<kType, 256, 2>, 256);
  if (out.width <= 4096) return queue(convert_kernel<kType, 512, 2>, 512);
  if (out.width <= 8192) return queue(convert_kernel<kType, 512, 4>, 512);
  if (out.width <= 16384) return queue(convert_kernel<kType, 1024, 4>, 1024);
  queue(convert_kernel<kType, 1024, 8>, 1024);
}

}  // namespace

void launch_convert(OperandView out, const float* x, cudaStream_t stream) {
  if (out.rows == 0 || out.width == 0) return;
  assert(aligned16(x) && aligned16(out.values) && out.pitch % 16 == 0);
  switch (out.type) {
    case WeightType::f32:
      return launch_type<WeightType::f32>(out, x, stream);
    case WeightType::bf16:
      return launch_type<WeightType::bf16>(out, x, stream);
    case WeightType::int8:
      return launch_type<WeightType::int8>(out, x, stream);
  }
}

}  // namespace baton::cuda
