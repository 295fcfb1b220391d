#include "ops/test.h"

#include <chrono>
#include <cstdio>
#include <map>
#include <stdexcept>

#include "core/error.h"
#include "ops/tests.h"

namespace baton::ops {

namespace {

Test* test_of(const std::string& op) {
  static const std::map<std::string, Test*> tests = {
      {"embedding", test_embedding},
      {"rms_norm", test_rms_norm},
      {"convert", test_convert},
      {"matmul", test_matmul},
      {"matmul_add", test_matmul_add},
      {"matmul_swiglu", test_matmul_swiglu},
      {"kv_append", test_kv_append},
      {"kv_embed", test_moves},
      {"kv_pad", test_moves},
      {"kv_compact", test_moves},
      {"kv_park", test_moves},
      {"row_compact", test_row_compact},
      {"attention_decode", test_attention},
      {"attention_prefill", test_attention},
      {"select_sampled", test_select_sampled},
      {"sample", test_sample},
  };
  return tests.at(op);
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Counts {
  int32_t passed = 0, failed = 0, skipped = 0;

  void add(const Counts& other) {
    passed += other.passed;
    failed += other.failed;
    skipped += other.skipped;
  }
};

class Tests {
 public:
  Tests(const Device& device, const TestOptions& options) : device_(device), options_(options) {}

  Counts run(const OpCases& op, const Schedule& schedule) {
    const std::string way = schedule.order.empty() ? "" : " " + schedule.order + " " + schedule.async;
    const double begin = now();
    Counts counts;
    int32_t place = 0;
    for (const Case& one : op.cases) {
      if (!wanted(one) || place++ % options_.every != 0) continue;
      if (now() - start_ > options_.seconds) {
        counts.skipped++;
        continue;
      }
      std::string failure;
      try {
        follow(device_, schedule, options_.seed);
        const uint64_t digest = test_of(op.op)(device_, one, options_.seed);
        const auto [first, is_new] = digests_.try_emplace(op.op + one.name, digest);
        if (!is_new && first->second != digest) failure = "other bits than under the first schedule";
      } catch (const Error& error) {
        failure = std::string(error.code) + ": " + error.what();
      } catch (const std::exception& error) {
        failure = error.what();
      }
      failure.empty() ? counts.passed++ : counts.failed++;
      if (!failure.empty())
        printf("FAIL %s%s, %s: %s\n", op.op.c_str(), way.c_str(), one.name.c_str(), failure.c_str());
      fflush(stdout);
    }
    printf("%-18s%s  %d passed, %d failed, %d skipped, %.1f s\n", op.op.c_str(), way.c_str(), counts.passed,
           counts.failed, counts.skipped, now() - begin);
    fflush(stdout);
    return counts;
  }

 private:
  bool wanted(const Case& one) const {
    return one.use == Use::quick || (one.use == Use::real && !options_.quick && !device_.emulated);
  }

  const Device& device_;
  const TestOptions& options_;
  const double start_ = now();
  std::map<std::string, uint64_t> digests_;  // of each case, by op and name
};

}  // namespace

bool test(const Device& device, const std::vector<OpCases>& ops, const TestOptions& options) {
  printf("%s: %s; --seed %llu\n", device.name.c_str(), device.hardware.c_str(), (unsigned long long)options.seed);
  if (!device.library.empty()) printf("products of bf16: %s\n", device.library.c_str());
  Tests tests(device, options);
  Counts counts;
  for (const Schedule& schedule : schedules(device)) {
    if (!options.schedule.empty() && options.schedule != schedule.order) continue;
    if (!options.async.empty() && options.async != schedule.async) continue;
    for (const OpCases& op : ops) counts.add(tests.run(op, schedule));
  }
  printf("%d passed, %d failed, %d skipped\n", counts.passed, counts.failed, counts.skipped);
  return counts.failed == 0;
}

}  // namespace baton::ops
