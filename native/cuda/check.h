#pragma once

#include <cuda_runtime.h>

namespace baton::cuda {

// Throws OUT_OF_MEMORY, or DEVICE_LOST for errors that no later call on the device survives, else INTERNAL.
void check(cudaError_t status, const char* what);

#define CUDA_CHECK(call) ::baton::cuda::check(call, #call)

}  // namespace baton::cuda
