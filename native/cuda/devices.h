#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// What the rest of the addon may know of the CUDA backend: no header of CUDA is needed to include this.
namespace baton::cuda {

struct CudaDevice {
  std::string name;
  int32_t major, minor;  // compute capability
  int32_t multiprocessors;
  size_t bytes;
};

struct CudaDevices {
  std::vector<CudaDevice> devices;
  std::string reason;  // why there are none; empty where there are some
};

// Never throws: a machine without a driver has no devices, and a reason. Wakes no device.
CudaDevices find_devices();

// The device of this number, if it is there and can run this build; else throws DEVICE_UNAVAILABLE.
CudaDevice require_device(int32_t number);

size_t free_bytes(int32_t device);  // wakes it

}  // namespace baton::cuda
