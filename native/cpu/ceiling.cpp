#include "cpu/ceiling.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace baton::cpu {

namespace {

constexpr int64_t kChunk = int64_t(256) << 10;
constexpr double kPeakSeconds = 0.2;
constexpr int32_t kPeakProducts = 16;  // between two looks at the clock

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

}  // namespace

double read_seconds(int64_t bytes, int32_t threads, int32_t repeats) {
  ThreadPool pool(threads);
  const int32_t chunks = int32_t((bytes + kChunk - 1) / kChunk);
  const Memory memory(size_t(chunks) * kChunk, "reading test");
  pool.run(chunks, [&](int32_t i) { memset(memory.data() + i * kChunk, 1 + i % 7, kChunk); });
  std::vector<double> seconds;
  std::vector<uint64_t> sums(size_t(pool.size()) * 8);  // one line per thread; kept, so that nothing is optimised away
  for (int32_t repeat = 0; repeat < repeats; repeat++) {
    const double begin = now();
    pool.run(chunks,
             [&](int32_t i, int32_t thread) { sums[size_t(thread) * 8] += read(memory.data() + i * kChunk, kChunk); });
    seconds.push_back((now() - begin) * double(bytes) / (double(chunks) * kChunk));
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[size_t(repeats / 2)];
}

// One panel and 32 rows that stay in the first cache: nothing but the kernel itself is timed.
double peak_operations_per_second(Isa isa, bool int8, int32_t threads) {
  ThreadPool pool(threads);
  const WeightType type = int8 ? WeightType::int8 : WeightType::bf16;
  const ProductKernels& product = kernels(isa).matmul.of(type);
  const int32_t tiles = 8;
  const Memory w(size_t(tiles) * 2 * kTileBytes, "peak test");
  const Memory x(size_t(tiles) * 2 * kBlock * size_t(k_per_tile(type)) * 4, "peak test");
  std::vector<std::vector<float>> outs(size_t(pool.size()), std::vector<float>(32 * 32));
  const std::vector<float> ones(32, 1);
  const std::vector<int32_t> zeros(32, 0);
  std::vector<int64_t> products(size_t(pool.size()) * 8);  // one line per thread
  const double begin = now();
  pool.run(pool.size(), [&](int32_t, int32_t thread) {
    const MatmulTask task = {x.data(),    32,           ones.data(), w.data(),
                             ones.data(), zeros.data(), tiles,       outs[size_t(thread)].data(),
                             32,          32,           nullptr,     false};
    do {
      for (int32_t i = 0; i < kPeakProducts; i++) product.product(task);
      products[size_t(thread) * 8] += kPeakProducts;
    } while (now() - begin < kPeakSeconds);
  });
  const double seconds = now() - begin;
  int64_t total = 0;
  for (const int64_t count : products) total += count;
  return 2.0 * 32 * 32 * tiles * k_per_tile(type) * double(total) / seconds;
}

}  // namespace baton::cpu
