#include <algorithm>
#include <cstdio>
#include <map>

#include "emulator/block.h"
#include "emulator/calls.h"
#include "emulator/emulator.h"
#include "emulator/memory.h"

// The runtime interface: devices and kernels.
namespace baton::emulator {

namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;
constexpr size_t kSharedReserved = 1024;  // of each block
constexpr int kThreadsOfMultiprocessor = 2048;
constexpr int kVersion = 13000;

std::map<const void*, size_t> shared_limits;  // of kernels that asked for more; guarded by the queues' mutex

void check(const cudaLaunchConfig_t& config, const void* kernel) {
  const auto [blocks_x, blocks_y, blocks_z] = config.gridDim;
  const auto [threads_x, threads_y, threads_z] = config.blockDim;
  constexpr unsigned kMostBlocks = 0x7fffffff, kMostBlocksAcross = 65535, kMostThreadsAcross = 64;
  require(blocks_x > 0 && blocks_x <= kMostBlocks && blocks_y > 0 && blocks_y <= kMostBlocksAcross && blocks_z > 0 &&
              blocks_z <= kMostBlocksAcross,
          cudaErrorInvalidConfiguration);
  const uint64_t threads = uint64_t(threads_x) * threads_y * threads_z;
  require(threads > 0 && threads <= kMostThreads && threads_z <= kMostThreadsAcross, cudaErrorInvalidConfiguration);
  for (unsigned i = 0; i < config.numAttrs; i++) {
    if (config.attrs[i].id != cudaLaunchAttributeClusterDimension) continue;
    const auto& cluster = config.attrs[i].val.clusterDim;
    require(cluster.x * cluster.y * cluster.z <= 1, cudaErrorNotSupported);
  }
  const std::lock_guard lock(queues().mutex);
  const auto limit = shared_limits.find(kernel);
  const size_t most = limit == shared_limits.end() ? kSharedWithoutAsking : limit->second;
  require(config.dynamicSmemBytes <= std::min(most, most_shared()), cudaErrorInvalidValue);
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread) {
  return call([&] {
    check(config, kernel);
    add(config.stream, [grid = config.gridDim, block_size = config.blockDim, shared = config.dynamicSmemBytes,
                        thread = std::move(thread)] {
      return block().run({grid, block_size, shared, &thread});
    });
  });
}

}  // namespace baton::emulator

using namespace baton::emulator;

cudaError_t cudaGetDeviceCount(int* count) {
  return call([&] {
    *count = options().devices;
    require(*count > 0, cudaErrorNoDevice);
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return call([&] {
    require(device >= 0 && device < options().devices, cudaErrorInvalidDevice);
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "Baton emulator");
    properties->totalGlobalMem = options().memory_bytes;
    properties->sharedMemPerBlock = kSharedWithoutAsking;
    properties->sharedMemPerBlockOptin = most_shared();
    properties->sharedMemPerMultiprocessor = most_shared() + kSharedReserved;
    properties->reservedSharedMemPerBlock = kSharedReserved;
    properties->regsPerBlock = 65536;
    properties->regsPerMultiprocessor = 65536;
    properties->warpSize = kLanes;
    properties->maxThreadsPerBlock = kMostThreads;
    properties->maxThreadsPerMultiProcessor = kThreadsOfMultiprocessor;
    const int most_threads[3] = {1024, 1024, 64};
    const int most_blocks[3] = {0x7fffffff, 65535, 65535};
    std::copy_n(most_threads, 3, properties->maxThreadsDim);
    std::copy_n(most_blocks, 3, properties->maxGridSize);
    properties->major = options().major;
    properties->minor = options().minor;
    properties->multiProcessorCount = options().multiprocessors;
    properties->memoryBusWidth = 64;
    properties->l2CacheSize = 1 << 20;
    properties->unifiedAddressing = 1;
    properties->asyncEngineCount = 1;
    properties->concurrentKernels = 1;
    properties->pciDeviceID = device;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return call([&] {
    constexpr int kKilohertz = 1000000;
    cudaDeviceProp properties;
    require(cudaGetDeviceProperties(&properties, device));
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock:
        *value = properties.maxThreadsPerBlock;
        break;
      case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = int(properties.sharedMemPerBlock);
        break;
      case cudaDevAttrWarpSize:
        *value = properties.warpSize;
        break;
      case cudaDevAttrClockRate:
        *value = kKilohertz;
        break;
      case cudaDevAttrMultiProcessorCount:
        *value = properties.multiProcessorCount;
        break;
      case cudaDevAttrMemoryClockRate:
        *value = kKilohertz;
        break;
      case cudaDevAttrGlobalMemoryBusWidth:
        *value = properties.memoryBusWidth;
        break;
      case cudaDevAttrL2CacheSize:
        *value = properties.l2CacheSize;
        break;
      case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = properties.maxThreadsPerMultiProcessor;
        break;
      case cudaDevAttrUnifiedAddressing:
        *value = properties.unifiedAddressing;
        break;
      case cudaDevAttrComputeCapabilityMajor:
        *value = properties.major;
        break;
      case cudaDevAttrComputeCapabilityMinor:
        *value = properties.minor;
        break;
      case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = int(properties.sharedMemPerMultiprocessor);
        break;
      case cudaDevAttrMaxRegistersPerMultiprocessor:
        *value = properties.regsPerMultiprocessor;
        break;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = int(properties.sharedMemPerBlockOptin);
        break;
      default:
        throw Failure{cudaErrorInvalidValue};
    }
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call([] {
    require_device();
    require_no_capture();
    queues().run(nullptr, 0, current_device());
    require_no_error(current_device());
  });
}

cudaError_t cudaDeviceReset() {
  const std::lock_guard lock(queues().mutex);
  queues().reset(current_device());
  set_last_error(cudaSuccess);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return call([&] {
    require_device();
    *total_bytes = options().memory_bytes;
    *free_bytes = options().memory_bytes - std::min(options().memory_bytes, memory().used(current_device()));
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return call([&] {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return;
    require(value >= 0 && size_t(value) <= most_shared(), cudaErrorInvalidValue);
    const std::lock_guard lock(queues().mutex);
    shared_limits[kernel] = std::max(size_t(value), kSharedWithoutAsking);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t shared) {
  return call([&] {
    require(threads > 0 && threads <= kMostThreads, cudaErrorInvalidValue);
    *blocks = std::min(kThreadsOfMultiprocessor / threads,
                       int((most_shared() + kSharedReserved) / (shared + kSharedReserved)));
  });
}
