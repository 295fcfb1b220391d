#if defined(__aarch64__)

#include <arm_neon.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/kernels.h"

#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")

namespace baton::cpu {
namespace {

// Each block of these needs the ones before it.
#include "cpu/vector_neon.inl"

#include "cpu/vector.inl"

#include "cpu/attention_vector.inl"
#include "cpu/matmul_vector.inl"
#include "cpu/norm_vector.inl"
#include "cpu/peak_vector.inl"
#include "cpu/sample_vector.inl"

}  // namespace

const Kernels& neon_kernels() {
  static const Kernels kernels = {
      Isa::neon, rms_norm, rope, matmul_kernels(), attention_kernels(), sample_kernels(), peak_kernels(),
  };
  return kernels;
}

}  // namespace baton::cpu

#pragma GCC pop_options

#endif
