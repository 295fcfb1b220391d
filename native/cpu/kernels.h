#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"
#include "cpu/attention.h"
#include "cpu/isa.h"
#include "cpu/matmul.h"
#include "cpu/sample.h"

namespace baton::cpu {

// Multiply-adds of values in registers and nothing else, by the instructions that products of each type of weights are
// made of: what a product could reach. Answers with the operations done; a multiply and an addition count as two.
struct PeakKernels {
  using Peak = int64_t(int64_t rounds);
  Peak *f32, *bf16, *int8;

  Peak* of(WeightType type) const { return type == WeightType::f32 ? f32 : type == WeightType::bf16 ? bf16 : int8; }
};

// The inner loops of the CPU backend for one instruction set; the work is split and shared out above them, the same for
// all. The scalar ones are the definition: plain loops, accumulating in double.
struct Kernels {
  Isa isa;

  void (*rms_norm)(float* out, const float* x, const float* weight, int32_t width, float eps);  // x may be out
  void (*rope)(float* x, const float* cosines, const float* sines, int32_t head_dim);  // half-split pairs, in place

  MatmulKernels matmul;
  AttentionKernels attention;
  SampleKernels sample;
  PeakKernels peak;
};

const Kernels& kernels(Isa isa);

const Kernels& scalar_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& amx_kernels();
#elif defined(__aarch64__)
const Kernels& neon_kernels();
#endif

}  // namespace baton::cpu
