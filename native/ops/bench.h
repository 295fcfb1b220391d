#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/cases.h"
#include "ops/device.h"

namespace baton::ops {

struct BenchOptions {
  bool quick;
  uint64_t seed;
  double seconds;    // after which no case begins
  std::string json;  // file; empty: none
};

// Times the cases and prints them beside the ceilings, which are measured first. Throws FILE_ERROR.
void bench(const Device& device, const std::vector<OpCases>& ops, const BenchOptions& options);

}  // namespace baton::ops
