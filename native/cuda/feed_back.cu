// Feed back: tokens[t] = the token last drawn for row rows[t], wherever tokens[t] is kDrawn
//
// Grid:   one thread per token.
// Reads:  tokens; of those that stand for a drawn one also row, state and drawn token.
// Bound:  latency; three dependent trips to memory.

#include "cuda/device.cuh"
#include "cuda/kernels.h"

namespace baton::cuda {

namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    feed_back_kernel(int32_t* tokens, const int32_t* rows, int32_t count, SamplerView sampler) {
  const int t = int(blockIdx.x * kThreads + threadIdx.x);
  if (t >= count || tokens[t] != kDrawn) return;
  // Where nothing could be drawn, any token will do: the request ends before anyone sees what follows.
  tokens[t] = max(sampler.drawn[sampler.states[rows[t]]], 0);
}

}  // namespace

void launch_feed_back(int32_t* tokens, const int32_t* rows, int32_t count, SamplerView sampler, cudaStream_t stream) {
  if (count == 0) return;
  CUDA_CHECK(
      launch(feed_back_kernel, (count + kThreads - 1) / kThreads, kThreads, 0, stream, tokens, rows, count, sampler));
}

}  // namespace baton::cuda
