#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace baton {

enum class TensorType { f32, bf16, f16 };

// A row-major [rows, columns] tensor in host memory, usually a mapped file. A vector has rows 1. Owns nothing.
struct TensorView {
  const std::byte* data;
  TensorType type;
  int32_t rows;
  int32_t columns;
};

// Row `row` of a tensor as floats.
void read_row(const TensorView& tensor, int32_t row, float* out);

// A row of weights as int8, nearest, ties to even; returns its scale, the largest magnitude over 127.
float quantise_row(const float* row, int32_t width, int8_t* out);

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }
uint16_t float_to_bf16(float value);  // nearest even; NaN stays NaN
float f16_to_float(uint16_t bits);

}  // namespace baton
