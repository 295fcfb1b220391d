#pragma once

#include <algorithm>

#include "cuda/device.cuh"
#include "cuda/kernels.h"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

// Storing a row of floats as an operand of matrix products. A block stores a row; what lies beyond its width is not
// touched.
namespace baton::cuda {

// Rounds a row to int8 exactly as cpu/ does: the same bytes and the same scale for the same floats.
struct Quantiser {
  float scale;
  float inverse;  // 0: all bytes are 0

  // peak_bits: of the row's largest magnitude. As integers, bits order like the floats, infinity and NaN last.
  __device__ explicit Quantiser(uint32_t peak_bits) {
    constexpr uint32_t kInfinity = 0x7f800000;
    constexpr float kLeast = 127 / 3.40282347e38f;  // below it, the inverse would not be finite
    const float peak = __uint_as_float(peak_bits);
    const bool finite = peak_bits < kInfinity;
    scale = finite ? peak / 127 : __uint_as_float(0x7fffffff);
    inverse = finite && peak > kLeast ? 127 / peak : 0;
  }

  __device__ int operator()(float v) const { return inverse > 0 ? int(rintf(v * inverse)) : 0; }

  __device__ uint32_t operator()(float4 v) const {
    const Quantiser& q = *this;
    return (uint32_t(q(v.x)) & 0xff) | (uint32_t(q(v.y)) & 0xff) << 8 | (uint32_t(q(v.z)) & 0xff) << 16 |
           uint32_t(q(v.w)) << 24;
  }
};

__device__ inline uint32_t magnitude_bits(float v) { return __float_as_uint(v) & 0x7fffffffu; }

__device__ inline uint32_t magnitude_bits(float4 v) {
  return std::max(std::max(magnitude_bits(v.x), magnitude_bits(v.y)),
                  std::max(magnitude_bits(v.z), magnitude_bits(v.w)));
}

template <WeightType kType>
__device__ Stored<kType>* operand_row(const OperandView& out, int64_t row) {
  return reinterpret_cast<Stored<kType>*>(static_cast<unsigned char*>(out.values) + row * out.pitch);
}

// Every thread of the block must call these.
template <WeightType kType, int kThreads, int kFours>
__device__ void store_row(const OperandView& out, int64_t row, const BlockRow<kThreads, kFours>& values) {
  Stored<kType>* to = operand_row<kType>(out, row);
  if constexpr (kType == WeightType::int8) {
    uint32_t peak = 0;
#pragma unroll
    for (int j = 0; j < kFours; j++) peak = std::max(peak, magnitude_bits(values.fours[j]));
    const Quantiser quantiser(block_max<kThreads>(peak));
    if (threadIdx.x == 0) out.scales[row] = quantiser.scale;
#pragma unroll
    for (int j = 0; j < kFours; j++) {
      if (values.place(j) < out.width) {
        *reinterpret_cast<uint32_t*>(to + values.place(j)) = quantiser(values.fours[j]);
      }
    }
  } else {
#pragma unroll
    for (int j = 0; j < kFours; j++) {
      if (values.place(j) < out.width) store(to + values.place(j), values.fours[j]);
    }
  }
}

// The same of any width, one value at a time: value(i) gives the i-th.
template <WeightType kType, int kThreads, typename Value>
__device__ void store_values(const OperandView& out, int64_t row, const Value& value) {
  Stored<kType>* to = operand_row<kType>(out, row);
  if constexpr (kType == WeightType::int8) {
    uint32_t peak = 0;
    for (int i = threadIdx.x; i < out.width; i += kThreads) peak = std::max(peak, magnitude_bits(value(i)));
    const Quantiser quantiser(block_max<kThreads>(peak));
    if (threadIdx.x == 0) out.scales[row] = quantiser.scale;
    for (int i = threadIdx.x; i < out.width; i += kThreads) to[i] = int8_t(quantiser(value(i)));
  } else {
    for (int i = threadIdx.x; i < out.width; i += kThreads) store(to + i, value(i));
  }
}

}  // namespace baton::cuda
