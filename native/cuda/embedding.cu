// Embedding: out[t] = table[tokens[t]], as floats
//
// Grid:   tokens x stretches of a row; a thread makes four values.
// Reads:  one row of the table per token: 4, 2 or 1 bytes per value. Loads may take in the zeros behind a row.
// Bound:  memory; mostly the 4 bytes written per value. With few tokens latency: two dependent trips to memory.

#include <cassert>

#include "cuda/kernels.h"
#include "cuda/vector.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 128;

// kVector: values per store, 4 or 1.
template <WeightType kType, int kVector>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(float* out, MatrixView table, const int32_t* __restrict__ tokens) {
  const int i = kFour * int(blockIdx.y * kThreads + threadIdx.x);
  if (i >= table.inputs) return;
  const int token = tokens[blockIdx.x];
  const auto* row = static_cast<const unsigned char*>(table.values) + token * table.pitch;
  float4 v = load_four(reinterpret_cast<const Stored<kType>*>(row) + i);
  if constexpr (kType == WeightType::int8) v = v * table.scales[token];
  float* to = out + int64_t(blockIdx.x) * table.inputs + i;
  if constexpr (kVector == kFour) {
    store(to, v);
  } else {
    const float values[] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < kFour; j++) {
      if (i + j < table.inputs) to[j] = values[j];
    }
  }
}

template <WeightType kType>
void launch_type(float* out, MatrixView table, const int32_t* tokens, int32_t count, cudaStream_t stream) {
  const dim3 grid(unsigned(count), unsigned((table.inputs + kFour * kThreads - 1) / (kFour * kThreads)));
  const auto kernel = table.inputs % kFour == 0 ? embedding_kernel<kType, kFour> : embedding_kernel<kType, 1>;
  CUDA_CHECK(launch(kernel, grid, kThreads, 0, stream, out, table, tokens));
}

}  // namespace

void launch_embedding(float* out, MatrixView table, const int32_t* tokens, int32_t count, cudaStream_t stream) {
  if (count == 0 || table.inputs == 0) return;
  assert(!table.gated && aligned16(out) && aligned16(table.values) && table.pitch % 16 == 0);
  switch (table.type) {
    case WeightType::f32:
      return launch_type<WeightType::f32>(out, table, tokens, count, stream);
    case WeightType::bf16:
      return launch_type<WeightType::bf16>(out, table, tokens, count, stream);
    case WeightType::int8:
      return launch_type<WeightType::int8>(out, table, tokens, count, stream);
  }
}

}  // namespace baton::cuda
