#include "cuda/mma.cuh"
#include "emulator/bugs.h"

// What kernels do to memory.
namespace baton::emulator {

namespace {

constexpr int kThreads = 64;
constexpr size_t kSharedBytes = kThreads * sizeof(float);

float index(size_t i) { return float(i); }
std::vector<float> indices(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; i++) values[i] = index(i);
  return values;
}

__global__ void copy_kernel(float* out, const float* in, int count) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = in[i];
}

bool copies(size_t allocated, int count) {
  const DeviceValues<float> in(indices(allocated + 1)), out(allocated);
  return start(copy_kernel, 2, kThreads, 0, out.data(), in.data(), count) &&
         equal(out.read(), [](size_t i) { return index(i); });
}

bool copy() { return copies(kThreads, kThreads); }
bool global_overflow() { return copies(kThreads, kThreads + 1); }

bool global_unwritten() { return copies(kThreads, kThreads - 1); }

__global__ void overread_kernel(float* out, const float* in, int beyond) {
  const float value = in[threadIdx.x + beyond];
  out[threadIdx.x] = value == 0 ? 0 : float(threadIdx.x);
}

bool global_overread() {
  const DeviceValues<float> in(indices(kThreads)), out(kThreads);
  return start(overread_kernel, 1, kThreads, 0, out.data(), in.data(), 1) && equal(out.read(), index);
}

bool use_after_free() {
  const DeviceValues<float> out(kThreads);
  float* in = nullptr;
  {
    const DeviceValues<float> values(indices(kThreads));
    in = values.data();
  }
  return start(copy_kernel, 1, kThreads, 0, out.data(), in, kThreads) && equal(out.read(), index);
}

bool double_free() {
  void* data = nullptr;
  cudaMalloc(&data, kThreads);
  return cudaFree(data) == cudaSuccess && cudaFree(data) == cudaSuccess;
}

bool leak() {
  void* data = nullptr;
  cudaMalloc(&data, kThreads);
  return stats().allocations == 0;
}

bool out_of_memory() {
  void* data = nullptr;
  const bool allocated = cudaMalloc(&data, options().memory_bytes + 1) == cudaSuccess;
  if (allocated) cudaFree(data);
  return allocated;
}

__global__ void shift_shared_kernel(float* out, int by) {
  float* values = shared_values<float>();
  values[threadIdx.x] = 0;
  __syncthreads();
  values[threadIdx.x + by] = float(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x + by];
}

bool shared_overflow() {
  const DeviceValues<float> out(kThreads);
  return start(shift_shared_kernel, 1, kThreads, kSharedBytes, out.data(), 1) && equal(out.read(), index);
}

