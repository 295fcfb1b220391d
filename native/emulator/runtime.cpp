#include "emulator/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "emulator/block.h"
#include "emulator/emulator.h"
#include "emulator/memory.h"
#include "emulator/stream.h"

namespace baton::emulator {

namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;
constexpr int kVersion = 13000;

Options current_options;
thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;
thread_local bool in_host_function = false;

// Guarded by the queues' mutex.
std::optional<cudaError_t> injected;
std::map<const void*, size_t> shared_limits;  // of kernels that asked for more

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Errors after which nothing on the device works any more.
bool lasts(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorDevicesUnavailable:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

// What stands in the way of a call that allocates, or of one that launches, copies or waits.
enum class Call { allocates, works };
cudaError_t obstacle(Call call) {
  const std::lock_guard lock(queues().mutex);
  if (in_host_function) return cudaErrorNotPermitted;
  if (current_options.devices == 0) return cudaErrorNoDevice;
  if (queues().error(current_device) != cudaSuccess) return queues().error(current_device);
  if (!injected || (*injected == cudaErrorMemoryAllocation) != (call == Call::allocates)) return cudaSuccess;
  const cudaError_t error = *injected;
  injected.reset();
  if (lasts(error)) queues().lose(current_device, error);
  return error;
}

// Calls that a recording forbids to all threads, or to the one that records, end it.
cudaError_t forbidden_by_capture() {
  const std::lock_guard lock(queues().mutex);
  cudaError_t error = cudaSuccess;
  for (const std::shared_ptr<Capture>& capture : queues().captures) {
    if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread != std::this_thread::get_id()) continue;
    capture->invalid = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

#define RETURN_IF_FAILED(call)                                                  \
  do {                                                                          \
    if (const cudaError_t status = call; status != cudaSuccess) return report(status); \
  } while (0)

size_t most_shared() {
  if (current_options.major == 9) return 227 * 1024;
  if (current_options.major == 8 && current_options.minor == 0) return 163 * 1024;
  return 99 * 1024;
}

// A stream that can take work now; null and the reason otherwise. The caller holds the mutex.
std::shared_ptr<Stream> stream_for_work(cudaStream_t handle, cudaError_t* error) {
  std::shared_ptr<Stream> stream = queues().find(handle, current_device);
  *error = cudaSuccess;
  if (stream == nullptr || stream->device != current_device) {
    *error = cudaErrorInvalidResourceHandle;
  } else if (stream->capture != nullptr && stream->capture->invalid) {
    *error = cudaErrorStreamCaptureInvalidated;
  } else if (stream->blocking && stream->capture == nullptr) {
    // Work of the null stream would have to wait for a stream that only records.
    for (const std::shared_ptr<Capture>& capture : queues().captures) {
      if (!capture->origin->blocking || stream != queues().null_stream(stream->device)) continue;
      capture->invalid = true;
      *error = cudaErrorStreamCaptureImplicit;
    }
  }
  return *error == cudaSuccess ? stream : nullptr;
}

cudaError_t add(cudaStream_t handle, Task task) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  cudaError_t error;
  const std::shared_ptr<Stream> stream = stream_for_work(handle, &error);
  if (stream == nullptr) return report(error);
  queues().add(stream, std::move(task));
  return cudaSuccess;
}

cudaError_t wait_for(cudaStream_t handle) {
  RETURN_IF_FAILED(obstacle(Call::works));
  std::shared_ptr<Stream> stream;
  {
    const std::lock_guard lock(queues().mutex);
    stream = queues().find(handle, current_device);
    if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr) {
      stream->capture->invalid = true;
      return report(cudaErrorStreamCaptureUnsupported);
    }
  }
  queues().run(stream, stream->queued, stream->device);
  return report(queues().error(stream->device));
}

// Copies of rows. Without a pitch: one row.
struct Rows {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch;
  size_t width;
  size_t height;
};

size_t extent(size_t pitch, size_t width, size_t height) { return pitch * (height - 1) + width; }

Task copy_task(const Rows& rows) {
  return [rows] {
    for (size_t row = 0; row < rows.height; row++) {
      char* to = static_cast<char*>(rows.to) + row * rows.to_pitch;
      const char* from = static_cast<const char*>(rows.from) + row * rows.from_pitch;
      std::memmove(to, from, rows.width);
      show_accesses();
      note_read(from, rows.width);
      note_write(to, rows.width);
      hide_accesses();
    }
    return true;
  };
}

// From memory that is not pinned: a copy of it, taken now.
Task copy_task_of_snapshot(const Rows& rows) {
  std::vector<char> snapshot(rows.width * rows.height);
  for (size_t row = 0; row < rows.height; row++) {
    std::memcpy(snapshot.data() + row * rows.width, static_cast<const char*>(rows.from) + row * rows.from_pitch,
                rows.width);
  }
  return [rows, snapshot = std::move(snapshot)] {
    Rows from_snapshot = rows;
    from_snapshot.from = snapshot.data();
    from_snapshot.from_pitch = rows.width;
    return copy_task(from_snapshot)();
  };
}

bool kind_fits(cudaMemcpyKind kind, Memory::Place to, Memory::Place from) {
  const bool to_device = to == Memory::Place::device;
  const bool from_device = from == Memory::Place::device;
  switch (kind) {
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
    case cudaMemcpyDefault: return true;
  }
  return false;
}

cudaError_t copy(const Rows& rows, cudaMemcpyKind kind, cudaStream_t stream, bool synchronous) {
  if (synchronous) RETURN_IF_FAILED(forbidden_by_capture());
  if (rows.width == 0 || rows.height == 0) return report(obstacle(Call::works));
  if (rows.height > 1 && (rows.to_pitch < rows.width || rows.from_pitch < rows.width)) {
    return report(cudaErrorInvalidPitchValue);
  }
  const Memory::Place to = memory().place(rows.to, extent(rows.to_pitch, rows.width, rows.height));
  const Memory::Place from = memory().place(rows.from, extent(rows.from_pitch, rows.width, rows.height));
  if (to == Memory::Place::nowhere || from == Memory::Place::nowhere || !kind_fits(kind, to, from)) {
    return report(cudaErrorInvalidValue);
  }
  const bool pageable = to == Memory::Place::host || from == Memory::Place::host;
  if (pageable && !synchronous) {
    const std::lock_guard lock(queues().mutex);
    const std::shared_ptr<Stream> recording = queues().find(stream, current_device);
    if (recording != nullptr && recording->capture != nullptr) {
      recording->capture->invalid = true;
      return report(cudaErrorStreamCaptureUnsupported);
    }
  }
  const bool snapshot = from == Memory::Place::host && to == Memory::Place::device;
  RETURN_IF_FAILED(add(stream, snapshot ? copy_task_of_snapshot(rows) : copy_task(rows)));
  const bool between_hosts = to != Memory::Place::device && from != Memory::Place::device;
  const bool waits = synchronous ? from == Memory::Place::pinned || to != Memory::Place::device
                                 : to == Memory::Place::host || (between_hosts && pageable);
  return waits ? wait_for(stream) : cudaSuccess;
}

cudaError_t set(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return report(obstacle(Call::works));
  const Memory::Place place = memory().place(to, bytes);
  if (place != Memory::Place::device && place != Memory::Place::pinned) return report(cudaErrorInvalidValue);
  return add(stream, [to, value, bytes] {
    std::memset(to, value, bytes);
    show_accesses();
    note_write(to, bytes);
    hide_accesses();
    return true;
  });
}

}  // namespace

