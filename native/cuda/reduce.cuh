#pragma once

#include "cuda/device.cuh"

// Sums, running sums and maxima over a warp and over a block, in one fixed order: the same values give the same bits.
namespace baton::cuda {

// Whole warps call these; every lane gets the answer. kLanes, a power of two: lanes of a group that answer for
// themselves.
template <int kLanes = kWarp, typename T>
__device__ inline T warp_sum(T v) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) v += __shfl_xor_sync(0xffffffffu, v, distance);
  return v;
}

template <int kLanes = kWarp, typename T>
__device__ inline T warp_max(T v) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, v, distance);
    v = other > v ? other : v;
  }
  return v;
}

// [32] What the warps of a block tell each other, shared by all reductions of a kernel over values of one type.
template <typename T>
__device__ inline T* warp_answers() {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  __shared__ uint64_t answers[32];
  return reinterpret_cast<T*>(answers);
}

// Every thread of the block must call these; every thread gets the answer. kThreads, the block's size: a multiple of
// 32, at most 1,024. May follow one another.
template <int kThreads, typename T>
__device__ inline T block_sum(T v) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  T* sums = warp_answers<T>();
  v = warp_sum(v);
  // survives: today's callers come past another barrier before they call again
  __syncthreads();  // an earlier answer has been read
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = v;
  __syncthreads();
  T sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; warp++) sum += sums[warp];
  return sum;
}

template <int kThreads, typename T>
__device__ inline T block_max(T v) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  T* maxima = warp_answers<T>();
  v = warp_max(v);
  // survives: today's callers come past another barrier before they call again
  __syncthreads();  // an earlier answer has been read
  if (threadIdx.x % kWarp == 0) maxima[threadIdx.x / kWarp] = v;
  __syncthreads();
  T most = maxima[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kWarp; warp++) most = maxima[warp] > most ? maxima[warp] : most;
  return most;
}

// The same, but each thread gets the sum of the threads up to and with itself.
template <int kThreads, typename T>
__device__ inline T block_running_sum(T v) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  T* sums = warp_answers<T>();
  const int lane = threadIdx.x % kWarp, own_warp = threadIdx.x / kWarp;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T earlier = __shfl_up_sync(0xffffffffu, v, distance);
    if (lane >= distance) v += earlier;
  }
  // survives: today's callers come past another barrier before they call again
  __syncthreads();  // an earlier answer has been read
  if (lane == kWarp - 1) sums[own_warp] = v;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; warp++) v += warp < own_warp ? sums[warp] : 0;
  return v;
}

}  // namespace baton::cuda
