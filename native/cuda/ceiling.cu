// Ceilings: a copy, and matrix products on registers alone
//
// Grid:   copy: a thread copies four units of 16 bytes. Products: two blocks of 8 warps per multiprocessor, each warp
//         with eight sums that do not wait for one another.
// Bound:  what they measure.

#include "cuda/ceiling.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "cuda/device.cuh"
#include "cuda/memory.h"
#include "cuda/mma.cuh"
#include "cuda/resources.h"

namespace baton::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 4;
constexpr int kRepeats = 9;
constexpr int kSums = 8;
constexpr int kBlocksPerMultiprocessor = 2;
constexpr double kLeastSeconds = 2e-3;  // of one timing of products,
constexpr int kMostRounds = 1 << 20;    // but never more than these

__global__ void __launch_bounds__(kThreads) copy_kernel(uint4* to, const uint4* from, int64_t size) {
  const int64_t first = int64_t(blockIdx.x) * (kThreads * kLoads) + threadIdx.x;
  uint4 values[kLoads];
#pragma unroll
  for (int j = 0; j < kLoads; j++) {
    if (first + j * kThreads < size) values[j] = from[first + j * kThreads];
  }
#pragma unroll
  for (int j = 0; j < kLoads; j++) {
    if (first + j * kThreads < size) to[first + j * kThreads] = values[j];
  }
}

__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply_bf16(d, a, b);
}
__device__ inline void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply_int8(d, a, b);
}

// Random bits (zeros would spare the multipliers work and power); as bf16, values from -2 to -1 and from 1 to 2.
template <typename Sum>
__device__ inline uint32_t operand_bits(uint32_t index) {
  uint32_t bits = (index + 1) * 2654435761u;
  bits = (bits ^ bits >> 15) * 2246822519u;
  bits ^= bits >> 13;
  return std::is_same_v<Sum, float> ? (bits & 0x807f807fu) | 0x3f803f80u : bits;
}

// out: [gridDim.x, kThreads]; Sum: float of bf16, int32_t of int8.
template <typename Sum>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) products_kernel(Sum* out, int rounds) {
  const uint32_t thread = blockIdx.x * kThreads + threadIdx.x;
  uint32_t a[4], b[kSums][2];
  for (uint32_t i = 0; i < 4; i++) a[i] = operand_bits<Sum>(thread * 32 + i);
  for (uint32_t i = 0; i < 2 * kSums; i++) b[i / 2][i % 2] = operand_bits<Sum>(thread * 32 + 4 + i);
  Sum sums[kSums][4] = {};
  for (int round = 0; round < rounds; round++) {
#pragma unroll
    for (int i = 0; i < kSums; i++) multiply(sums[i], a, b[i]);
  }
  Sum total = 0;
  for (int i = 0; i < 4 * kSums; i++) total += sums[i / 4][i % 4] / (4 * kSums);
  out[thread] = total;
}

template <typename Queue>
double seconds(cudaStream_t stream, const Queue& queue) {
  const Event begin(cudaEventDefault), end(cudaEventDefault);
  CUDA_CHECK(cudaEventRecord(begin, stream));
  queue();
  CUDA_CHECK(cudaEventRecord(end, stream));
  CUDA_CHECK(cudaEventSynchronize(end));
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
  return milliseconds / 1e3;
}

template <typename Queue>
double median_seconds(cudaStream_t stream, const Queue& queue) {
  std::vector<double> times(kRepeats);
  seconds(stream, queue);  // does not count
  for (double& time : times) time = seconds(stream, queue);
  std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
  return times[kRepeats / 2];
}

template <typename Sum>
double products_per_second(double operations) {
  int device = 0, multiprocessors = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  const int blocks = multiprocessors * kBlocksPerMultiprocessor;
  const DeviceArray<Sum> out(size_t(blocks) * kThreads, "peak test");
  const Stream stream;
  int rounds = 8;
  const auto queue = [&] { CUDA_CHECK(launch(products_kernel<Sum>, blocks, kThreads, 0, stream, out.data(), rounds)); };
  while (rounds < kMostRounds && seconds(stream, queue) < kLeastSeconds) rounds *= 2;
  return operations * rounds * kSums * blocks * (kThreads / kWarp) / median_seconds(stream, queue);
}

}  // namespace

double copy_bytes_per_second(size_t bytes) {
  const size_t size = (bytes + sizeof(uint4) - 1) / sizeof(uint4);
  REQUIRE(size > 0, "INVALID_ARGUMENT", "bytes: expected a positive number, got 0");
  const DeviceArray<uint4> from(size, "copy test"), to(size, "copy test");
  const Stream stream;
  CUDA_CHECK(cudaMemsetAsync(from.data(), 1, from.bytes(), stream));
  constexpr size_t kPiece = kThreads * kLoads;
  const unsigned blocks = unsigned((size + kPiece - 1) / kPiece);
  const double ours = median_seconds(stream, [&] {
    CUDA_CHECK(launch(copy_kernel, blocks, kThreads, 0, stream, to.data(), from.data(), int64_t(size)));
  });
  const double theirs = median_seconds(stream, [&] {
    CUDA_CHECK(cudaMemcpyAsync(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToDevice, stream));
  });
  return 2.0 * double(from.bytes()) / std::min(ours, theirs);
}

double matrix_operations_per_second(WeightType type) {
  REQUIRE(type != WeightType::f32, "INVALID_ARGUMENT", "type: expected bf16 or int8, got f32");
  return type == WeightType::int8 ? products_per_second<int32_t>(2.0 * 16 * 8 * 32)
                                  : products_per_second<float>(2.0 * 16 * 8 * 16);
}

}  // namespace baton::cuda
