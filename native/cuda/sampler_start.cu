// Sampler start: a state for another request: bias = its biases, seen = how often its tokens have been
//
// Grid:   clears, then one block: counts are made before the output is added to them.
// Reads:  tokens twice, biases once; writes all of the state's bias and seen.
// Bound:  latency; some microseconds for each 1,024 biases, among which it looks for equals.

#include <cassert>

#include "cuda/device.cuh"
#include "cuda/kernels.h"

namespace baton::cuda {

namespace {

constexpr int kThreads = 1024;

__global__ void __launch_bounds__(kThreads)
    sampler_start_kernel(uint32_t* seen, float* bias, const int32_t* tokens, int32_t count, int32_t prompt_length,
                         const int32_t* bias_tokens, const float* bias_values, int32_t biases) {
  const int thread = int(threadIdx.x);

  // Tokens
  for (int i = thread; i < count; i += kThreads) atomicMax(&seen[tokens[i]], 1u);
  __syncthreads();
  for (int i = prompt_length + thread; i < count; i += kThreads) atomicAdd(&seen[tokens[i]], 1u);

  // Biases: a token's first entry of each thousand adds all of them, in their order.
  int32_t* shared_tokens = reinterpret_cast<int32_t*>(shared_memory());
  for (int begin = 0; begin < biases; begin += kThreads) {
    const int length = min(biases - begin, kThreads);
    __syncthreads();
    if (thread < length) shared_tokens[thread] = bias_tokens[begin + thread];
    __syncthreads();
    if (thread >= length) continue;
    const int32_t token = shared_tokens[thread];
    int first = 0;
    while (shared_tokens[first] != token) first++;
    if (first < thread) continue;
    float sum = bias[token];
    for (int i = thread; i < length; i++) {
      if (shared_tokens[i] == token) sum += bias_values[begin + i];
    }
    bias[token] = sum;
  }
}

}  // namespace

void launch_sampler_start(SamplerView sampler, int32_t state, int32_t vocabulary, const int32_t* tokens, int32_t count,
                          int32_t prompt_length, const int32_t* bias_tokens, const float* bias_values, int32_t biases,
                          cudaStream_t stream) {
  assert(prompt_length >= 0 && vocabulary > 0);
  uint32_t* seen = sampler.seen + int64_t(state) * vocabulary;
  float* bias = sampler.bias + int64_t(state) * vocabulary;
  CUDA_CHECK(cudaMemsetAsync(seen, 0, size_t(vocabulary) * sizeof *seen, stream));
  CUDA_CHECK(cudaMemsetAsync(bias, 0, size_t(vocabulary) * sizeof *bias, stream));
  if (count == 0 && biases == 0) return;
  CUDA_CHECK(launch(sampler_start_kernel, 1, kThreads, kThreads * sizeof(int32_t), stream, seen, bias, tokens, count,
                    prompt_length, bias_tokens, bias_values, biases));
}

}  // namespace baton::cuda
