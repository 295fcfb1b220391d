#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "cpu/kernels.h"

#pragma GCC diagnostic ignored "-Wuninitialized"  // g++ 12 on its own AVX-512 intrinsics (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,amx-int8,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")

namespace baton::cpu {
namespace {

// Each block of these needs the ones before it.
#include "cpu/vector_avx512.inl"

#include "cpu/vector_x86.inl"

#include "cpu/vector.inl"

#include "cpu/attention_vector.inl"
#include "cpu/matmul_vector.inl"
#include "cpu/norm_vector.inl"
#include "cpu/peak_vector.inl"
#include "cpu/sample_vector.inl"

// Rows of int8 up to which AVX-512 VNNI is at least as quick as AMX (same machine, 2026-11).
constexpr int kFewRows = 2;

#include "cpu/tiles_amx.inl"

#include "cpu/attention_amx.inl"
#include "cpu/matmul_amx.inl"
#include "cpu/peak_amx.inl"

}  // namespace

const Kernels& amx_kernels() {
  static const Kernels kernels = {
      Isa::amx, rms_norm, rope, amx_matmul_kernels(), amx_attention_kernels(), sample_kernels(), amx_peak_kernels(),
  };
  return kernels;
}

}  // namespace baton::cpu

#pragma GCC pop_options

#endif
