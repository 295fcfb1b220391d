#pragma once

#include <memory>

#include "emulator/runtime.h"
#include "emulator/stream.h"

// What the functions of the runtime interface have in common. Private to the emulator.
namespace baton::emulator {

// Ends a call with an error; caught in call(), where each of them begins.
struct Failure {
  cudaError_t error;
};
inline void require(bool condition, cudaError_t error) {
  if (!condition) throw Failure{error};
}
inline void require(cudaError_t status) { require(status == cudaSuccess, status); }

// Of the calling thread.
void set_last_error(cudaError_t error);
int current_device();

template <typename Body>
cudaError_t call(const Body& body) {
  try {
    body();
    return cudaSuccess;
  } catch (const Failure& failure) {
    set_last_error(failure.error);
    return failure.error;
  }
}

// Fails with what an earlier fault left, with what fail_next asked for, and in a function of cudaLaunchHostFunc.
enum class Purpose { allocating, working };
void require_device(Purpose purpose = Purpose::working);
void require_no_error(int device);

// Ends recordings that forbid the call to this thread.
void require_no_capture();

// The caller holds the queues' mutex.
std::shared_ptr<Stream> find_stream(cudaStream_t handle);
std::shared_ptr<Stream> find_stream_for_work(cudaStream_t handle);
Event& find_event(cudaEvent_t handle);

void add(cudaStream_t stream, Task task);
void wait_for(cudaStream_t stream);

size_t most_shared();  // bytes that a block can have

// While a function of cudaLaunchHostFunc runs on this thread.
struct HostFunction {
  HostFunction();
  ~HostFunction();
};

}  // namespace baton::emulator
