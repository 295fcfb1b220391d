#pragma once

#include <cstdint>

#include "cpu/isa.h"

namespace baton::cpu {

// What this machine gives, measured now: the ceilings that benches hold our kernels against.

// Seconds to read `bytes` once from memory of 2 MiB pages with `threads` threads, the median of `repeats`.
double read_seconds(int64_t bytes, int32_t threads, int32_t repeats);

// Operations per second of the matrix unit (AMX bf16 or int8) or, without one, of multiply-adds in registers; a
// multiply and an addition count as two.
double peak_operations_per_second(Isa isa, bool int8, int32_t threads);

}  // namespace baton::cpu
