#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace baton::cpu {

// Threads that share the indices of one parallel loop at a time. run() is called by one thread, which works too. Each
// thread begins with a share of its own, the same part of every loop, so that what it wrote in one loop it finds in its
// cache in the next; then it takes what others have left. A thread the system has taken away costs nothing but the
// index it holds: nobody waits for threads, only for indices. Waiting spins briefly, then sleeps.
class ThreadPool {
 public:
  explicit ThreadPool(int32_t threads);  // including the caller
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t size() const { return threads_; }

  // Calls body(i), or body(i, thread), for every i in 0 .. count-1, in any order, on any thread (0 .. size()-1);
  // returns when all have returned. body must not throw.
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
    if (count > 1 && threads_ > 1) {
      share(count, call, &body);
    } else {
      for (int32_t i = 0; i < count; i++) call(&body, i, 0);
    }
  }

 private:
  using Call = void (*)(const void* context, int32_t index, int32_t thread);

  // End and next index of one share in one word: a claim is one addition, and what it returns says whether the share
  // still has that index, so a claim can never mix two loops.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
  };

  void share(int32_t count, Call call, const void* context);
  void work(int32_t thread);
  void worker(int32_t thread);

  const int32_t threads_;
  const std::unique_ptr<Share[]> shares_;  // [threads]
  Call call_ = nullptr;                    // of the current loop; read only by whoever holds one of its indices
  const void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> done_{0};   // indices of the current loop that have returned
  alignas(64) std::atomic<uint32_t> loops_{0};  // begun so far
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace baton::cpu
