#include "cpu/packing.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/error.h"

namespace baton::cpu {

namespace {

// Activations of one group of rows stay in half of a second-level cache while all panels pass by.
constexpr int64_t kGroupBytes = int64_t(1) << 20;
// Where fewer rows than this would fit, weights would be read too often: so many go along k together, as long as their
// sums (of some panels) stay in the cache. 512 tokens of Llama-3.2-1B's down take 0.53 of the time in bf16 and 0.73 in
// int8, where 64 and 128 rows fit, and it was no gain where 192 or 341 do (one thread of an AMX Xeon,
// 2026-11).
constexpr int32_t kFewFitting = 160;
constexpr int32_t kCutRows = 512;
// Weights one index of the loop reads when there are few rows: long enough to stream, short enough to share evenly.
constexpr int64_t kStreamBytes = int64_t(128) << 10;

// One output's weights, front to back in the matrix's type, padded with zeros to whole tiles. `at`: its place among all
// outputs of all panels.
void encode_row(const float* weights, PackedMatrix& matrix, int32_t at, std::vector<std::byte>& row) {
  std::fill(row.begin(), row.end(), std::byte{0});
  if (matrix.type == WeightType::f32) {
    memcpy(row.data(), weights, size_t(matrix.inputs) * 4);
  } else if (matrix.type == WeightType::bf16) {
    uint16_t* to = reinterpret_cast<uint16_t*>(row.data());
    for (int32_t i = 0; i < matrix.inputs; i++) to[i] = float_to_bf16(weights[i]);
  } else {
    const auto to = reinterpret_cast<int8_t*>(row.data());
    matrix.scales[size_t(at)] = quantise_row(weights, matrix.inputs, to);
    matrix.sums[size_t(at)] = std::accumulate(to, to + matrix.inputs, 0);
  }
}

// The first k-group of output `in_panel` in a tile, from the beginning of the panel; the next group is 64 bytes
// further.
size_t place(int32_t in_panel, int32_t tile) {
  return size_t(tile) * 2 * kTileBytes + size_t(in_panel / kTileOutputs) * kTileBytes +
         size_t(in_panel % kTileOutputs) * 4;
}

}  // namespace

std::unique_ptr<PackedMatrix> pack(std::span<const TensorView> parts, WeightType type, bool gated, ThreadPool& pool,
                                   MemoryPool& memory) {
  auto matrix = std::make_unique<PackedMatrix>();
  matrix->type = type;
  matrix->gated = gated;
  matrix->inputs = parts.front().columns;
  struct Source {
    const TensorView* part;
    int32_t row;
  };
  std::vector<Source> sources;  // [outputs]
  for (const TensorView& part : parts) {
    for (int32_t row = 0; row < part.rows; row++) sources.push_back({&part, row});
  }
  matrix->outputs = int32_t(sources.size());
  matrix->tiles = (matrix->inputs + k_per_tile(type) - 1) / k_per_tile(type);
  matrix->bytes = size_t(matrix->panels()) * matrix->panel_bytes();
  matrix->data = memory.take(matrix->bytes, "weights");
  if (type == WeightType::int8) {
    matrix->scales.resize(size_t(matrix->panels()) * kPanel);
    matrix->sums.resize(size_t(matrix->panels()) * kPanel);
  }
  const int32_t columns = matrix->columns(), together = matrix->panel_columns();
  pool.run(matrix->panels(), [&](int32_t panel) {
    std::vector<float> weights(size_t(matrix->inputs));
    std::vector<std::byte> row(size_t(matrix->tiles) * 64);
    std::byte* to = matrix->data + size_t(panel) * matrix->panel_bytes();
    for (int32_t i = 0; i < kPanel; i++) {
      const int32_t column = panel * together + i % together;
      if (column >= columns) continue;
      const Source& source = sources[size_t(i / together * columns + column)];
      read_row(*source.part, source.row, weights.data());
      encode_row(weights.data(), *matrix, panel * kPanel + i, row);
      for (int32_t tile = 0; tile < matrix->tiles; tile++) {
        std::byte* group = to + place(i, tile);
        for (int32_t r = 0; r < 16; r++) memcpy(group + r * 64, row.data() + tile * 64 + r * 4, 4);
      }
    }
  });
  return matrix;
}

void PackedMatrix::unpack(int32_t output, float* row) const {
  const std::byte* first = panel(output / kPanel) + place(output % kPanel, 0);
  const int32_t per_group = k_per_tile(type) / 16;
  const int32_t groups = (inputs + per_group - 1) / per_group;
  const auto at = [&](int32_t group) { return first + place(0, group / 16) + group % 16 * 64; };
  // Each group lies in a line of its own: all are asked for before the first is waited for. 64 tokens take 0.4 of the
  // time, 512 take 0.7 (2-core Xeon, 2026-11).
  for (int32_t group = 0; group < groups; group++) __builtin_prefetch(at(group));
  for (int32_t group = 0; group < groups; group++) {
    const std::byte* bytes = at(group);
    const int32_t k = group * per_group, count = std::min(per_group, inputs - k);
    if (type == WeightType::f32) {
      memcpy(row + k, bytes, 4);
    } else if (type == WeightType::bf16) {
      uint16_t pair[2];
      memcpy(pair, bytes, 4);
      for (int32_t i = 0; i < count; i++) row[k + i] = bf16_to_float(pair[i]);
    } else {
      for (int32_t i = 0; i < count; i++) row[k + i] = float(int8_t(bytes[i])) * scales[size_t(output)];
    }
  }
}

PackedOperand::PackedOperand(int32_t rows, int32_t inputs, WeightType weights, const Kernels& isa_kernels,
                             MemoryPool& memory)
    : kernels(isa_kernels.matmul.of(weights)) {
  capacity = rows;
  width = inputs;
  type = weights;
  tiles = (inputs + k_per_tile(weights) - 1) / k_per_tile(weights);
  data = memory.take(size_t(rows) * size_t(tiles) * size_t(row_bytes()), "activations");
  if (weights == WeightType::int8) scales.resize(size_t(rows));
}

void PackedOperand::pack(int32_t row, const float* x) {
  const int32_t begin = row / kBlock * kBlock;
  float* scale = type == WeightType::int8 ? &scales[size_t(row)] : nullptr;
  kernels.pack(block(begin), std::min(kBlock, count - begin), row - begin, x, width, scale);
}

void PackedOperand::prepare(int32_t rows) {
  assert(rows <= capacity);
  count = rows;
  if ((width + kTileOutputs - 1) / kTileOutputs % 2 == 0) return;
  for (int32_t begin = 0; begin < count; begin += kBlock) {
    const int64_t tile = std::min(kBlock, count - begin) * row_bytes();
    memset(block(begin) + (tiles - 1) * tile, 0, size_t(tile));
  }
}

void PackedOperand::unpack(int32_t row, float* x) const {
  const int32_t begin = row / kBlock * kBlock;
  const int64_t block_rows = std::min(kBlock, count - begin);
  const int32_t per_tile = k_per_tile(type);
  for (int32_t k = 0; k < width; k++) {
    const std::byte* from = block(begin) + (k / per_tile * block_rows + row - begin) * row_bytes() +
                            k % per_tile * bytes_of(kernels.activation);
    if (kernels.activation == Activation::f32) {
      memcpy(&x[k], from, 4);
    } else if (kernels.activation == Activation::bf16) {
      uint16_t bits;
      memcpy(&bits, from, 2);
      x[k] = bf16_to_float(bits);
    } else {
      x[k] = float(int8_t(*from)) * scales[size_t(row)];
    }
  }
}

void multiply(ThreadPool& pool, const PackedOperand& x, const PackedMatrix& w, float* out, int64_t out_stride,
              const float* bias, bool add, std::byte* sums, PackedOperand* packed) {
  assert(x.type == w.type && x.width == w.inputs);
  if (x.count == 0) return;
  constexpr int32_t kPair = 2 * kBlock;
  // Where rows weigh more than weights each thread has its own groups of them, as it has its own rows in other loops,
  // and a group stays in the cache while all panels pass by. Else each thread has its own panels: a weight is then read
  // from memory once, not once per thread. 80 tokens of a 135M and a 0.5B model took 0.86 and 0.78 of the time so, a
  // 6M model that fits the cache was indifferent (half or all of the outputs as the limit too; 2-core Xeon, 2026-11).
  const bool many = x.count > kPair * pool.size() && x.count > w.outputs / 2;
  const int64_t row_bytes = x.row_bytes() * x.tiles;
  int32_t fitting = std::max(kPair, int32_t(kGroupBytes / row_bytes) / kPair * kPair);
  const bool cut = x.kernels.cuts_k && fitting < kFewFitting;
  if (cut) fitting = kCutRows;
  const int32_t each = many ? (x.count + pool.size() - 1) / pool.size() : x.count;  // rows of a thread
  const int32_t parts = (each + fitting - 1) / fitting;
  const int32_t group_rows = ((each + parts - 1) / parts + kPair - 1) / kPair * kPair;
  const int32_t groups = (x.count + group_rows - 1) / group_rows;
  int32_t together = std::max(1, int32_t(kStreamBytes / int64_t(w.panel_bytes())));
  if (many && !x.kernels.cuts_k) together = 1;
  if (cut && group_rows * row_bytes > kGroupBytes) {
    const int32_t each_panels = (w.panels() + pool.size() - 1) / pool.size();
    together = std::min(each_panels, int32_t(kSumsBytes / (int64_t(group_rows) * kPanel * 4)));
  }
  const int32_t chunks = (w.panels() + together - 1) / together;
  const bool exact = x.type == WeightType::int8;
  const auto product = w.gated ? x.kernels.gated : x.kernels.product;
  pool.run(groups * chunks, [&](int32_t index, int32_t thread) {
    const int32_t row = index / chunks * group_rows;
    const int32_t begin = index % chunks * together;
    const int32_t end = std::min(w.panels(), begin + together);
    const int32_t o = begin * w.panel_columns();
    product({
        .x = x.block(row),
        .rows = std::min(group_rows, x.count - row),
        .x_scales = exact ? &x.scales[size_t(row)] : nullptr,
        .w = w.panel(begin),
        .panels = end - begin,
        .w_scales = exact ? &w.scales[size_t(begin) * kPanel] : nullptr,
        .w_sums = exact ? &w.sums[size_t(begin) * kPanel] : nullptr,
        .tiles = w.tiles,
        .out = packed ? nullptr : out + row * out_stride + o,
        .out_stride = out_stride,
        .columns = std::min((end - begin) * w.panel_columns(), w.columns() - o),
        .bias = bias ? bias + o : nullptr,
        .add = add,
        .packed = packed ? packed->block(row) : nullptr,
        .packed_tiles = packed ? packed->tiles : 0,
        .packed_column = o,
        .sums = sums + thread * kSumsBytes,
    });
  });
}

}  // namespace baton::cpu
