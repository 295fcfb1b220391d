#include "emulator/stream.h"

#include <algorithm>

#include "emulator/fault.h"
#include "emulator/memory.h"

namespace baton::emulator {

Queues& queues() {
  static Queues queues;
  return queues;
}

std::shared_ptr<Stream> Queues::null_stream(int device) {
  while (int(null_streams_.size()) <= device) {
    null_streams_.push_back(make_stream(int(null_streams_.size()), true));
  }
  return null_streams_[device];
}

std::shared_ptr<Stream> Queues::make_stream(int device, bool blocking) {
  auto stream = std::make_shared<Stream>();
  stream->device = device;
  stream->blocking = blocking;
  streams_.push_back(stream);
  return stream;
}

std::shared_ptr<Stream> Queues::find(cudaStream_t handle, int device) {
  if (handle == nullptr || handle == cudaStreamLegacy) return null_stream(device);
  for (const std::shared_ptr<Stream>& stream : streams_) {
    if (reinterpret_cast<cudaStream_t>(stream.get()) == handle && !stream->destroyed) return stream;
  }
  return nullptr;
}

bool Queues::destroy(cudaStream_t handle, int device) {
  const std::shared_ptr<Stream> stream = find(handle, device);
  if (stream == nullptr || stream == null_stream(stream->device)) return false;
  stream->destroyed = true;  // once its work is done it goes
  if (stream->work.empty()) std::erase(streams_, stream);
  return true;
}

Event* Queues::make_event(bool timing) {
  events_.push_back(std::make_unique<Event>());
  events_.back()->timing = timing;
  return events_.back().get();
}

Event* Queues::find(cudaEvent_t handle) {
  for (const std::unique_ptr<Event>& event : events_) {
    if (reinterpret_cast<cudaEvent_t>(event.get()) == handle) return event.get();
  }
  return nullptr;
}

bool Queues::destroy(cudaEvent_t handle) {
  return std::erase_if(events_, [handle](const std::unique_ptr<Event>& event) {
           return reinterpret_cast<cudaEvent_t>(event.get()) == handle;
         }) > 0;
}

void Queues::add(const std::shared_ptr<Stream>& stream, Task run, std::vector<Moment> after) {
  if (stream->capture != nullptr) {
    std::vector<Node>& nodes = stream->capture->graph.nodes;
    nodes.push_back({std::move(run), stream->frontier});
    stream->frontier = {int(nodes.size()) - 1};
    return;
  }
  // The null stream and those made without cudaStreamNonBlocking take turns.
  const std::shared_ptr<Stream> null = null_stream(stream->device);
  if (stream == null) {
    for (const std::shared_ptr<Stream>& other : streams_) {
      if (other != null && other->device == null->device && other->blocking) after.push_back({other, other->queued});
    }
  } else if (stream->blocking) {
    after.push_back({null, null->queued});
  }
  stream->work.push_back({std::move(run), std::move(after)});
  stream->queued++;
  publish(stream->work.back().key.get());
}

bool Queues::runnable(const Stream& stream) {
  return !stream.work.empty() &&
         std::all_of(stream.work.front().after.begin(), stream.work.front().after.end(), reached);
}

// The stream that must go on first so that this one can.
std::shared_ptr<Stream> Queues::needed(std::shared_ptr<Stream> stream) {
  while (!runnable(*stream)) {
    const std::vector<Moment>& after = stream->work.front().after;
    stream = std::find_if_not(after.begin(), after.end(), reached)->stream;
  }
  return stream;
}

std::shared_ptr<Stream> Queues::choose(const std::shared_ptr<Stream>& stream, int device) {
  if (options().order == Order::forward && stream != nullptr) return needed(stream);
  std::vector<std::shared_ptr<Stream>> candidates;
  for (const std::shared_ptr<Stream>& candidate : streams_) {
    if ((stream != nullptr || candidate->device == device) && runnable(*candidate)) candidates.push_back(candidate);
  }
  if (candidates.empty()) {  // of this device; it waits for another
    for (const std::shared_ptr<Stream>& candidate : streams_) {
      if (!candidate->work.empty() && candidate->device == device) return needed(candidate);
    }
  }
  switch (options().order) {
    case Order::forward:
      return candidates.front();
    case Order::reverse:
      return candidates.back();
    case Order::random:
      return candidates[block().random() % candidates.size()];
  }
  return nullptr;
}

void Queues::run(const std::shared_ptr<Stream>& stream, uint64_t completed, int device) {
  const std::lock_guard one_at_a_time(running_);
  memory().open();
  for (;;) {
    std::shared_ptr<Stream> next;
    {
      const std::lock_guard lock(mutex);
      const auto is_idle = [device](const std::shared_ptr<Stream>& other) {
        return other->device != device || other->work.empty();
      };
      const bool finished =
          stream == nullptr ? std::all_of(streams_.begin(), streams_.end(), is_idle) : stream->completed >= completed;
      if (finished) break;
      next = choose(stream, device);
    }
    run_next(next);
  }
  memory().close();
  const std::lock_guard lock(mutex);
  if (stream != nullptr) {
    receive(&stream->key);
  } else {
    for (const std::shared_ptr<Stream>& other : streams_) {
      if (other->device == device) receive(&other->key);
    }
  }
  std::erase_if(streams_, [](const std::shared_ptr<Stream>& other) { return other->destroyed && other->work.empty(); });
}

void Queues::advance(const std::shared_ptr<Stream>& stream, uint64_t completed) {
  const std::lock_guard one_at_a_time(running_);
  std::shared_ptr<Stream> next;
  {
    const std::lock_guard lock(mutex);
    if (stream->completed >= completed) return;
    next = needed(stream);
  }
  memory().open();
  run_next(next);
  memory().close();
}

// In the name of the stream, so that only what orders streams orders their work.
void Queues::run_next(const std::shared_ptr<Stream>& stream) {
  Work work;
  {
    const std::lock_guard lock(mutex);
    work = std::move(stream->work.front());
  }
  const Actor host = this_actor();
  switch_actor(stream->actor);
  bool sound = true;
  {
    const Hidden hidden;
    receive(work.key.get());
    for (const Moment& moment : work.after) receive(&moment.stream->key);
    sound = work.run();
    publish(&stream->key);
    work = {};  // whatever it held was the stream's
  }
  switch_actor(host);
  const std::lock_guard lock(mutex);
  if (sound) {
    stream->work.pop_front();
    stream->completed++;
  } else {
    lose(stream->device, cudaErrorLaunchFailure);
  }
}

bool Queues::run_graph(const std::vector<Node>& nodes) {
  std::vector<bool> complete(nodes.size());
  for (size_t count = 0; count < nodes.size(); count++) {
    std::vector<int> candidates;
    for (size_t i = 0; i < nodes.size(); i++) {
      const std::vector<int>& after = nodes[i].after;
      const auto is_complete = [&complete](int node) { return bool(complete[node]); };
      if (!complete[i] && std::all_of(after.begin(), after.end(), is_complete)) candidates.push_back(int(i));
    }
    int next = candidates.front();
    if (options().order == Order::reverse) next = candidates.back();
    if (options().order == Order::random) next = candidates[block().random() % candidates.size()];
    if (!nodes[next].run()) return false;
    complete[next] = true;
  }
  return true;
}

void Queues::end(const std::shared_ptr<Capture>& capture) {
  for (const std::shared_ptr<Stream>& stream : streams_) {
    if (stream->capture != capture) continue;
    stream->capture = nullptr;
    stream->frontier.clear();
  }
  std::erase(captures, capture);
}

cudaError_t Queues::error(int device) { return device < int(errors_.size()) ? errors_[device] : cudaSuccess; }

void Queues::lose(int device, cudaError_t error) {
  if (int(errors_.size()) <= device) errors_.resize(device + 1, cudaSuccess);
  errors_[device] = error;
  for (const std::shared_ptr<Stream>& stream : streams_) {
    if (stream->device != device) continue;
    stream->work.clear();
    stream->completed = stream->queued;
  }
}

void Queues::reset(int device) {
  if (device < int(errors_.size())) errors_[device] = cudaSuccess;
}

}  // namespace baton::emulator
