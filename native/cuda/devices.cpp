#include "cuda/devices.h"

#include <cuda_runtime.h>

#include <string>

#include "core/error.h"
#include "cuda/check.h"

namespace baton::cuda {

CudaDevices find_devices() {
  CudaDevices found;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    found.reason = status == cudaErrorInsufficientDriver
                       ? "no NVIDIA driver, or one older than this build needs"
                       : std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")";
    return found;
  }
  for (int i = 0; i < count; i++) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    found.devices.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount,
                             properties.totalGlobalMem});
  }
  cudaGetLastError();
  if (found.devices.empty()) found.reason = "the driver shows no GPU";
  return found;
}

CudaDevice require_device(int32_t number) {
  const CudaDevices found = find_devices();
  REQUIRE(found.reason.empty(), "DEVICE_UNAVAILABLE", "cuda: " + found.reason);
  REQUIRE(number >= 0 && size_t(number) < found.devices.size(), "DEVICE_UNAVAILABLE",
          "cuda:" + std::to_string(number) + ": expected one of the " + std::to_string(found.devices.size()) + " GPUs");
  const CudaDevice& device = found.devices[size_t(number)];
  REQUIRE(device.major >= 8, "DEVICE_UNAVAILABLE",
          device.name + ": expected compute capability 8.0 or later, got " + std::to_string(device.major) + "." +
              std::to_string(device.minor));
  return device;
}

size_t free_bytes(int32_t device) {
  size_t free = 0, total = 0;
  CUDA_CHECK(cudaSetDevice(device));
  CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return free;
}

}  // namespace baton::cuda
