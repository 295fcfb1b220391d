#pragma once

#include <cuda.h>

#include <cstdint>

namespace baton::cuda {

// For copies of tiles by the copy engine (hopper.cuh): of a matrix whose rows, `pitch` bytes each, follow each other at
// multiples of 16 bytes, in boxes of box_rows (at most 256) times 128 bytes.
CUtensorMap tensor_map(const void* values, int64_t rows, int64_t pitch, int box_rows);

}  // namespace baton::cuda
