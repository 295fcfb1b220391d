#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <vector>

#include "cuda/device.cuh"
#include "emulator/emulator.h"

// The catalogue of faults that the emulator must notice, and of correct programs that it must let pass.
namespace baton::emulator {

// In which builds a fault must be noticed: with no sanitizer, with AddressSanitizer, with ThreadSanitizer.
enum Builds : unsigned { kNowhere = 0, kPlain = 1, kAddress = 2, kThread = 4, kEverywhere = 7 };

struct Bug {
  const char* name;
  const char* what;
  Builds noticed;  // kNowhere: a correct program
  bool (*run)();   // false if its results are wrong; a fault may well end the process before that
};

std::vector<Bug> thread_bugs();
std::vector<Bug> memory_bugs();
std::vector<Bug> hopper_bugs();
std::vector<Bug> host_bugs();

// `count` values in device memory.
template <typename T>
class DeviceValues {
 public:
  explicit DeviceValues(size_t count) : count_(count) { cudaMalloc(&data_, count * sizeof(T)); }
  explicit DeviceValues(const std::vector<T>& values) : DeviceValues(values.size()) {
    cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();
  }
  ~DeviceValues() {
    if (data_ != nullptr) cudaFree(data_);
  }
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;

  T* data() const { return data_; }
  // When all that was queued is done.
  std::vector<T> read() const {
    std::vector<T> values(count_);
    cudaDeviceSynchronize();
    cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// Whether value(i) is what a kernel wrote at i.
template <typename T, typename Value>
bool equal(const std::vector<T>& values, const Value& value) {
  for (size_t i = 0; i < values.size(); i++) {
    if (values[i] == T(value(i))) continue;
    std::fprintf(stderr, "wrong result: value %zu is %g, expected %g\n", i, double(values[i]), double(value(i)));
    return false;
  }
  return true;
}

// Launches on the null stream; false, with the error's name, if that is refused.
template <typename... Parameters, typename... Arguments>
bool start(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Arguments&&... arguments) {
  const cudaError_t status = cuda::launch(kernel, grid, block, shared, nullptr, static_cast<Arguments&&>(arguments)...);
  if (status != cudaSuccess) std::fprintf(stderr, "launch: %s\n", cudaGetErrorName(status));
  return status == cudaSuccess;
}

template <typename T>
T* shared_values() {
  return reinterpret_cast<T*>(cuda::shared_memory());
}

}  // namespace baton::emulator
