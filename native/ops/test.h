#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/cases.h"
#include "ops/device.h"

namespace baton::ops {

struct TestOptions {
  bool quick;
  uint64_t seed;
  std::string schedule, async;  // of an emulated device; empty: all
  double seconds;               // after which cases are skipped
  int32_t every;                // of each op only the first of so many cases, and the next first
};

// Runs all cases on the device under each schedule and prints what fails. True if nothing does.
bool test(const Device& device, const std::vector<OpCases>& ops, const TestOptions& options);

}  // namespace baton::ops
