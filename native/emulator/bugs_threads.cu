#include "cuda/mma.cuh"
#include "emulator/bugs.h"

// What threads, warps and blocks owe each other.
namespace baton::emulator {

namespace {

constexpr int kThreads = 64;
constexpr size_t kSharedBytes = kThreads * sizeof(float);

// kBarriers: 2 between the rounds too, 1 between writing and reading only, 0 none.
template <int kBarriers>
__global__ void rounds_kernel(float* out) {
  float* values = shared_values<float>();
  float sum = 0;
  for (int round = 0; round < 3; round++) {
    values[threadIdx.x] = float(threadIdx.x + 100 * round);
    if (kBarriers > 0) __syncthreads();
    sum += values[blockDim.x - 1 - threadIdx.x];
    if (kBarriers > 1) __syncthreads();
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

template <int kBarriers>
bool rounds() {
  const DeviceValues<float> out(2 * kThreads);
  return start(rounds_kernel<kBarriers>, 2, kThreads, kSharedBytes, out.data()) &&
         equal(out.read(), [](size_t i) { return 3 * (kThreads - 1 - i % kThreads) + 300; });
}

template <bool kBarrier>
__global__ void warp_kernel(float* out) {
  float* values = shared_values<float>();
  values[threadIdx.x] = float(threadIdx.x);
  if (kBarrier) __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

template <bool kBarrier>
bool warp_barrier() {
  const DeviceValues<float> out(kThreads);
  return start(warp_kernel<kBarrier>, 1, kThreads, kSharedBytes, out.data()) &&
         equal(out.read(), [](size_t i) { return i ^ 1; });
}

__global__ void divergent_kernel(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[0] = 1;
    __syncthreads();
  }
}

bool divergent_barrier() {
  const DeviceValues<float> out(1);
  start(divergent_kernel, 1, kThreads, 0, out.data());
  return equal(out.read(), [](size_t) { return 1; });
}

// Half of the block waits for all of it.
__global__ void partial_kernel(float* out) {
  if (threadIdx.x < 32) named_barrier(1, kThreads);
  out[threadIdx.x] = float(threadIdx.x);
}

bool partial_barrier() {
  const DeviceValues<float> out(kThreads);
  return start(partial_kernel, 1, kThreads, 0, out.data()) && equal(out.read(), [](size_t i) { return i; });
}

// One warp brings, the other uses.
template <bool kBoth>
__global__ void named_kernel(float* out) {
  float* values = shared_values<float>();
  if (threadIdx.x < 32) {
    values[threadIdx.x] = float(threadIdx.x);
    named_barrier_arrive(2, kThreads);
  } else {
    if (kBoth) named_barrier(2, kThreads);
    out[threadIdx.x - 32] = values[63 - threadIdx.x];
  }
}

template <bool kBoth>
bool named_barriers() {
  const DeviceValues<float> out(32);
  return start(named_kernel<kBoth>, 1, kThreads, kSharedBytes, out.data()) &&
         equal(out.read(), [](size_t i) { return 31 - i; });
}

__global__ void reduce_kernel(float* out, unsigned mask, int lanes) {
  float sum = float(threadIdx.x);
  if (int(threadIdx.x % 32) < lanes) {
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(mask, sum, distance);
  }
  if (__syncthreads_or(threadIdx.x == 3) == 0 || __syncthreads_count(threadIdx.x < 5) != 5) sum = -1;
  out[threadIdx.x] = sum;
}

bool reduces(unsigned mask, int lanes) {
  const DeviceValues<float> out(kThreads);
  return start(reduce_kernel, 1, kThreads, 0, out.data(), mask, lanes) &&
         equal(out.read(), [](size_t i) { return i < 32 ? 31 * 16 : 31 * 16 + 32 * 32; });
}

bool shuffle() { return reduces(0xffffffff, 32); }
bool shuffle_partial() { return reduces(0xffffffff, 16); }
bool shuffle_mask() { return reduces(0x0000ffff, 32); }

__global__ void shuffle_exited_kernel(float* out) {
  if (threadIdx.x % 32 == 5) return;
  out[threadIdx.x] = __shfl_sync(0xffffffff, float(threadIdx.x), 0);
}

bool shuffle_exited() {
  const DeviceValues<float> out(kThreads);
  start(shuffle_exited_kernel, 1, kThreads, 0, out.data());
  out.read();
  return true;
}

__global__ void shuffle_divergent_kernel(float* out) {
  if (threadIdx.x % 32 < 16) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffff, 1.0f, 1);
  } else {
    __syncwarp();
  }
}

bool shuffle_divergent() {
  const DeviceValues<float> out(kThreads);
  start(shuffle_divergent_kernel, 1, kThreads, 0, out.data());
  out.read();
  return true;
}

// A ring of stages: each holds 16 bytes for each thread, of which the neighbour's are read.
constexpr int kStages = 3;
constexpr int kSteps = 8;

// kPending: groups that may be missing when a stage is read; kBarriers as above.
template <int kPending, int kBarriers>
__global__ void pipeline_kernel(float* out, const float* in) {
  float* stages = shared_values<float>();
  const auto stage = [stages](int step) { return stages + step % kStages * 4 * kThreads; };
  const auto bring = [&](int step) {
    if (step < kSteps) {
      cuda::copy_async(stage(step) + 4 * threadIdx.x, in + (step * kThreads + int(threadIdx.x)) * 4);
    }
    cuda::copy_async_commit();
  };
  for (int step = 0; step < kStages - 1; step++) bring(step);
  float sum = 0;
  for (int step = 0; step < kSteps; step++) {
    cuda::copy_async_wait<kPending>();
    if (kBarriers > 0) __syncthreads();
    sum += stage(step)[4 * (kThreads - 1 - threadIdx.x)];
    if (kBarriers > 1) __syncthreads();
    bring(step + kStages - 1);
  }
  out[threadIdx.x] = sum;
}

template <int kPending, int kBarriers>
bool pipeline() {
  std::vector<float> values(kSteps * kThreads * 4);
  for (size_t i = 0; i < values.size(); i++) values[i] = float(i % 1009);
  const DeviceValues<float> in(values), out(kThreads);
  return start(pipeline_kernel<kPending, kBarriers>, 1, kThreads, kStages * 4 * kSharedBytes, out.data(), in.data()) &&
         equal(out.read(), [&values](size_t i) {
           float sum = 0;
           for (size_t step = 0; step < kSteps; step++) sum += values[(step * kThreads + kThreads - 1 - i) * 4];
           return sum;
         });
}

__global__ void blocks_kernel(float* out, int apart) { out[blockIdx.x * apart + threadIdx.x] = float(threadIdx.x); }

template <int kApart>
bool blocks() {
  const DeviceValues<float> out(4 * kThreads);
  start(blocks_kernel, 4, kThreads, 0, out.data(), kApart);
  out.read();
  return true;
}

// The last block to come adds what all have written.
template <bool kFences>
__global__ void last_block_kernel(float* out, float* parts, unsigned* arrived) {
  unsigned* last = shared_values<unsigned>();
  parts[blockIdx.x * blockDim.x + threadIdx.x] = float(blockIdx.x + 1);
  if (kFences) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *last = atomicAdd(arrived, 1u) == gridDim.x - 1;
  if (kFences) __threadfence();
  __syncthreads();
  if (*last == 0) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; i++) sum += parts[i * blockDim.x + threadIdx.x];
  out[threadIdx.x] = sum;
}

template <bool kFences>
bool last_block() {
  const DeviceValues<float> out(kThreads), parts(4 * kThreads);
  const DeviceValues<unsigned> arrived(std::vector<unsigned>{0});
  return start(last_block_kernel<kFences>, 4, kThreads, sizeof(unsigned), out.data(), parts.data(), arrived.data()) &&
         equal(out.read(), [](size_t) { return 10; });
}

// Blocks here run one after another: on a device, too, nobody promises that they run at once.
__global__ void spin_kernel(unsigned* arrived) {
  atomicAdd(arrived, 1u);
  while (atomicAdd(arrived, 0u) < gridDim.x) {
  }
}

bool spin() {
  const DeviceValues<unsigned> arrived(std::vector<unsigned>{0});
  start(spin_kernel, 2, 1, 0, arrived.data());
  arrived.read();
  return true;
}

// One product of each kind, of matrices with small whole values.
template <bool kWhole>
__global__ void multiply_kernel(float* out) {
  const int lane = int(threadIdx.x);
  if (!kWhole && lane == 31) return;
  const auto pair = [](int row, int k) {
    const cuda::bf16x2 values = __floats2bfloat162_rn(float(row % 5 + k % 3), float(row % 5 + (k + 1) % 3));
    return __builtin_bit_cast(uint32_t, values);
  };
  const int group = lane / 4, k = 2 * (lane % 4);
  const uint32_t a[4] = {pair(group, k), pair(group + 8, k), pair(group, k + 8), pair(group + 8, k + 8)};
  const uint32_t b[2] = {pair(group, k), pair(group, k + 8)};
  float d[4] = {};
  cuda::multiply_bf16(d, a, b);
  for (int i = 0; i < 4; i++) out[(group + i / 2 * 8) * 8 + k + i % 2] = d[i];
}

template <bool kWhole>
bool multiply() {
  const DeviceValues<float> out(16 * 8);
  return start(multiply_kernel<kWhole>, 1, 32, 0, out.data()) && equal(out.read(), [](size_t i) {
           float sum = 0;
           for (size_t k = 0; k < 16; k++) sum += float(i / 8 % 5 + k % 3) * float(i % 8 % 5 + k % 3);
           return sum;
         });
}

}  // namespace

