#pragma once

#include <memory>

#include "core/backend.h"

namespace baton::cuda {

struct CudaOptions {
  int32_t device = 0;
  bool graphs = true;           // replay recorded decode steps
  bool check_launches = false;  // wait after every launch, so that an error names its operation
};

// The forward pass on a GPU (or, built against the emulator, on its processor): DEVICE_UNAVAILABLE, OUT_OF_MEMORY.
std::unique_ptr<Backend> make_backend(const BackendOptions& options, const CudaOptions& cuda);

}  // namespace baton::cuda
