#include "cpu/thread_pool.h"

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace baton::cpu {

namespace {

// Pauses before a waiting thread sleeps. Between two loops of a step there are a few microseconds; waking a sleeper
// costs some fifty. 4,000 pauses are 60 to 200 microseconds on the x86 machines at hand (2026-11).
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint32_t end_of(uint64_t ticket) { return uint32_t(ticket >> 32); }
uint32_t next_of(uint64_t ticket) { return uint32_t(ticket); }

}  // namespace

ThreadPool::ThreadPool(int32_t threads) : threads_(std::max(1, threads)), shares_(new Share[size_t(threads_)]) {
  workers_.reserve(size_t(threads_ - 1));
  for (int32_t i = 1; i < threads_; i++) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  loops_.fetch_add(1);
  loops_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::share(int32_t count, Call call, const void* context) {
  call_ = call;
  context_ = context;
  done_.store(0, std::memory_order_relaxed);
  for (int64_t i = 0; i < threads_; i++) {
    const uint64_t begin = uint64_t(i * count / threads_), end = uint64_t((i + 1) * count / threads_);
    shares_[size_t(i)].ticket.store(end << 32 | begin, std::memory_order_release);
  }
  loops_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) loops_.notify_all();

  work(0);
  for (int spins = 0; done_.load(std::memory_order_acquire) != uint32_t(count);) {
    if (++spins < kSpins) {
      pause();
      continue;
    }
    caller_sleeps_ = true;
    const uint32_t seen = done_.load();
    if (seen != uint32_t(count)) done_.wait(seen);
    caller_sleeps_ = false;
  }
}

// Takes indices of the current loop while there are any, from the thread's own share first.
void ThreadPool::work(int32_t thread) {
  for (int32_t i = 0; i < threads_; i++) {
    std::atomic<uint64_t>& ticket = shares_[size_t((thread + i) % threads_)].ticket;
    for (;;) {
      const uint64_t seen = ticket.load(std::memory_order_acquire);
      if (next_of(seen) >= end_of(seen)) break;
      const uint64_t claim = ticket.fetch_add(1, std::memory_order_acq_rel);
      if (next_of(claim) >= end_of(claim)) break;
      call_(context_, int32_t(next_of(claim)), thread);
      done_.fetch_add(1, std::memory_order_seq_cst);
      if (caller_sleeps_.load(std::memory_order_seq_cst)) done_.notify_one();
    }
  }
}

void ThreadPool::worker(int32_t thread) {
  uint32_t seen = 0;
  for (int spins = 0; !stopping_.load(std::memory_order_relaxed);) {
    const uint32_t loops = loops_.load(std::memory_order_acquire);
    if (loops != seen) {
      seen = loops;
      spins = 0;
      work(thread);
    } else if (++spins < kSpins) {
      pause();
    } else {
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      loops_.wait(seen);  // returns at once if a loop has begun since
      sleepers_.fetch_sub(1);
      spins = 0;
    }
  }
}

}  // namespace baton::cpu