std::vector<Bug> thread_bugs() {
  return {
      {"barriers", "writing and reading in turns", kNowhere, rounds<2>},
      {"warp_barrier", "lanes exchange through shared memory", kNowhere, warp_barrier<true>},
      {"named_barriers", "one warp brings, the other uses", kNowhere, named_barriers<true>},
      {"shuffle", "sums over lanes, votes over threads", kNowhere, shuffle},
      {"pipeline", "a ring of stages", kNowhere, pipeline<kStages - 2, 2>},
      {"pipeline_one_barrier", "whose one barrier serves reading and refilling", kNowhere, pipeline<kStages - 2, 1>},
      {"blocks", "blocks that write apart", kNowhere, blocks<kThreads>},
      {"last_block", "the last block adds what all have written", kNowhere, last_block<true>},
      {"multiply", "a matrix product of a warp", kNowhere, multiply<true>},
      {"barrier_missing", "no barrier between writing and reading", kEverywhere, rounds<0>},
      {"barrier_missing_behind", "no barrier between reading and writing again", kThread, rounds<1>},
      {"barrier_divergent", "threads at different __syncthreads", kEverywhere, divergent_barrier},
      {"barrier_partial", "a barrier that half of its threads come to", kEverywhere, partial_barrier},
      {"named_barrier_missing", "one warp uses what the other brings, at once", kEverywhere, named_barriers<false>},
      {"warp_barrier_missing", "no __syncwarp between writing and reading", kThread, warp_barrier<false>},
      {"shuffle_partial", "half of the lanes in a shuffle of all", kEverywhere, shuffle_partial},
      {"shuffle_mask", "a lane in a shuffle that does not name it", kEverywhere, shuffle_mask},
      {"shuffle_exited", "a shuffle that names a lane that has exited", kEverywhere, shuffle_exited},
      {"shuffle_divergent", "lanes of one mask in different operations", kEverywhere, shuffle_divergent},
      {"multiply_partial", "a matrix product without one lane", kEverywhere, multiply<false>},
      {"copy_async_wait_short", "a wait that leaves the group in flight that is used", kEverywhere,
       pipeline<kStages - 1, 2>},
      {"copy_async_barrier_missing", "no barrier between a wait and what others read", kThread,
       pipeline<kStages - 2, 0>},
      {"blocks_race", "blocks that write to the same place", kThread, blocks<0>},
      {"fence_missing", "no fence between a block's writes and its arrival", kThread, last_block<false>},
      {"spin", "a block waits for one that has not begun", kEverywhere, spin},
  };
}

}  // namespace baton::emulator
