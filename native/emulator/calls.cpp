#include "emulator/calls.h"

#include <algorithm>
#include <optional>

#include "emulator/block.h"
#include "emulator/emulator.h"
#include "emulator/memory.h"

namespace baton::emulator {

namespace {

Options current_options;
std::optional<cudaError_t> injected;  // guarded by the queues' mutex
thread_local cudaError_t last_error = cudaSuccess;
thread_local int device_of_thread = 0;
thread_local bool in_host_function = false;

// Errors after which nothing on the device works any more.
bool lasts(cudaError_t error) {
  switch (error) {
    case cudaErrorDevicesUnavailable:
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
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
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
  for (int device = 0; device < current_options.devices; device++) stats.memory_bytes += memory().used(device);
  stats.allocations = memory().count(false);
  stats.pinned_allocations = memory().count(true);
  return stats;
}

void reset_stats() { block().stats = Stats(); }

void fail_next(cudaError_t error) {
  const std::lock_guard lock(queues().mutex);
  injected = error;
}

void set_last_error(cudaError_t error) { last_error = error; }

int current_device() { return device_of_thread; }

void require_device(Purpose purpose) {
  const std::lock_guard lock(queues().mutex);
  require(!in_host_function, cudaErrorNotPermitted);
  require(current_options.devices > 0, cudaErrorNoDevice);
  require(queues().error(device_of_thread));
  if (!injected || (*injected == cudaErrorMemoryAllocation) != (purpose == Purpose::allocating)) return;
  const cudaError_t error = *injected;
  injected.reset();
  if (lasts(error)) queues().lose(device_of_thread, error);
  require(error);
}

void require_no_error(int device) {
  const std::lock_guard lock(queues().mutex);
  require(queues().error(device));
}

void require_no_capture() {
  const std::lock_guard lock(queues().mutex);
  bool forbidden = false;
  for (const std::shared_ptr<Capture>& capture : queues().captures) {
    if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread != std::this_thread::get_id()) continue;
    capture->invalid = true;
    forbidden = true;
  }
  require(!forbidden, cudaErrorStreamCaptureUnsupported);
}

std::shared_ptr<Stream> find_stream(cudaStream_t handle) {
  std::shared_ptr<Stream> stream = queues().find(handle, device_of_thread);
  require(stream != nullptr, cudaErrorInvalidResourceHandle);
  return stream;
}

std::shared_ptr<Stream> find_stream_for_work(cudaStream_t handle) {
  std::shared_ptr<Stream> stream = find_stream(handle);
  require(stream->device == device_of_thread, cudaErrorInvalidResourceHandle);
  require(stream->capture == nullptr || !stream->capture->invalid, cudaErrorStreamCaptureInvalidated);
  if (stream != queues().null_stream(stream->device)) return stream;
  // Work of the null stream would have to wait for a stream that only records.
  for (const std::shared_ptr<Capture>& capture : queues().captures) {
    if (!capture->origin->blocking) continue;
    capture->invalid = true;
    throw Failure{cudaErrorStreamCaptureImplicit};
  }
  return stream;
}

Event& find_event(cudaEvent_t handle) {
  Event* event = queues().find(handle);
  require(event != nullptr, cudaErrorInvalidResourceHandle);
  return *event;
}

void add(cudaStream_t handle, Task task) {
  require_device();
  const std::lock_guard lock(queues().mutex);
  queues().add(find_stream_for_work(handle), std::move(task));
}

void wait_for(cudaStream_t handle) {
  require_device();
  std::shared_ptr<Stream> stream;
  uint64_t queued = 0;
  {
    const std::lock_guard lock(queues().mutex);
    stream = find_stream(handle);
    if (stream->capture != nullptr) {
      stream->capture->invalid = true;
      throw Failure{cudaErrorStreamCaptureUnsupported};
    }
    queued = stream->queued;
  }
  queues().run(stream, queued, stream->device);
  require_no_error(stream->device);
}

size_t most_shared() {
  if (current_options.major == 9) return 227 * 1024;
  if (current_options.major == 8 && current_options.minor == 0) return 163 * 1024;
  return 99 * 1024;
}

HostFunction::HostFunction() { in_host_function = true; }
HostFunction::~HostFunction() { in_host_function = false; }

}  // namespace baton::emulator

using namespace baton::emulator;

cudaError_t cudaSetDevice(int device) {
  return call([&] {
    require(device >= 0 && device < options().devices, cudaErrorInvalidDevice);
    device_of_thread = device;
    require_no_error(device);
  });
}

cudaError_t cudaGetDevice(int* device) {
  *device = device_of_thread;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const std::lock_guard lock(queues().mutex);
  const cudaError_t lasting = queues().error(device_of_thread);
  return lasting != cudaSuccess ? lasting : last_error;
}