__global__ void reverse_shared_kernel(float* out, int written) {
  float* values = shared_values<float>();
  if (int(threadIdx.x) < written) values[threadIdx.x] = float(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

bool reverses(int written) {
  const DeviceValues<float> out(kThreads);
  return start(reverse_shared_kernel, 2, kThreads, kSharedBytes, out.data(), written) &&
         equal(out.read(), [](size_t i) { return kThreads - 1 - i; });
}

// Both blocks write the same bytes: not even a race that is well meant is let pass by ThreadSanitizer.
bool shared_unwritten() { return reverses(kThreads - 1); }

__global__ void static_shared_kernel(float* out, int by) {
  __shared__ float values[kThreads];
  values[threadIdx.x + by] = float(threadIdx.x);
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

bool static_shared() {
  const DeviceValues<float> out(3 * kThreads);
  return start(static_shared_kernel, 3, kThreads, 0, out.data(), 0) &&
         equal(out.read(), [](size_t i) { return kThreads - 1 - i % kThreads; });
}

bool static_shared_overflow() {
  const DeviceValues<float> out(kThreads);
  start(static_shared_kernel, 1, kThreads, 0, out.data(), 1);
  out.read();
  return true;
}

__global__ void local_kernel(float* out, int by) {
  float values[4] = {0, 1, 2, 3};
  out[threadIdx.x] = values[threadIdx.x % 4 + by];
}

bool local_overflow() {
  const DeviceValues<float> out(kThreads);
  start(local_kernel, 1, kThreads, 0, out.data(), 1);
  out.read();
  return true;
}

__global__ void vector_kernel(float* out, const float* in, int by) {
  const float4 values = *reinterpret_cast<const float4*>(in + 4 * threadIdx.x + by);
  out[threadIdx.x] = values.x;
}

bool vector_unaligned() {
  const DeviceValues<float> in(indices(4 * kThreads + 4)), out(kThreads);
  return start(vector_kernel, 1, kThreads, 0, out.data(), in.data(), 1) &&
         equal(out.read(), [](size_t i) { return 4 * i + 1; });
}

// Each thread brings four values into shared memory; the whole block reads them.
__global__ void copy_async_kernel(float* out, const float* in, int to, int from) {
  float* values = shared_values<float>();
  cuda::copy_async(values + 4 * threadIdx.x + to, in + 4 * threadIdx.x + from);
  cuda::copy_async_commit();
  cuda::copy_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = values[4 * (blockDim.x - 1 - threadIdx.x)];
}

bool copies_async(int to, int from) {
  const DeviceValues<float> in(indices(4 * kThreads)), out(kThreads);
  return start(copy_async_kernel, 1, kThreads, 4 * kSharedBytes, out.data(), in.data(), to, from) &&
         equal(out.read(), [from](size_t i) { return 4 * (kThreads - 1 - i) + from; });
}

bool copy_async() { return copies_async(0, 0); }
bool copy_async_unaligned() { return copies_async(0, 2); }
bool copy_async_overflow() { return copies_async(4, 0); }
bool copy_async_overread() {
  const DeviceValues<float> in(indices(4 * kThreads)), out(kThreads);
  start(copy_async_kernel, 1, kThreads, 4 * kSharedBytes, out.data(), in.data(), 0, 4);
  out.read();
  return true;
}

__global__ void load_matrix_kernel(float* out, int pitch) {
  uint16_t* rows = shared_values<uint16_t>();
  for (unsigned i = threadIdx.x; i < 32 * 8; i += blockDim.x) rows[i] = uint16_t(i);
  __syncthreads();
  uint32_t words[4];
  cuda::load_matrix(words, rows + int(threadIdx.x) * pitch);
  out[threadIdx.x] = float(words[1] & 0xffff);
}

bool loads_matrix(int pitch) {
  const DeviceValues<float> out(32);
  return start(load_matrix_kernel, 1, 32, 32 * 16, out.data(), pitch) &&
         equal(out.read(), [](size_t i) { return 8 * (8 + i / 4) + 2 * (i % 4); });
}

bool load_matrix() { return loads_matrix(8); }
bool load_matrix_unaligned() { return loads_matrix(4); }
bool load_matrix_overflow() { return loads_matrix(16); }

__global__ void write_both_kernel(float* out) { out[threadIdx.x] = float(threadIdx.x); }

bool host_writes_device_memory() {
  Options isolated = options();
  isolated.isolated = true;
  configure(isolated);
  const DeviceValues<float> out(kThreads);
  start(write_both_kernel, 1, kThreads, 0, out.data());
  cudaDeviceSynchronize();
  out.data()[0] = 0;
  return true;
}

bool isolated_memory() {
  Options isolated = options();
  isolated.isolated = true;
  configure(isolated);
  return copies(kThreads, kThreads) && copies_async(0, 0);
}

}  // namespace

std::vector<Bug> memory_bugs() {
  return {
      {"copy", "a kernel copies values", kNowhere, copy},
      {"static_shared", "a static array of shared memory, in several blocks", kNowhere, static_shared},
      {"copy_async", "copies that are waited for", kNowhere, copy_async},
      {"load_matrix", "four tiles", kNowhere, load_matrix},
      {"isolated_memory", "device memory that only kernels touch", kNowhere, isolated_memory},
      {"global_overflow", "a write behind an allocation", kEverywhere, global_overflow},
      {"global_overread", "a read behind an allocation", kAddress, global_overread},
      {"global_unwritten", "a value that no thread wrote", kEverywhere, global_unwritten},
      {"use_after_free", "a read of memory that was freed", kEverywhere, use_after_free},
      {"double_free", "device memory freed twice", kEverywhere, double_free},
      {"leak", "device memory not freed", kEverywhere, leak},
      {"out_of_memory", "more than the device has", kEverywhere, out_of_memory},
      {"shared_overflow", "a write behind dynamic shared memory", kEverywhere, shared_overflow},
      {"shared_unwritten", "shared memory that no thread wrote", kEverywhere, shared_unwritten},
      {"static_shared_overflow", "a write behind a static array of shared memory", kAddress, static_shared_overflow},
      {"local_overflow", "a read behind a thread's own array", kAddress, local_overflow},
      {"vector_unaligned", "a float4 at a multiple of 4 bytes", kAddress, vector_unaligned},
      {"copy_async_unaligned", "an asynchronous copy from a multiple of 8 bytes", kEverywhere, copy_async_unaligned},
      {"copy_async_overflow", "an asynchronous copy to behind shared memory", kEverywhere, copy_async_overflow},
      {"copy_async_overread", "an asynchronous copy from behind an allocation", kAddress, copy_async_overread},
      {"load_matrix_unaligned", "a tile's row at a multiple of 8 bytes", kEverywhere, load_matrix_unaligned},
      {"load_matrix_overflow", "a tile's row behind shared memory", kEverywhere, load_matrix_overflow},
      {"host_writes_device_memory", "the host writes to isolated device memory", kEverywhere,
       host_writes_device_memory},
  };
}

}  // namespace baton::emulator
