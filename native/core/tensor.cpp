#include "core/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace baton {

namespace {

// Nearest integer, ties to even, for |x| < 2^22: the sum has no fraction bits left. (lrintf is not vectorised.)
int32_t nearest_integer(float x) {
  const float shifted = x + 12582912.0f;  // 1.5 * 2^23
  int32_t bits;
  memcpy(&bits, &shifted, 4);
  return bits - 0x4b400000;
}

}  // namespace

uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return uint16_t(bits >> 16 | 0x40);  // quiet, lest the payload's low half was all of it
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float f16_to_float(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 0x1f;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact in a float
    const float magnitude = float(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

void read_row(const TensorView& tensor, int32_t row, float* out) {
  const int64_t begin = int64_t(row) * tensor.columns;
  if (tensor.type == TensorType::f32) {
    memcpy(out, tensor.data + begin * 4, size_t(tensor.columns) * 4);
    return;
  }
  const std::byte* from = tensor.data + begin * 2;
  for (int32_t i = 0; i < tensor.columns; i++) {
    uint16_t bits;
    memcpy(&bits, from + int64_t(i) * 2, 2);
    out[i] = tensor.type == TensorType::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
  }
}

float quantise_row(const float* row, int32_t width, int8_t* out) {
  float peak = 0;
  for (int32_t i = 0; i < width; i++) peak = std::max(peak, std::fabs(row[i]));
  const float inverse = peak > 0 ? 127 / peak : 0;
  for (int32_t i = 0; i < width; i++) out[i] = int8_t(nearest_integer(row[i] * inverse));
  return peak / 127;
}

}  // namespace baton
