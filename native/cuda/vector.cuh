#pragma once

#include <cstring>
#include <type_traits>

#include "core/config.h"
#include "cuda/device.cuh"

// Values in fours: one access of 16, 8 or 4 bytes per lane, a warp's accesses side by side.
namespace baton::cuda {

constexpr int kFour = 4;

inline bool aligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// A value of each type as it lies in memory.
template <WeightType kType>
using Stored =
    std::conditional_t<kType == WeightType::f32, float, std::conditional_t<kType == WeightType::bf16, bf16, int8_t>>;

__device__ inline float4 operator+(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ inline float4 operator-(float4 a, float4 b) { return {a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w}; }
__device__ inline float4 operator*(float4 a, float4 b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
__device__ inline float4 operator*(float4 a, float b) { return {a.x * b, a.y * b, a.z * b, a.w * b}; }
__device__ inline float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
__device__ inline float dot(float a, float b) { return a * b; }

// Four values; `from` lies a multiple of four values from an aligned address.
__device__ inline float4 load_four(const float* from) { return *reinterpret_cast<const float4*>(from); }

__device__ inline float4 load_four(const bf16* from) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  return {__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u), __uint_as_float(bits.y << 16),
          __uint_as_float(bits.y & 0xffff0000u)};
}

__device__ inline float4 load_four(const int8_t* from) {
  const uint32_t bits = *reinterpret_cast<const uint32_t*>(from);
  return {float(int8_t(bits)), float(int8_t(bits >> 8)), float(int8_t(bits >> 16)), float(int8_t(bits >> 24))};
}

// Four values, under the same condition, or one; bf16 rounded to nearest even.
__device__ inline void store(float* to, float4 v) { *reinterpret_cast<float4*>(to) = v; }
__device__ inline void store(float* to, float v) { *to = v; }
__device__ inline void store(bf16* to, float v) { *to = __float2bfloat16_rn(v); }

__device__ inline void store(bf16* to, float4 v) {
  const bf16x2 halves[2] = {__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)};
  uint2 bits;
  memcpy(&bits, halves, sizeof bits);
  *reinterpret_cast<uint2*>(to) = bits;
}

// A row in the registers of a block of kThreads: thread t holds values 4 (t + j kThreads) and the next three, for
// j < kFours; zeros beyond width, a multiple of four.
template <int kThreads, int kFours>
struct BlockRow {
  float4 fours[kFours];

  __device__ static int place(int j) { return kFour * (int(threadIdx.x) + j * kThreads); }

  __device__ void load(const float* from, int width) {
#pragma unroll
    for (int j = 0; j < kFours; j++) fours[j] = place(j) < width ? load_four(from + place(j)) : float4{0, 0, 0, 0};
  }
};

}  // namespace baton::cuda
