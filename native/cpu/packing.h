#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/backend.h"
#include "cpu/kernels.h"
#include "cpu/memory.h"
#include "cpu/thread_pool.h"

namespace baton::cpu {

// Weights in the tiles of matmul.h. int8: one scale per output, the largest magnitude of its weights over 127.
// gated: outputs are pairs, first halves and second halves; a panel holds 16 of the first and their 16 partners.
struct PackedMatrix final : Matrix {
  int32_t tiles;              // along k
  std::byte* data;            // the backend's
  std::vector<float> scales;  // [panels * kPanel], int8 only
  std::vector<int32_t> sums;  // [panels * kPanel], int8 only; see MatmulTask::w_sums

  // Outputs of one panel that belong together: all, or half of them where the others are their partners.
  int32_t panel_columns() const { return gated ? kTileOutputs : kPanel; }
  int32_t columns() const { return gated ? outputs / 2 : outputs; }
  int32_t panels() const { return (columns() + panel_columns() - 1) / panel_columns(); }
  size_t panel_bytes() const { return size_t(tiles) * 2 * kTileBytes; }
  const std::byte* panel(int32_t index) const { return data + size_t(index) * panel_bytes(); }

  // Row `output` of a matrix that is not gated, as floats: what the embedding reads.
  void unpack(int32_t output, float* row) const;
};

std::unique_ptr<PackedMatrix> pack(std::span<const TensorView> parts, WeightType type, bool gated, ThreadPool& pool,
                                   MemoryPool& memory);

// Activations in the blocks of matmul.h, in the form the ISA's kernels read.
struct PackedOperand final : Operand {
  ProductKernels kernels;
  int32_t tiles;              // along k
  std::byte* data;            // the backend's
  std::vector<float> scales;  // [capacity], int8 only

  PackedOperand(int32_t capacity, int32_t width, WeightType type, const Kernels& kernels, MemoryPool& memory);

  // Bytes of one row in one tile, and where the block that begins at `row` lies.
  int64_t row_bytes() const { return int64_t(k_per_tile(type)) * bytes_of(kernels.activation); }
  std::byte* block(int32_t row) const { return data + int64_t(row) * row_bytes() * tiles; }

  void pack(int32_t row, const float* x);
  // Makes room for so many rows of a kernel that packs_gated: zeros where it does not write, past an odd half of a
  // tile.
  void prepare(int32_t rows);
  void unpack(int32_t row, float* x) const;  // what the products see
};

// out (+)= x w^T + bias, shared out over the pool in panels; of a gated matrix, silu(x gate^T) * (x up^T) (no bias, no
// add), to `packed` instead where the kernels pack it themselves. sums: kSumsBytes per thread, free until the end.
void multiply(ThreadPool& pool, const PackedOperand& x, const PackedMatrix& w, float* out, int64_t out_stride,
              const float* bias, bool add, std::byte* sums, PackedOperand* packed = nullptr);

}  // namespace baton::cpu
