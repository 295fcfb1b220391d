#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "emulator/runtime.h"

// Runs CUDA kernels and a CUDA backend on the processor, for tests. The headers in include/ take the place of CUDA's.
// Each CUDA thread is a fiber; a kernel's blocks run one after another. Whatever CUDA leaves open (the order of threads
// and of streams, the moment of an asynchronous copy) is chosen by Options; what CUDA leaves undefined is a fault.
namespace baton::emulator {

// In which order threads, streams and the nodes of a graph run where nothing orders them. forward does no work that
// nothing waits for; reverse does all that can be done first, the youngest stream's before.
enum class Order { forward, reverse, random };

// When an asynchronous copy or product takes place: at once, or when it is waited for. Deferred copies of tiles, which
// threads may overtake, come late with Order::forward only, early with reverse, and at either moment with random.
enum class Async { eager, deferred };

struct Options {
  Order order = Order::forward;
  Async async = Async::eager;
  uint64_t seed = 1;  // of Order::random
  int devices = 1;
  int major = 9;  // compute capability
  int minor = 0;
  int multiprocessors = 4;
  size_t memory_bytes = size_t(1) << 30;  // of each device
  bool isolated = false;                  // the host's access to device memory is a segmentation fault
};

// Between launches, or before the first; what is queued runs by the new options.
void configure(const Options& options);
const Options& options();

// Counts since the start or the last reset, of all devices.
struct Stats {
  uint64_t grids = 0;
  uint64_t blocks = 0;
  uint64_t switches = 0;          // from one CUDA thread to another
  uint64_t products = 0;          // mma and wgmma instructions, once per warp
  uint64_t shared_phases = 0;     // of load_matrix: eight rows of 16 bytes, read in one cycle if in different banks
  uint64_t shared_conflicts = 0;  // cycles more than that
  size_t memory_bytes = 0;        // device memory now allocated
  size_t allocations = 0;         // and in how many pieces
  size_t pinned_allocations = 0;
};
Stats stats();
void reset_stats();

// Receives the report of a fault in a kernel, which then ends as if on a device: its launch fails with
// cudaErrorLaunchFailure, and so does whatever follows on the device. Without a receiver, a fault ends the process.
void on_fault(std::function<void(const std::string& report)> receive);

// The next call that allocates (cudaErrorMemoryAllocation), or else that launches, copies or waits, fails with `error`.
// Errors that no device survives then stay until cudaDeviceReset.
void fail_next(cudaError_t error);

}  // namespace baton::emulator
