#include "cpu/thread_pool.h"

#include <cassert>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace baton::cpu {

namespace {

constexpr int kIndexBits = 24;
constexpr uint64_t kIndexMask = (uint64_t(1) << kIndexBits) - 1;

// Pauses before a waiting thread sleeps. Between two loops of a step there are a few microseconds; waking a sleeper costs
// some fifty. 4,000 pauses are 60 to 200 microseconds on the x86 machines at hand (2026-11).
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint32_t count_of(uint64_t ticket) { return uint32_t((ticket >> kIndexBits) & kIndexMask); }
uint32_t next_of(uint64_t ticket) { return uint32_t(ticket & kIndexMask); }

}  // namespace

ThreadPool::ThreadPool(int32_t threads) {
  workers_.reserve(size_t(threads > 1 ? threads - 1 : 0));
  for (int32_t i = 1; i < threads; i++) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  wake_.fetch_add(1);
  wake_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::share(int32_t count, Call call, const void* context) {
  // The index field has room for every claim beyond the last: one per thread.
  assert(uint64_t(count) + workers_.size() + 1 < kIndexMask);
  call_ = call;
  context_ = context;
  done_.store(0, std::memory_order_relaxed);
  ticket_.store(uint64_t(count) << kIndexBits, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    wake_.fetch_add(1);
    wake_.notify_all();
  }

  while (work_on_one(0)) {
  }
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

// Takes one index of the current loop, if any is left, and works on it.
bool ThreadPool::work_on_one(int32_t thread) {
  const uint64_t seen = ticket_.load(std::memory_order_acquire);
  if (next_of(seen) >= count_of(seen)) return false;
  const uint64_t claim = ticket_.fetch_add(1, std::memory_order_acq_rel);
  if (next_of(claim) >= count_of(claim)) return false;
  call_(context_, int32_t(next_of(claim)), thread);
  done_.fetch_add(1, std::memory_order_seq_cst);
  if (caller_sleeps_.load(std::memory_order_seq_cst)) done_.notify_one();
  return true;
}

void ThreadPool::worker(int32_t thread) {
  int spins = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (work_on_one(thread)) {
      spins = 0;
    } else if (++spins < kSpins) {
      pause();
    } else {
      const uint32_t seen = wake_.load();
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      const uint64_t ticket = ticket_.load(std::memory_order_seq_cst);
      if (next_of(ticket) >= count_of(ticket) && !stopping_) wake_.wait(seen);
      sleepers_.fetch_sub(1);
      spins = 0;
    }
  }
}

}  // namespace baton::cpu
