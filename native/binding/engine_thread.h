#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "core/error.h"

namespace baton {

// One thread that owns a device. Jobs run in the order given; each settles a promise on the JS thread.
// Not libuv's pool: a step must never wait behind a file read.
//
// Jobs hold JavaScript references, so the queues own them and only the JS thread frees them. The thread ends, and is
// waited for, by whichever comes first: the last promise after a close, the end of the environment, the destructor.
class EngineThread {
 public:
  using Work = std::function<void()>;                    // engine thread; throws Error
  using Take = std::function<bool(bool wait)>;           // engine thread; false: not carried out yet. Throws Error
  using Finish = std::function<Napi::Value(Napi::Env)>;  // JS thread, after work() has returned; throws Error
  using Delivery = std::function<void(Napi::Env)>;       // JS thread

  // open: the first; its failure closes. use: refused once closed. close: runs after the running one, in any case.
  enum class Role { open, use, close };

  explicit EngineThread(Napi::Env env);
  ~EngineThread();
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // JS thread. `owner` must keep alive everything work() touches. If work() only queues what a device is to do, take()
  // says when that has been done; meanwhile the thread turns to the next job of role use.
  Napi::Promise run(Role role, Napi::Object owner, Work work, Finish finish, Take take = {});

  // Engine thread: has `delivery` called on the JS thread, before the running job settles.
  void post(Delivery delivery);

  bool closed() const { return closed_; }

  // Engine thread: nobody waits for the running job any more, so it should end early.
  bool stopping() const { return stopping_; }

 private:
  struct Job {
    Role role;
    Napi::Promise::Deferred promise;
    Napi::ObjectReference owner;
    Work work;
    Finish finish;
    Take take;
    std::optional<Error> failure;
  };

  static void deliver(Napi::Env env, Napi::Function, EngineThread* thread, void*);
  using Wake = Napi::TypedThreadSafeFunction<EngineThread, void, deliver>;

  void loop();
  void start(std::shared_ptr<Job> job);
  bool take_oldest(bool wait);  // of those underway
  void settle(Napi::Env env, Job& job);
  void stop();
  static void stop_at_exit(void* thread);

  Napi::Env env_;
  Wake deliver_;  // carries no data, so that nothing is lost in it when the environment ends
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queued_;    // under mutex_
  std::deque<Delivery> deliveries_;            // under mutex_
  std::deque<std::shared_ptr<Job>> underway_;  // started, and not yet taken; engine thread only, until it has ended
  std::atomic<bool> closed_ = false;
  std::atomic<bool> stopping_ = false;
  int32_t pending_ = 0;  // jobs not yet settled; JS thread only
  std::thread thread_;
};

}  // namespace baton
