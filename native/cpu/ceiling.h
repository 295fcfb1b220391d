#pragma once

#include <cstdint>

#include "core/config.h"
#include "cpu/isa.h"

namespace baton::cpu {

// What this machine gives at best, measured now: the ceilings that benches hold our kernels against.

// Seconds to read `bytes` once from memory of 2 MiB pages with `threads` threads, the least of `repeats`.
double read_seconds(int64_t bytes, int32_t threads, int32_t repeats);
// The same to copy them: as many are written.
double copy_seconds(int64_t bytes, int32_t threads, int32_t repeats);

// Operations per second of PeakKernels on `threads` threads at once.
double peak_operations_per_second(Isa isa, WeightType type, int32_t threads);

}  // namespace baton::cpu
