#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "emulator/block.h"
#include "emulator/emulator.h"
#include "emulator/sanitizer.h"
#include "emulator/stream_work.h"

// Streams, events and graphs: what was queued, what it waits for, and who runs next. Private to the emulator.
namespace baton::emulator {

// False if a kernel faulted.
using Task = std::function<bool()>;

struct Stream;

// The moment when a stream has completed so much.
struct Moment {
  std::shared_ptr<Stream> stream;
  uint64_t completed;
};

struct Work {
  Task run;
  std::vector<Moment> after;                           // besides what was queued on the stream before
  std::unique_ptr<Key> key = std::make_unique<Key>();  // published by who queued it
};

struct Node {
  Task run;
  std::vector<int> after;  // indices of other nodes
};

struct Graph {
  std::vector<Node> nodes;
};

// The recording of a graph: by its first stream and those that joined it by an event.
struct Capture {
  Graph graph;
  Stream* origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool invalid = false;
};

extern const StreamWork kStreamWork;

struct Stream : StreamWork {  // first: a cudaStream_t points to it
  int device = 0;
  bool blocking = true;  // orders itself with the null stream
  Actor actor = nullptr;
  std::deque<Work> work;
  uint64_t queued = 0;
  uint64_t completed = 0;
  bool destroyed = false;
  Key key;  // published after each piece of work

  std::shared_ptr<Capture> capture;
  std::vector<int> frontier;  // nodes that the next one of this stream follows

  Stream() : StreamWork(kStreamWork), actor(kThreadSanitizer ? make_actor() : nullptr) {}
  ~Stream() {
    if (actor != nullptr) destroy_actor(actor);
  }
};

struct Event {
  // One recording. Those who wait for it keep it, whatever becomes of the event.
  struct Record {
    Moment moment;
    std::chrono::steady_clock::time_point time;
    bool timing;
    Key key;
  };
  std::shared_ptr<Record> record;  // null before the first
  bool timing = true;
  std::shared_ptr<Capture> capture;  // if last recorded in one
  std::vector<int> nodes;            // that were to be complete
};

// All devices of the process. `mutex` guards what is queued; one thread at a time runs it, holding `running` too.
class Queues {
 public:
  // Where a device's work goes that names no stream.
  std::shared_ptr<Stream> null_stream(int device);
  std::shared_ptr<Stream> make_stream(int device, bool blocking);
  // Null if there is no such stream, or it is destroyed.
  std::shared_ptr<Stream> find(cudaStream_t handle, int device);
  bool destroy(cudaStream_t handle, int device);

  Event* make_event(bool timing);
  Event* find(cudaEvent_t handle);
  bool destroy(cudaEvent_t handle);

  void add(const std::shared_ptr<Stream>& stream, Task run, std::vector<Moment> after = {});

  // Run until the stream has completed so much; `stream` null: until nothing is left on the device.
  void run(const std::shared_ptr<Stream>& stream, uint64_t completed, int device);
  // One piece of work on the way there.
  void advance(const std::shared_ptr<Stream>& stream, uint64_t completed);

  // What a fault left: every call fails with it.
  cudaError_t error(int device);
  void lose(int device, cudaError_t error);
  void reset(int device);

  bool run_graph(const std::vector<Node>& nodes);
  void end(const std::shared_ptr<Capture>& capture);

  std::mutex mutex;
  std::vector<std::shared_ptr<Capture>> captures;
  std::map<cudaGraph_t, std::unique_ptr<Graph>> graphs;
  std::map<cudaGraphExec_t, std::shared_ptr<const std::vector<Node>>> executables;

 private:
  std::shared_ptr<Stream> choose(const std::shared_ptr<Stream>& stream, int device);
  static bool runnable(const Stream& stream);
  static bool reached(const Moment& moment) { return moment.stream->completed >= moment.completed; }
  static std::shared_ptr<Stream> needed(std::shared_ptr<Stream> stream);
  void run_next(const std::shared_ptr<Stream>& stream);

  std::mutex running_;
  std::vector<std::shared_ptr<Stream>> streams_;  // by age
  std::vector<std::shared_ptr<Stream>> null_streams_;
  std::vector<std::unique_ptr<Event>> events_;
  std::vector<cudaError_t> errors_;
};

Queues& queues();

}  // namespace baton::emulator
