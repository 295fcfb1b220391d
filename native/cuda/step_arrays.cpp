#include "cuda/step_arrays.h"

#include "cuda/check.h"

namespace baton::cuda {

namespace {

constexpr int64_t kAlignment = 4;  // integers: 16 bytes

int64_t aligned(int64_t integers) { return (integers + kAlignment - 1) / kAlignment * kAlignment; }

size_t capacity(int32_t tokens, int32_t rows) { return size_t(6 * aligned(tokens) + 4 * aligned(rows)); }

}  // namespace

StepArrays::StepArrays(int32_t most_tokens, int32_t most_rows)
    : rows_(most_rows), device_(capacity(most_tokens, most_rows), "plans") {}

void StepArrays::begin(int32_t tokens, int32_t sampled, Staging& staging) {
  for (int32_t i = 0; i < kArrays; i++) {
    const int32_t size = i < 6 ? tokens : i < 9 ? sampled : rows_;
    offset_[i + 1] = offset_[i] + aligned(size);
  }
  host_ = staging.take<int32_t>(size_t(offset_[kArrays]));
}

void StepArrays::upload(cudaStream_t stream) const {
  CUDA_CHECK(cudaMemcpyAsync(device_.data(), host_, size_t(offset_[kArrays]) * sizeof(int32_t), cudaMemcpyHostToDevice,
                             stream));
}

}  // namespace baton::cuda
