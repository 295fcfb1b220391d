// Plain loops, accumulating in double: the definition the other instruction sets are judged against.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/tensor.h"
#include "cpu/kernels.h"

namespace baton::cpu {

namespace {

// out[i] = x[i] * weight[i] / sqrt(mean(x^2) + eps)
void rms_norm(float* out, const float* x, const float* weight, int32_t width, float eps) {
  double squares = 0;
  for (int32_t i = 0; i < width; i++) squares += double(x[i]) * x[i];
  const float scale = float(1 / std::sqrt(squares / width + eps));
  for (int32_t i = 0; i < width; i++) out[i] = x[i] * scale * weight[i];
}

// (x[i], x[i + head_dim / 2]) turned by the angle whose cosine and sine are given
void rope(float* x, const float* cosines, const float* sines, int32_t head_dim) {
  const int32_t half = head_dim / 2;
  for (int32_t i = 0; i < half; i++) {
    const double a = x[i], b = x[i + half];
    x[i] = float(a * cosines[i] - b * sines[i]);
    x[i + half] = float(b * cosines[i] + a * sines[i]);
  }
}

// Value `i` of a k-group of weights, and of activations.
template <WeightType kType>
double weight_at(const std::byte* group, int32_t i) {
  if constexpr (kType == WeightType::int8) return int8_t(group[i]);
  if constexpr (kType == WeightType::bf16) {
    const uint16_t bits = uint16_t(uint32_t(group[2 * i]) | uint32_t(group[2 * i + 1]) << 8);
    return std::bit_cast<float>(uint32_t(bits) << 16);
  }
  return *reinterpret_cast<const float*>(group);
}

template <WeightType kType>
double activation_at(const std::byte* values, int32_t k) {
  if constexpr (kType == WeightType::int8) return int8_t(values[k]);
  return reinterpret_cast<const float*>(values)[k];
}

template <WeightType kType>
void product(const MatmulTask& task) {
  constexpr int32_t kValues = k_per_tile(kType);
  constexpr int32_t kGroup = kValues / 16;
  constexpr int32_t kRowBytes = kValues * (kType == WeightType::int8 ? 1 : 4);
  for (int32_t row = 0; row < task.rows; row++) {
    const int32_t begin = row / kBlock * kBlock;
    const int64_t block_rows = std::min(kBlock, task.rows - begin);
    const std::byte* x = task.x + int64_t(begin) * kRowBytes * task.tiles + (row - begin) * kRowBytes;
    for (int32_t o = 0; o < task.columns; o++) {
      const std::byte* w = task.w + o / kTileOutputs * kTileBytes + o % kTileOutputs * 4;
      double sum = 0;
      for (int32_t tile = 0; tile < task.tiles; tile++) {
        const std::byte* values = x + tile * block_rows * kRowBytes;
        const std::byte* weights = w + tile * 2 * kTileBytes;
        for (int32_t k = 0; k < kValues; k++) {
          sum += activation_at<kType>(values, k) * weight_at<kType>(weights + k / kGroup * 64, k % kGroup);
        }
      }
      float value = float(sum);
      if (kType == WeightType::int8) value *= task.x_scales[row] * task.w_scales[o];
      if (task.bias != nullptr) value += task.bias[o];
      float& out = task.out[row * task.out_stride + o];
      out = task.add ? out + value : value;
    }
  }
}

template <WeightType kType>
void gated(const MatmulTask& task) {
  std::vector<float> sums(size_t(task.rows) * kPanel);
  MatmulTask part = task;
  part.out = sums.data();
  part.out_stride = kPanel;
  part.columns = kPanel;
  product<kType>(part);
  for (int32_t row = 0; row < task.rows; row++) {
    for (int32_t i = 0; i < task.columns; i++) {
      const double gate = sums[size_t(row * kPanel + i)];
      const double up = sums[size_t(row * kPanel + kTileOutputs + i)];
      task.out[row * task.out_stride + i] = float(gate / (1 + std::exp(-gate)) * up);
    }
  }
}

template <WeightType kType>
constexpr auto product_panels = each_panel<product<kType>, kPanel>;
template <WeightType kType>
constexpr auto gated_panels = each_panel<gated<kType>, kTileOutputs>;

template <WeightType kType>
void pack_floats(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float*) {
  constexpr int32_t kValues = k_per_tile(kType);
  for (int32_t k = 0; k < (width + kValues - 1) / kValues * kValues; k++) {
    float value = k < width ? x[k] : 0;
    if (kType == WeightType::bf16) value = bf16_to_float(float_to_bf16(value));
    memcpy(block + ((int64_t(k / kValues) * rows + row) * kValues + k % kValues) * 4, &value, 4);
  }
}

void pack_int8(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float* scale) {
  float peak = 0;
  float zero = 0;  // or NaN where x is not finite; then so is the scale, and everything made of this row
  for (int32_t k = 0; k < width; k++) {
    peak = std::max(peak, std::fabs(x[k]));
    zero += x[k] * 0;
  }
  *scale = peak / 127 + zero;
  const float inverse = peak > 0 ? 127 / peak : 0;
  for (int32_t k = 0; k < (width + 63) / 64 * 64; k++) {
    const float value = k < width && std::isfinite(*scale) ? x[k] * inverse : 0;
    block[(int64_t(k / 64) * rows + row) * 64 + k % 64] = std::byte(int8_t(std::nearbyint(value)));
  }
}

}  // namespace

MatmulKernels scalar_matmul_kernels() {
  return {
      {Activation::f32, pack_floats<WeightType::f32>, product_panels<WeightType::f32>, gated_panels<WeightType::f32>},
      {Activation::f32, pack_floats<WeightType::bf16>, product_panels<WeightType::bf16>,
       gated_panels<WeightType::bf16>},
      {Activation::int8, pack_int8, product_panels<WeightType::int8>, gated_panels<WeightType::int8>},
  };
}

namespace {

// Of doubles, which plain loops sum in.
int64_t peak(int64_t rounds) {
  constexpr int kSums = 8;
  double sums[kSums] = {};
  double x[kSums];
  std::fill(x, x + kSums, 0.5);
  for (int64_t i = 0; i < rounds; i++) {
    asm volatile("" ::"r"(x) : "memory");  // else x * x would be computed once
    for (int j = 0; j < kSums; j++) sums[j] += x[j] * x[j];
  }
  asm volatile("" ::"r"(sums) : "memory");
  return rounds * kSums * 2;
}

}  // namespace

const Kernels& scalar_kernels() {
  static const Kernels kernels = {
      Isa::scalar,        rms_norm, rope, scalar_matmul_kernels(), scalar_attention_kernels(), scalar_sample_kernels(),
      {peak, peak, peak},
  };
  return kernels;
}

const Kernels& kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::amx:
      return amx_kernels();
    case Isa::avx512:
      return avx512_kernels();
    case Isa::avx2:
      return avx2_kernels();
#elif defined(__aarch64__)
    case Isa::neon:
      return neon_kernels();
#endif
    default:
      return scalar_kernels();
  }
}

}  // namespace baton::cpu
