#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"

namespace baton::cpu {

// Weights are packed in tiles of 1 KiB: 16 outputs by 64 bytes of k. Row r of a tile holds, for each of its outputs,
// the k-group r: one f32, two bf16 or four int8 (AMX's VNNI layout; the others read it as vectors of 16 outputs).
// A panel is 32 outputs: pairs of tiles, one pair per 64 bytes of k, front to back. Outputs and k are filled up with
// zeros.
constexpr int32_t kPanel = 32;
constexpr int32_t kTileOutputs = 16;
constexpr int32_t kTileBytes = 1024;

constexpr int32_t k_per_tile(WeightType type) {
  return type == WeightType::f32 ? 16 : type == WeightType::bf16 ? 32 : 64;
}

// Activations are packed for a product in blocks of 16 rows (the last may have fewer), each a run of tiles along k: all
// rows of the block, k_per_tile values each. The value's type is the kernel's choice: see MatmulKernels::activation.
constexpr int32_t kBlock = 16;

enum class Activation { f32, bf16, int8 };

constexpr int32_t bytes_of(Activation type) { return type == Activation::f32 ? 4 : type == Activation::bf16 ? 2 : 1; }

// Some panels times some rows: out[row, o] (+)= sum_k x[row, k] w[o, k] + bias[o], for `columns` of the panels'
// outputs, 32 each. Whatever the number of rows, each sum runs over k in the same order.
//
// Gated: out[row, i] = silu(g) u, silu(g) = g / (1 + e^-g), where g and u are the sums of a panel's outputs i and 16
// + i; `columns` counts i, bias is null and add false.
struct MatmulTask {
  const std::byte* x;  // first block; blocks follow each other
  int32_t rows;
  const float* x_scales;  // [rows], int8 only
  const std::byte* w;
  int32_t panels;
  const float* w_scales;  // [panels * 32], int8 only
  const int32_t* w_sums;  // [panels * 32] sums over k, int8 only: what an unsigned x, shifted by 128, adds too much
  int32_t tiles;          // along k
  float* out;             // [rows, out_stride], at the first panel's first output; unless packed
  int64_t out_stride;
  int32_t columns;
  const float* bias;      // [columns] or null
  bool add;               // to what is in out
  std::byte* packed;      // or null; what is gated, as `pack` would: the first block of an operand. See packs_gated
  int32_t packed_tiles;   // along k of that operand
  int32_t packed_column;  // of the first panel's first output
  std::byte* sums;        // kSumsBytes that are free until the end, where ProductKernels::cuts_k
};

// Sums that a thread may leave behind while it is elsewhere along k: half of a second-level cache with the activations.
constexpr int64_t kSumsBytes = int64_t(768) << 10;

// `product` of one panel, which gives kOutputs columns, for each of a task's.
template <void product(const MatmulTask&), int32_t kOutputs>
void each_panel(const MatmulTask& task) {
  MatmulTask one = task;
  one.panels = 1;
  for (int32_t panel = 0; panel < task.panels; panel++) {
    one.columns = task.columns - panel * kOutputs;
    if (one.columns > kOutputs) one.columns = kOutputs;
    product(one);
    one.w += int64_t(task.tiles) * 2 * kTileBytes;
    one.out += kOutputs;
    if (task.w_scales != nullptr) one.w_scales += kPanel;
    if (task.w_sums != nullptr) one.w_sums += kPanel;
    if (task.bias != nullptr) one.bias += kOutputs;
  }
}

// How one instruction set multiplies by weights of one type.
struct ProductKernels {
  Activation activation;
  // Packs row `row` of a block of `rows` rows. int8: quantised to +-127 by the row's largest magnitude; *scale times
  // the quantised value is the value. Otherwise *scale is not touched.
  void (*pack)(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float* scale);
  void (*product)(const MatmulTask&);
  void (*gated)(const MatmulTask&);
  // The kernel goes along k in stretches, with all rows: rows need not fit a cache with all of their values.
  bool cuts_k = false;
  // `gated` writes to an operand of the weights' type itself, where one is given.
  bool packs_gated = false;
};

struct MatmulKernels {
  ProductKernels f32, bf16, int8;

  const ProductKernels& of(WeightType type) const {
    return type == WeightType::f32 ? f32 : type == WeightType::bf16 ? bf16 : int8;
  }
};

MatmulKernels scalar_matmul_kernels();

}  // namespace baton::cpu
