#include <utility>

#include "emulator/calls.h"
#include "emulator/memory.h"

// The runtime interface: streams and events.
namespace baton::emulator {

const StreamWork kStreamWork = {
    .queue = [](cudaStream_t stream, Task run) { return call([&] { add(stream, std::move(run)); }); },
    .on_device = [](const void* from, size_t bytes) { return memory().place(from, bytes) == Memory::Place::device; },
};

}  // namespace baton::emulator

using namespace baton::emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call([&] {
    require_device();
    const std::lock_guard lock(queues().mutex);
    queues().null_stream(current_device());  // the eldest
    const bool blocking = (flags & cudaStreamNonBlocking) == 0;
    *stream = reinterpret_cast<cudaStream_t>(queues().make_stream(current_device(), blocking).get());
  });
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
  return call([&] {
    const std::lock_guard lock(queues().mutex);
    require(queues().destroy(stream, current_device()), cudaErrorInvalidResourceHandle);
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call([&] { wait_for(stream); });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call([&] {
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
      if (stream->work.empty()) return receive(&stream->key);
      queued = stream->queued;
    }
    queues().advance(stream, queued);
    throw Failure{cudaErrorNotReady};
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  return call([&] {
    require_device();
    const std::lock_guard lock(queues().mutex);
    const std::shared_ptr<Stream> stream = find_stream(handle);
    const Event& event = find_event(event_handle);
    if (event.capture != nullptr) {
      if (stream->capture == nullptr) stream->capture = event.capture;  // joins the recording
      require(stream->capture == event.capture, cudaErrorStreamCaptureMerge);
      stream->frontier.insert(stream->frontier.end(), event.nodes.begin(), event.nodes.end());
      return;
    }
    if (stream->capture != nullptr) {
      stream->capture->invalid = true;
      throw Failure{cudaErrorStreamCaptureIsolation};
    }
    if (event.record == nullptr) return;
    const auto wait = [record = event.record] {
      receive(&record->key);
      return true;
    };
    queues().add(stream, wait, {event.record->moment});
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  return call([&] {
    add(stream, [function, argument] {
      const auto [run, data] = std::pair(function, argument);  // from here on only what the function does is seen
      const HostFunction host_function;
      show_accesses();
      run(data);
      hide_accesses();
      return true;
    });
  });
}

// Events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call([&] {
    require_device();
    const std::lock_guard lock(queues().mutex);
    *event = reinterpret_cast<cudaEvent_t>(queues().make_event((flags & cudaEventDisableTiming) == 0));
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call([&] {
    const std::lock_guard lock(queues().mutex);
    require(queues().destroy(event), cudaErrorInvalidResourceHandle);
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event_handle, cudaStream_t handle) {
  return call([&] {
    require_device();
    const std::lock_guard lock(queues().mutex);
    Event& event = find_event(event_handle);
    const std::shared_ptr<Stream> stream = find_stream_for_work(handle);
    event.capture = stream->capture;
    event.nodes = stream->frontier;
    if (stream->capture != nullptr) return;
    const auto record = std::make_shared<Event::Record>();
    record->moment = {stream, stream->queued + 1};
    record->timing = event.timing;
    event.record = record;
    queues().add(stream, [record] {
      record->time = std::chrono::steady_clock::now();
      publish(&record->key);
      return true;
    });
  });
}

namespace {

// What the event was last recorded as; null before the first time.
std::shared_ptr<Event::Record> find_record(cudaEvent_t handle) {
  require_device();
  const std::lock_guard lock(queues().mutex);
  const Event& event = find_event(handle);
  require(event.capture == nullptr, cudaErrorCapturedEvent);
  return event.record;
}

bool reached(const Event::Record& record) {
  const std::lock_guard lock(queues().mutex);
  if (record.moment.stream->completed < record.moment.completed) return false;
  receive(&record.key);
  return true;
}

}  // namespace

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call([&] {
    const std::shared_ptr<Event::Record> record = find_record(event);
    if (record == nullptr) return;
    const Moment& moment = record->moment;
    queues().run(moment.stream, moment.completed, moment.stream->device);
    require_no_error(moment.stream->device);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call([&] {
    const std::shared_ptr<Event::Record> record = find_record(event);
    if (record == nullptr || reached(*record)) return;
    queues().advance(record->moment.stream, record->moment.completed);
    throw Failure{cudaErrorNotReady};
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return call([&] {
    const std::shared_ptr<Event::Record> records[2] = {find_record(start), find_record(end)};
    for (const auto& record : records) {
      require(record != nullptr && record->timing, cudaErrorInvalidResourceHandle);
      require(reached(*record), cudaErrorNotReady);
    }
    *milliseconds = std::chrono::duration<float, std::milli>(records[1]->time - records[0]->time).count();
  });
}
