#include <atomic>
#include <string>
#include <thread>

#include "emulator/bugs.h"

// What the host owes its streams.
namespace baton::emulator {

namespace {

constexpr int kCount = 256;
constexpr int kThreads = 64;
constexpr size_t kBytes = kCount * sizeof(float);

__global__ void add_kernel(float* out, const float* in, float addend) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i] + addend;
}

struct StreamOfTest {
  cudaStream_t handle = nullptr;
  explicit StreamOfTest(unsigned flags = cudaStreamNonBlocking) { cudaStreamCreateWithFlags(&handle, flags); }
  ~StreamOfTest() { cudaStreamDestroy(handle); }
};

struct EventOfTest {
  cudaEvent_t handle = nullptr;
  EventOfTest() { cudaEventCreate(&handle); }
  ~EventOfTest() { cudaEventDestroy(handle); }
};

struct PinnedValues {
  float* data = nullptr;
  PinnedValues() { cudaMallocHost(&data, kBytes); }
  ~PinnedValues() { cudaFreeHost(data); }
  std::vector<float> copy() const { return std::vector<float>(data, data + kCount); }
};

cudaError_t add(float* out, const float* in, float addend, cudaStream_t stream) {
  return cuda::launch(add_kernel, kCount / kThreads, kThreads, 0, stream, out, in, addend);
}

float index(size_t i) { return float(i); }
std::vector<float> indices() {
  std::vector<float> values(kCount);
  for (size_t i = 0; i < kCount; i++) values[i] = index(i);
  return values;
}

// One stream makes what another uses.
template <bool kWaits>
bool streams() {
  const StreamOfTest consumer, producer;
  const EventOfTest made;
  const DeviceValues<float> first(indices()), second(kCount), third(kCount);
  add(second.data(), first.data(), 1, producer.handle);
  cudaEventRecord(made.handle, producer.handle);
  if (kWaits) cudaStreamWaitEvent(consumer.handle, made.handle);
  add(third.data(), second.data(), 1, consumer.handle);
  return equal(third.read(), [](size_t i) { return i + 2; });
}

// The null stream and one made without cudaStreamNonBlocking take turns; one made with it does not.
template <unsigned kFlags>
bool null_stream() {
  const StreamOfTest stream(kFlags);
  const DeviceValues<float> values(indices()), out(kCount);
  cudaMemset(values.data(), 0, kBytes);
  add(values.data(), values.data(), 1, stream.handle);
  add(out.data(), values.data(), 1, nullptr);
  return equal(out.read(), [](size_t) { return 2; });
}

template <bool kWaits>
bool host_reads() {
  const StreamOfTest stream;
  const DeviceValues<float> in(indices()), out(kCount);
  const PinnedValues host;
  add(out.data(), in.data(), 0, stream.handle);
  cudaMemcpyAsync(host.data, out.data(), kBytes, cudaMemcpyDeviceToHost, stream.handle);
  if (kWaits) cudaStreamSynchronize(stream.handle);
  const bool right = equal(host.copy(), index);
  cudaStreamSynchronize(stream.handle);
  return right;
}

// The host fills one pinned buffer again and again.
template <bool kWaits>
bool staging() {
  constexpr int kRounds = 3;
  const StreamOfTest stream;
  const EventOfTest copied;
  const PinnedValues host;
  const DeviceValues<float> values(kRounds * kCount);
  for (int round = 0; round < kRounds; round++) {
    if (kWaits) cudaEventSynchronize(copied.handle);
    for (int i = 0; i < kCount; i++) host.data[i] = float(round * kCount + i);
    cudaMemcpyAsync(values.data() + round * kCount, host.data, kBytes, cudaMemcpyHostToDevice, stream.handle);
    cudaEventRecord(copied.handle, stream.handle);
  }
  return equal(values.read(), index);
}

// From memory that is not pinned a copy takes what is there when it is queued.
bool pageable() {
  const StreamOfTest stream;
  const DeviceValues<float> out(kCount);
  std::vector<float> host = indices();
  cudaMemcpyAsync(out.data(), host.data(), kBytes, cudaMemcpyHostToDevice, stream.handle);
  host.assign(kCount, -1);
  cudaMemcpyAsync(host.data(), out.data(), kBytes, cudaMemcpyDeviceToHost, stream.handle);
  return equal(host, index);
}

