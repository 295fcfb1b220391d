#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace baton::cpu {

// Threads that share the indices of one parallel loop at a time. run() is called by one thread, which works too; a
// thread the system has taken away costs nothing but the index it holds, because nobody waits for threads, only for
// indices. Waiting spins briefly, then sleeps.
class ThreadPool {
 public:
  explicit ThreadPool(int32_t threads);  // including the caller
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t size() const { return int32_t(workers_.size()) + 1; }

  // Calls body(i), or body(i, thread), for every i in 0 .. count-1, in any order, on any thread (0 .. size()-1); returns
  // when all have returned. body must not throw.
  template <typename Body>
  void run(int32_t count, const Body& body) {
    const Call call = [](const void* context, int32_t i, [[maybe_unused]] int32_t thread) {
      const Body& one = *static_cast<const Body*>(context);
      if constexpr (std::is_invocable_v<Body, int32_t, int32_t>) {
        one(i, thread);
      } else {
        one(i);
      }
    };
    if (count > 1 && !workers_.empty()) {
      share(count, call, &body);
    } else {
      for (int32_t i = 0; i < count; i++) call(&body, i, 0);
    }
  }

 private:
  using Call = void (*)(const void* context, int32_t index, int32_t thread);

  void share(int32_t count, Call call, const void* context);
  bool work_on_one(int32_t thread);
  void worker(int32_t thread);

  // Count and next index of the current loop in one word: a claim is one addition, and what it returns says whether the
  // loop still has that index, so a claim can never mix two loops.
  std::atomic<uint64_t> ticket_{0};
  Call call_ = nullptr;  // of the current loop; read only by whoever holds one of its indices
  const void* context_ = nullptr;
  std::atomic<uint32_t> done_{0};  // indices of the current loop that have returned
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<uint32_t> wake_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace baton::cpu
