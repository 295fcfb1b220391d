#include "cpu/ceiling.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace baton::cpu {

namespace {

constexpr int64_t kChunk = int64_t(256) << 10;
constexpr int32_t kWindows = 10;
constexpr double kWindowSeconds = 0.02;
constexpr int64_t kRounds = 2000;  // between two looks at the clock: some microseconds

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

uint64_t read(const std::byte* from, int64_t bytes) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < bytes; i += 64) {
    uint64_t line[8];
    memcpy(line, from + i, 64);
    for (int j = 0; j < 8; j++) sums[j] += line[j];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

// Memory in whole chunks, each first written by the thread that will mostly read it.
struct Pieces {
  const int32_t count;
  const Memory memory;

  Pieces(int64_t bytes, ThreadPool& pool, const char* what)
      : count(int32_t((bytes + kChunk - 1) / kChunk)), memory(size_t(count) * kChunk, what) {
    pool.run(count, [&](int32_t i) { memset(at(i), 1 + i % 7, kChunk); });
  }
  std::byte* at(int32_t i) const { return memory.data() + i * kChunk; }
  // What `bytes` are of all chunks.
  double share(int64_t bytes) const { return double(bytes) / (double(count) * kChunk); }
};

// Whatever else runs on the machine can only make it longer.
template <typename Measure>
double least(int32_t repeats, const Measure& measure) {
  double seconds = measure();
  for (int32_t i = 1; i < repeats; i++) seconds = std::min(seconds, measure());
  return seconds;
}

}  // namespace

double read_seconds(int64_t bytes, int32_t threads, int32_t repeats) {
  ThreadPool pool(threads);
  const Pieces from(bytes, pool, "reading test");
  std::vector<uint64_t> sums(size_t(pool.size()) * 8);  // one line per thread; kept, so that nothing is optimised away
  return least(repeats, [&] {
    const double begin = now();
    pool.run(from.count, [&](int32_t i, int32_t thread) { sums[size_t(thread) * 8] += read(from.at(i), kChunk); });
    return (now() - begin) * from.share(bytes);
  });
}

double copy_seconds(int64_t bytes, int32_t threads, int32_t repeats) {
  ThreadPool pool(threads);
  const Pieces from(bytes, pool, "copying test"), to(bytes, pool, "copying test");
  return least(repeats, [&] {
    const double begin = now();
    pool.run(from.count, [&](int32_t i) { memmove(to.at(i), from.at(i), kChunk); });
    return (now() - begin) * from.share(bytes);
  });
}

double peak_operations_per_second(Isa isa, WeightType type, int32_t threads) {
  ThreadPool pool(threads);
  PeakKernels::Peak* const peak = kernels(isa).peak.of(type);
  std::vector<int64_t> operations(size_t(pool.size()) * 8);  // one line per thread
  const double seconds_per_operation = least(kWindows, [&] {
    std::fill(operations.begin(), operations.end(), 0);
    const double begin = now();
    pool.run(pool.size(), [&](int32_t, int32_t thread) {
      do {
        operations[size_t(thread) * 8] += peak(kRounds);
      } while (now() - begin < kWindowSeconds);
    });
    return (now() - begin) / double(std::accumulate(operations.begin(), operations.end(), int64_t(0)));
  });
  return 1 / seconds_per_operation;
}

}  // namespace baton::cpu
