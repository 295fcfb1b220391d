#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/cases.h"
#include "ops/device.h"

namespace baton::ops {

struct BenchOptions {
  bool quick;  // small shapes, instead of those of real models
  bool sweep;  // lines of cases, instead
  uint64_t seed;
  int32_t repeats;              // timings of a case, of which the median counts
  double seconds;               // after which no case begins
  double call_seconds;          // a case is left out that would take longer per call
  std::string without_library;  // why the device has none; empty: nobody asked for one, or it has
  std::string json;             // file; empty: none
};

// Times the cases and prints them beside the ceilings, which are measured first. What the device's library computes too
// is timed in turns with it.
void bench(const Device& device, const std::vector<OpCases>& ops, const BenchOptions& options);

}  // namespace baton::ops