bool rows() {
  const DeviceValues<float> values(indices());
  std::vector<float> host(kCount / 4);
  cudaMemcpy2D(host.data(), 4 * sizeof(float), values.data() + 1, 16 * sizeof(float), 4 * sizeof(float), kCount / 16,
               cudaMemcpyDeviceToHost);
  return equal(host, [](size_t i) { return i / 4 * 16 + i % 4 + 1; });
}

bool polling() {
  const StreamOfTest stream;
  const EventOfTest begin, end;
  const DeviceValues<float> values(indices());
  cudaEventRecord(begin.handle, stream.handle);
  for (int i = 0; i < 3; i++) add(values.data(), values.data(), 1, stream.handle);
  cudaEventRecord(end.handle, stream.handle);
  int polls = 0;
  while (cudaEventQuery(end.handle) == cudaErrorNotReady) polls++;
  cudaGetLastError();
  float milliseconds = -1;
  return polls > 1 && cudaEventElapsedTime(&milliseconds, begin.handle, end.handle) == cudaSuccess &&
         milliseconds >= 0 && cudaStreamQuery(stream.handle) == cudaSuccess &&
         equal(values.read(), [](size_t i) { return i + 3; });
}

// A graph with two branches, replayed; kJoins: the recording waits for both.
template <bool kJoins>
bool graph() {
  const StreamOfTest stream, branch;
  const EventOfTest fork, join;
  const DeviceValues<float> in(indices()), left(kCount), right(kCount), out(kCount);
  cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal);
  add(in.data(), in.data(), 1, stream.handle);
  cudaEventRecord(fork.handle, stream.handle);
  cudaStreamWaitEvent(branch.handle, fork.handle);
  add(left.data(), in.data(), 10, stream.handle);
  add(right.data(), in.data(), 20, branch.handle);
  cudaEventRecord(join.handle, branch.handle);
  if (kJoins) cudaStreamWaitEvent(stream.handle, join.handle);
  add(out.data(), kJoins ? right.data() : left.data(), 100, stream.handle);
  cudaGraph_t recorded = nullptr;
  const cudaError_t status = cudaStreamEndCapture(stream.handle, &recorded);
  if (status != cudaSuccess) std::fprintf(stderr, "cudaStreamEndCapture: %s\n", cudaGetErrorName(status));
  if (status != cudaSuccess) return false;
  cudaGraphExec_t executable = nullptr;
  cudaGraphInstantiate(&executable, recorded);
  cudaGraphDestroy(recorded);
  for (int i = 0; i < 3; i++) cudaGraphLaunch(executable, stream.handle);
  const bool equals = equal(out.read(), [](size_t i) { return i + 3 + 20 + 100; });
  cudaGraphExecDestroy(executable);
  return equals;
}

bool graph_allocates() {
  const StreamOfTest stream;
  cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal);
  void* data = nullptr;
  const bool allocated = cudaMalloc(&data, kBytes) == cudaSuccess;
  cudaGraph_t recorded = nullptr;
  return cudaStreamEndCapture(stream.handle, &recorded) == cudaSuccess && allocated;
}

bool graph_waits() {
  const StreamOfTest stream;
  cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal);
  const bool waited = cudaStreamSynchronize(stream.handle) == cudaSuccess;
  cudaGraph_t recorded = nullptr;
  return cudaStreamEndCapture(stream.handle, &recorded) == cudaSuccess && waited;
}

// A fault in a kernel, a failure made up: both become errors of the calls that follow.
__global__ void trap_kernel() { __trap(); }

bool faults() {
  std::string report;
  on_fault([&report](const std::string& text) { report = text; });
  bool right = cuda::launch(trap_kernel, 2, kThreads, 0, nullptr) == cudaSuccess &&
               cudaDeviceSynchronize() == cudaErrorLaunchFailure && report.find("__trap") != std::string::npos &&
               cudaStreamSynchronize(nullptr) == cudaErrorLaunchFailure;
  cudaDeviceReset();
  on_fault(nullptr);
  right &= streams<true>();
  fail_next(cudaErrorMemoryAllocation);
  void* data = nullptr;
  right &= cudaMalloc(&data, kBytes) == cudaErrorMemoryAllocation && cudaMalloc(&data, kBytes) == cudaSuccess &&
           cudaFree(data) == cudaSuccess;
  fail_next(cudaErrorIllegalAddress);
  right &= cudaDeviceSynchronize() == cudaErrorIllegalAddress && cudaDeviceSynchronize() == cudaErrorIllegalAddress;
  cudaDeviceReset();
  cudaGetLastError();
  return right && cudaDeviceSynchronize() == cudaSuccess;
}