const Options& options() { return current_options; }

void configure(const Options& options) {
  const std::lock_guard lock(queues().mutex);
  current_options = options;
  block().seed(options.seed);
  memory().open();  // and close, which isolates it or not
  memory().close();
}

Stats stats() {
  Stats stats = block().stats;
  for (int device = 0; device < std::max(current_options.devices, 1); device++) stats.memory_bytes += memory().used(device);
  stats.allocations = memory().count(false);
  stats.pinned_allocations = memory().count(true);
  return stats;
}

void reset_stats() { block().stats = Stats(); }

void fail_next(cudaError_t error) {
  const std::lock_guard lock(queues().mutex);
  injected = error;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread) {
  const dim3 grid = config.gridDim;
  const dim3 block_size = config.blockDim;
  const uint64_t threads = uint64_t(block_size.x) * block_size.y * block_size.z;
  constexpr unsigned kMostAcross = 65535;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > kMostAcross || grid.z > kMostAcross ||
      threads == 0 || threads > kMostThreads || block_size.z > 64) {
    return report(cudaErrorInvalidConfiguration);
  }
  for (unsigned i = 0; i < config.numAttrs; i++) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id != cudaLaunchAttributeClusterDimension) continue;
    const auto& cluster = attribute.val.clusterDim;
    if (cluster.x * cluster.y * cluster.z > 1) return report(cudaErrorNotSupported);
  }
  {
    const std::lock_guard lock(queues().mutex);
    const auto limit = shared_limits.find(kernel);
    const size_t most = limit == shared_limits.end() ? kSharedWithoutAsking : limit->second;
    if (config.dynamicSmemBytes > std::min(most, most_shared())) return report(cudaErrorInvalidValue);
  }
  return add(config.stream, [grid, block_size, shared = config.dynamicSmemBytes, thread = std::move(thread)] {
    return block().run({grid, block_size, shared, &thread});
  });
}

}  // namespace baton::emulator

