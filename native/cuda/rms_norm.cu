// RMS norm: out[r, i] = x[r, i] * weight[i] / sqrt(mean(x[r]^2) + eps), as a matrix product's operand
//
// Grid:   one block per row, its threads chosen by the width: a row's bits depend on nothing else.
// Reads:  x once, kept in registers; weight once per row (from L2), on its way while the sum is made. Rows whose width
//         is not a multiple of four, or beyond 16,384, are read again from L2.
// Bound:  memory; 4 bytes read and 1 to 4 written per value. With few rows latency: one trip to memory, one sum.

#include <cassert>

#include "cuda/operand.cuh"

namespace baton::cuda {

namespace {

constexpr int kAnyThreads = 256;

template <WeightType kType, int kThreads, int kFours>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(OperandView out, const float* x, const float* __restrict__ weight, float eps) {
  const int64_t row = blockIdx.x;
  BlockRow<kThreads, kFours> values, weights;
  values.load(x + row * out.width, out.width);
  weights.load(weight, out.width);

  float squares = 0;
#pragma unroll
  for (int j = 0; j < kFours; j++) squares += dot(values.fours[j], values.fours[j]);
  const float scale = rsqrtf(block_sum<kThreads>(squares) / float(out.width) + eps);

#pragma unroll
  for (int j = 0; j < kFours; j++) values.fours[j] = values.fours[j] * scale * weights.fours[j];
  store_row<kType>(out, row, values);
}

template <WeightType kType>
__global__ void __launch_bounds__(kAnyThreads)
    rms_norm_any_kernel(OperandView out, const float* x, const float* __restrict__ weight, float eps) {
  const int64_t row = blockIdx.x;
  x += row * out.width;
  float squares = 0;
  for (int i = threadIdx.x; i < out.width; i += kAnyThreads) squares += x[i] * x[i];
  const float scale = rsqrtf(block_sum<kAnyThreads>(squares) / float(out.width) + eps);
  store_values<kType, kAnyThreads>(out, row, [&](int i) { return x[i] * scale * weight[i]; });
}

template <WeightType kType>
void launch_type(OperandView out, const float* x, const float* weight, float eps, cudaStream_t stream) {
  const auto queue = [&](auto* kernel, int threads) {
    CUDA_CHECK(launch(kernel, out.rows, threads, 0, stream, out, x, weight, eps));
  };
  if (out.width % kFour != 0 || out.width > 16384) return queue(rms_norm_any_kernel<kType>, kAnyThreads);
  if (out.width <= 512) return queue(rms_norm_kernel<kType, 128, 1>, 128);
  if (out.width <= 2048) return queue(rms_norm_kernel<kType, 256, 2>, 256);
  if (out.width <= 4096) return queue(rms_norm_kernel<kType, 512, 2>, 512);
  if (out.width <= 8192) return queue(rms_norm_kernel<kType, 512, 4>, 512);
  queue(rms_norm_kernel<kType, 1024, 4>, 1024);
}

}  // namespace

void launch_rms_norm(OperandView out, const float* x, const float* weight, float eps, cudaStream_t stream) {
  if (out.rows == 0 || out.width == 0) return;
  assert(aligned16(x) && aligned16(weight) && aligned16(out.values) && out.pitch % 16 == 0);
  switch (out.type) {
    case WeightType::f32:
      return launch_type<WeightType::f32>(out, x, weight, eps, stream);
    case WeightType::bf16:
      return launch_type<WeightType::bf16>(out, x, weight, eps, stream);
    case WeightType::int8:
      return launch_type<WeightType::int8>(out, x, weight, eps, stream);
  }
}

}  // namespace baton::cuda
