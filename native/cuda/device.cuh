#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/check.h"

// What every kernel file includes. The same files are compiled by nvcc and, against headers of the same names that run
// kernels on the processor, by the C++ compiler.
namespace baton::cuda {

using bf16 = __nv_bfloat16;
using bf16x2 = __nv_bfloat162;

constexpr int kWarp = 32;

// Queues a kernel with `shared` bytes of dynamic shared memory. Instead of <<<>>>, which only nvcc understands.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   Arguments&&... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shared > kWithoutAsking) {
    const cudaError_t status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (status != cudaSuccess) return status;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// The block's dynamic shared memory, at a multiple of 1,024 bytes.
__device__ inline unsigned char* shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(1024) unsigned char memory[];
  return memory;
#else
  return emulator::shared_memory();
#endif
}

}  // namespace baton::cuda