using namespace baton::emulator;

// Devices

cudaError_t cudaGetDeviceCount(int* count) {
  *count = options().devices;
  return report(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= options().devices) return report(cudaErrorInvalidDevice);
  current_device = device;
  const std::lock_guard lock(queues().mutex);
  return report(queues().error(device));
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= options().devices) return report(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "Baton emulator");
  properties->totalGlobalMem = options().memory_bytes;
  properties->sharedMemPerBlock = kSharedWithoutAsking;
  properties->sharedMemPerBlockOptin = most_shared();
  properties->sharedMemPerMultiprocessor = most_shared() + 1024;
  properties->reservedSharedMemPerBlock = 1024;
  properties->regsPerBlock = 65536;
  properties->regsPerMultiprocessor = 65536;
  properties->warpSize = kLanes;
  properties->maxThreadsPerBlock = kMostThreads;
  properties->maxThreadsPerMultiProcessor = 2048;
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
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  RETURN_IF_FAILED(cudaGetDeviceProperties(&properties, device));
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = properties.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = int(properties.sharedMemPerBlock); break;
    case cudaDevAttrWarpSize: *value = properties.warpSize; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = properties.memoryBusWidth; break;
    case cudaDevAttrL2CacheSize: *value = properties.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = properties.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrUnifiedAddressing: *value = properties.unifiedAddressing; break;
    case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = int(properties.sharedMemPerMultiprocessor); break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = properties.regsPerMultiprocessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(properties.sharedMemPerBlockOptin); break;
    default: return report(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  RETURN_IF_FAILED(obstacle(Call::works));
  RETURN_IF_FAILED(forbidden_by_capture());
  queues().run(nullptr, 0, current_device);
  const std::lock_guard lock(queues().mutex);
  return report(queues().error(current_device));
}

cudaError_t cudaDeviceReset() {
  const std::lock_guard lock(queues().mutex);
  queues().reset(current_device);
  last_error = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  RETURN_IF_FAILED(obstacle(Call::works));
  *total_bytes = options().memory_bytes;
  *free_bytes = options().memory_bytes - std::min(options().memory_bytes, memory().used(current_device));
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

// Errors

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const std::lock_guard lock(queues().mutex);
  const cudaError_t lasting = queues().error(current_device);
  return lasting != cudaSuccess ? lasting : last_error;
}

namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

