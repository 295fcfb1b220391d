#pragma once

#include <cstddef>

#include "core/config.h"

namespace baton::cuda {

// What the current device gives, measured now: the ceilings that benches hold our kernels against. They allocate and
// wait.

// Bytes read plus bytes written per second of copying `bytes` from device memory to device memory: the better of our
// own copy and CUDA's, each the median of several. `bytes` should exceed the cache several times.
double copy_bytes_per_second(size_t bytes);

// Operations per second of the matrix products our kernels are made of, on values in registers: of bf16 or int8. A
// multiply and an addition count as two.
double matrix_operations_per_second(WeightType type);

}  // namespace baton::cuda
