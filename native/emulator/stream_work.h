#pragma once

#include <cstddef>
#include <functional>

#include "emulator/runtime.h"

namespace baton::emulator {

// What a cudaStream_t of the emulator points to: all that a library needs which is opened at run time and cannot be
// linked to the emulator.
struct StreamWork {
  // Queues what works on device memory, as a launch does; `run` answers false for a fault.
  cudaError_t (*queue)(cudaStream_t stream, std::function<bool()> run);
  // Whether these bytes lie in one allocation of device memory.
  bool (*on_device)(const void* from, size_t bytes);
};

}  // namespace baton::emulator