#define ERROR_TEXT(name, text) {name, #name, text}
const ErrorText kErrorTexts[] = {
    ERROR_TEXT(cudaSuccess, "no error"),
    ERROR_TEXT(cudaErrorInvalidValue, "invalid argument"),
    ERROR_TEXT(cudaErrorMemoryAllocation, "out of memory"),
    ERROR_TEXT(cudaErrorInitializationError, "initialization error"),
    ERROR_TEXT(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR_TEXT(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    ERROR_TEXT(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    ERROR_TEXT(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ERROR_TEXT(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ERROR_TEXT(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
    ERROR_TEXT(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ERROR_TEXT(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR_TEXT(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR_TEXT(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    ERROR_TEXT(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR_TEXT(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    ERROR_TEXT(cudaErrorSymbolNotFound, "named symbol not found"),
    ERROR_TEXT(cudaErrorNotReady, "device not ready"),
    ERROR_TEXT(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR_TEXT(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR_TEXT(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    ERROR_TEXT(cudaErrorAssert, "device-side assert triggered"),
    ERROR_TEXT(cudaErrorHardwareStackError, "hardware stack error"),
    ERROR_TEXT(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    ERROR_TEXT(cudaErrorMisalignedAddress, "misaligned address"),
    ERROR_TEXT(cudaErrorInvalidAddressSpace, "operation not supported on global/shared address space"),
    ERROR_TEXT(cudaErrorInvalidPc, "invalid program counter"),
    ERROR_TEXT(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR_TEXT(cudaErrorNotPermitted, "operation not permitted"),
    ERROR_TEXT(cudaErrorNotSupported, "operation not supported"),
    ERROR_TEXT(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ERROR_TEXT(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    ERROR_TEXT(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    ERROR_TEXT(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    ERROR_TEXT(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    ERROR_TEXT(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    ERROR_TEXT(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a capturing stream"),
    ERROR_TEXT(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR_TEXT(cudaErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture from another thread"),
    ERROR_TEXT(cudaErrorUnknown, "unknown error"),
};
#undef ERROR_TEXT

const ErrorText* find_text(cudaError_t error) {
  for (const ErrorText& text : kErrorTexts) {
    if (text.error == error) return &text;
  }
  return nullptr;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* text = find_text(error);
  return text == nullptr ? "unrecognized error code" : text->name;
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* text = find_text(error);
  return text == nullptr ? "unrecognized error code" : text->text;
}

// Memory

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  RETURN_IF_FAILED(obstacle(Call::allocates));
  RETURN_IF_FAILED(forbidden_by_capture());
  if (bytes == 0) {
    *pointer = nullptr;
    return cudaSuccess;
  }
  void* data = memory().allocate(bytes, current_device);
  if (data == nullptr) return report(cudaErrorMemoryAllocation);
  *pointer = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  RETURN_IF_FAILED(forbidden_by_capture());
  queues().run(nullptr, 0, current_device);
  if (!memory().free(pointer)) return report(cudaErrorInvalidValue);
  const std::lock_guard lock(queues().mutex);
  return report(queues().error(current_device));
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes, unsigned) {
  RETURN_IF_FAILED(obstacle(Call::allocates));
  if (bytes == 0) {
    *pointer = nullptr;
    return cudaSuccess;
  }
  void* data = memory().allocate_pinned(bytes);
  if (data == nullptr) return report(cudaErrorMemoryAllocation);
  *pointer = data;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) { return cudaMallocHost(pointer, bytes, flags); }

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  for (int device = 0; device < options().devices; device++) queues().run(nullptr, 0, device);
  if (!memory().free_pinned(pointer)) return report(cudaErrorInvalidValue);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy({to, bytes, from, bytes, bytes, 1}, kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({to, bytes, from, bytes, bytes, 1}, kind, stream, false);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return copy({to, to_pitch, from, from_pitch, width, height}, kind, nullptr, true);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({to, to_pitch, from, from_pitch, width, height}, kind, stream, false);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  RETURN_IF_FAILED(forbidden_by_capture());
  return set(to, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return set(to, value, bytes, stream);
}

// Streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  queues().null_stream(current_device);  // the eldest
  const bool blocking = (flags & cudaStreamNonBlocking) == 0;
  *stream = reinterpret_cast<cudaStream_t>(queues().make_stream(current_device, blocking).get());
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(queues().mutex);
  return report(queues().destroy(stream, current_device) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return wait_for(stream); }

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  RETURN_IF_FAILED(obstacle(Call::works));
  std::shared_ptr<Stream> stream;
  {
    const std::lock_guard lock(queues().mutex);
    stream = queues().find(handle, current_device);
    if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
    if (stream->capture != nullptr) {
      stream->capture->invalid = true;
      return report(cudaErrorStreamCaptureUnsupported);
    }
    if (stream->work.empty()) return cudaSuccess;
  }
  queues().advance(stream, stream->queued);
  return report(cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  const std::shared_ptr<Stream> stream = queues().find(handle, current_device);
  Event* event = queues().find(event_handle);
  if (stream == nullptr || event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) {
    if (stream->capture == nullptr) {
      stream->capture = event->capture;  // joins the recording
    } else if (stream->capture != event->capture) {
      return report(cudaErrorStreamCaptureMerge);
    }
    stream->frontier.insert(stream->frontier.end(), event->nodes.begin(), event->nodes.end());
    return cudaSuccess;
  }
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return report(cudaErrorStreamCaptureIsolation);
  }
  if (event->record == nullptr) return cudaSuccess;
  const auto record = event->record;
  const auto wait = [record] {
    receive(&record->key);
    return true;
  };
  queues().add(stream, wait, {record->moment});
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  return add(stream, [function, argument] {
    const auto [call, data] = std::pair(function, argument);  // seen from here on is only what the function does
    in_host_function = true;
    show_accesses();
    call(data);
    hide_accesses();
    in_host_function = false;
    return true;
  });
}

// Events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  *event = reinterpret_cast<cudaEvent_t>(queues().make_event((flags & cudaEventDisableTiming) == 0));
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(queues().mutex);
  return report(queues().destroy(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle, cudaStream_t handle) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  Event* event = queues().find(event_handle);
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  cudaError_t error;
  const std::shared_ptr<Stream> stream = stream_for_work(handle, &error);
  if (stream == nullptr) return report(error);
  event->capture = stream->capture;
  event->nodes = stream->frontier;
  if (stream->capture != nullptr) return cudaSuccess;
  const auto record = std::make_shared<Event::Record>();
  record->moment = {stream, stream->queued + 1};
  event->record = record;
  queues().add(stream, [record] {
    record->time = std::chrono::steady_clock::now();
    publish(&record->key);
    return true;
  });
  return cudaSuccess;
}

namespace {

// What the event was last recorded as; null before the first time.
cudaError_t find_record(cudaEvent_t handle, std::shared_ptr<Event::Record>* record) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  const Event* event = queues().find(handle);
  if (event == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return report(cudaErrorCapturedEvent);
  *record = event->record;
  return cudaSuccess;
}

bool reached(const Event::Record& record) {
  const std::lock_guard lock(queues().mutex);
  if (record.moment.stream->completed < record.moment.completed) return false;
  receive(&record.key);
  return true;
}

}  // namespace

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::shared_ptr<Event::Record> record;
  RETURN_IF_FAILED(find_record(event, &record));
  if (record == nullptr) return cudaSuccess;
  const Moment& moment = record->moment;
  queues().run(moment.stream, moment.completed, moment.stream->device);
  const std::lock_guard lock(queues().mutex);
  return report(queues().error(moment.stream->device));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::shared_ptr<Event::Record> record;
  RETURN_IF_FAILED(find_record(event, &record));
  if (record == nullptr || reached(*record)) return cudaSuccess;
  queues().advance(record->moment.stream, record->moment.completed);
  return report(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  std::shared_ptr<Event::Record> records[2];
  RETURN_IF_FAILED(find_record(start, &records[0]));
  RETURN_IF_FAILED(find_record(end, &records[1]));
  {
    const std::lock_guard lock(queues().mutex);
    for (cudaEvent_t event : {start, end}) {
      if (!queues().find(event)->timing) return report(cudaErrorInvalidResourceHandle);
    }
  }
  for (const auto& record : records) {
    if (record == nullptr) return report(cudaErrorInvalidResourceHandle);
    if (!reached(*record)) return report(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(records[1]->time - records[0]->time).count();
  return cudaSuccess;
}

// Graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  const std::shared_ptr<Stream> stream = queues().find(handle, current_device);
  if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (stream == queues().null_stream(stream->device)) return report(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return report(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream.get();
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->frontier.clear();
  queues().captures.push_back(stream->capture);
  return cudaSuccess;
}

namespace {

// Whether the nodes that `frontier` names follow, by however many steps, all others.
bool joined(const std::vector<Node>& nodes, const std::vector<int>& frontier) {
  std::vector<bool> reachable(nodes.size());
  std::vector<int> open = frontier;
  while (!open.empty()) {
    const int node = open.back();
    open.pop_back();
    if (reachable[node]) continue;
    reachable[node] = true;
    open.insert(open.end(), nodes[node].after.begin(), nodes[node].after.end());
  }
  return std::find(reachable.begin(), reachable.end(), false) == reachable.end();
}

}  // namespace

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::lock_guard lock(queues().mutex);
  const std::shared_ptr<Stream> stream = queues().find(handle, current_device);
  if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return report(cudaErrorIllegalState);
  if (capture->origin != stream.get()) return report(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return report(cudaErrorStreamCaptureWrongThread);
  }
  const bool complete = joined(capture->graph.nodes, stream->frontier);
  queues().end(capture);
  if (capture->invalid) return report(cudaErrorStreamCaptureInvalidated);
  if (!complete) return report(cudaErrorStreamCaptureUnjoined);
  auto recorded = std::make_unique<Graph>(std::move(capture->graph));
  *graph = reinterpret_cast<cudaGraph_t>(recorded.get());
  queues().graphs[*graph] = std::move(recorded);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(queues().mutex);
  const std::shared_ptr<Stream> stream = queues().find(handle, current_device);
  if (stream == nullptr) return report(cudaErrorInvalidResourceHandle);
  *status = stream->capture == nullptr  ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const std::lock_guard lock(queues().mutex);
  const auto found = queues().graphs.find(graph);
  if (found == queues().graphs.end() || nodes != nullptr) return report(cudaErrorInvalidValue);
  *count = found->second->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  RETURN_IF_FAILED(obstacle(Call::works));
  const std::lock_guard lock(queues().mutex);
  const auto found = queues().graphs.find(graph);
  if (found == queues().graphs.end()) return report(cudaErrorInvalidValue);
  auto nodes = std::make_shared<std::vector<Node>>(found->second->nodes);
  *exec = reinterpret_cast<cudaGraphExec_t>(nodes.get());
  queues().executables[*exec] = std::move(nodes);
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t) {
  const std::lock_guard lock(queues().mutex);
  return report(queues().executables.count(exec) > 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  std::shared_ptr<const std::vector<Node>> nodes;
  {
    const std::lock_guard lock(queues().mutex);
    const auto found = queues().executables.find(exec);
    if (found == queues().executables.end()) return report(cudaErrorInvalidValue);
    nodes = found->second;
  }
  return add(stream, [nodes] { return queues().run_graph(*nodes); });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const std::lock_guard lock(queues().mutex);
  return report(queues().executables.erase(exec) > 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const std::lock_guard lock(queues().mutex);
  return report(queues().graphs.erase(graph) > 0 ? cudaSuccess : cudaErrorInvalidValue);
}

// Kernels

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || size_t(value) > most_shared()) return report(cudaErrorInvalidValue);
  const std::lock_guard lock(queues().mutex);
  shared_limits[kernel] = std::max(size_t(value), kSharedWithoutAsking);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t shared) {
  if (threads <= 0 || threads > kMostThreads) return report(cudaErrorInvalidValue);
  constexpr size_t kReserved = 1024;  // of each block
  *blocks = std::min(2048 / threads, int((most_shared() + kReserved) / (shared + kReserved)));
  return cudaSuccess;
}
