#pragma once

#include <cstdint>

#include "ops/cases.h"
#include "ops/device.h"

namespace baton::ops {

// Each runs one case of its op on inputs drawn from `seed` and throws Failure, or what the backend throws. The answer
// is a digest of all that the device has computed.
using Test = uint64_t(const Device& device, const Case& one, uint64_t seed);

Test test_embedding, test_rms_norm, test_convert, test_select_sampled;
Test test_matmul, test_matmul_add, test_matmul_swiglu;
Test test_kv_append, test_moves, test_attention;
Test test_sample, test_row_compact;

}  // namespace baton::ops