bool trap() {
  return cuda::launch(trap_kernel, 1, kThreads, 0, nullptr) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess;
}

// Two engines in one process.
bool host_threads() {
  bool right[2] = {};
  {
    std::thread one([&right] { right[0] = streams<true>() && staging<true>() && graph<true>(); });
    std::thread other([&right] { right[1] = streams<true>() && host_reads<true>() && graph<true>(); });
    one.join();
    other.join();
  }
  return right[0] && right[1];
}

bool host_function() {
  const StreamOfTest stream;
  std::atomic<int> calls = 0;
  const auto count = [](void* calls) {
    (*static_cast<std::atomic<int>*>(calls))++;
    if (cudaDeviceSynchronize() != cudaErrorNotPermitted) *static_cast<std::atomic<int>*>(calls) = -100;
  };
  for (int i = 0; i < 3; i++) cudaLaunchHostFunc(stream.handle, count, &calls);
  const bool early = calls > 0;
  cudaStreamSynchronize(stream.handle);
  cudaGetLastError();
  return !early && calls == 3;
}

bool too_many_threads() { return cuda::launch(trap_kernel, 1, 1025, 0, nullptr) == cudaSuccess; }
bool no_blocks() { return cuda::launch(trap_kernel, 0, 32, 0, nullptr) == cudaSuccess; }
bool too_much_shared() { return cuda::launch(trap_kernel, 1, 32, 228 * 1024, nullptr) == cudaSuccess; }
bool shared_not_asked_for() {
  cudaLaunchConfig_t config = {};
  config.dynamicSmemBytes = 64 * 1024;
  return cudaLaunchKernelEx(&config, trap_kernel) == cudaSuccess;
}

bool copy_overflow() {
  const DeviceValues<float> values(indices());
  std::vector<float> host(kCount + 1);
  return cudaMemcpy(host.data(), values.data(), kBytes + sizeof(float), cudaMemcpyDeviceToHost) == cudaSuccess;
}

bool copy_direction() {
  const DeviceValues<float> values(indices());
  std::vector<float> host(kCount);
  return cudaMemcpy(host.data(), values.data(), kBytes, cudaMemcpyHostToDevice) == cudaSuccess;
}

}  // namespace

std::vector<Bug> host_bugs() {
  return {
      {"streams", "one stream makes what another uses", kNowhere, streams<true>},
      {"null_stream", "the null stream takes turns with others", kNowhere, null_stream<cudaStreamDefault>},
      {"host_reads", "the host reads what it waited for", kNowhere, host_reads<true>},
      {"staging", "a pinned buffer used again when it is free", kNowhere, staging<true>},
      {"pageable", "copies of memory that is not pinned", kNowhere, pageable},
      {"rows", "a copy of rows", kNowhere, rows},
      {"polling", "an event asked for until it is there", kNowhere, polling},
      {"graph", "a graph with two branches, replayed", kNowhere, graph<true>},
      {"host_function", "the host's part of a stream", kNowhere, host_function},
      {"host_threads", "two threads with streams of their own", kNowhere, host_threads},
      {"faults", "faults and failures become errors", kNowhere, faults},
      {"event_wait_missing", "one stream uses what another makes, at once", kEverywhere, streams<false>},
      {"null_stream_not_waited_for", "a stream that does not wait for the null stream", kEverywhere,
       null_stream<cudaStreamNonBlocking>},
      {"host_reads_early", "the host reads what is on its way", kEverywhere, host_reads<false>},
      {"staging_reused_early", "a pinned buffer used again while it is copied from", kEverywhere, staging<false>},
      {"graph_not_joined", "a recording that forgets a branch", kEverywhere, graph<false>},
      {"graph_allocates", "a recording that allocates", kEverywhere, graph_allocates},
      {"graph_waits", "a recording that waits", kEverywhere, graph_waits},
      {"trap", "a kernel that gives up", kEverywhere, trap},
      {"too_many_threads", "a block of 1,025 threads", kEverywhere, too_many_threads},
      {"no_blocks", "a grid of no blocks", kEverywhere, no_blocks},
      {"too_much_shared", "more shared memory than there is", kEverywhere, too_much_shared},
      {"shared_not_asked_for", "more than 48 KiB of shared memory without asking", kEverywhere, shared_not_asked_for},
      {"copy_overflow", "a copy from behind an allocation", kEverywhere, copy_overflow},
      {"copy_direction", "a copy that goes the other way than it says", kEverywhere, copy_direction},
  };
}

}  // namespace baton::emulator
