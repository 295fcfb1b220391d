#include <cuda_bf16.h>

#include <cstring>

#include "cuda/hopper.cuh"
#include "emulator/bugs.h"

// A ring of tiles between the copy engine and the tensor cores, whole and with one thing missing.
namespace baton::emulator {

namespace {

using cuda::bf16;

enum class Fault {
  none,
  expect_missing,         // the phase does not wait for the tiles
  load_wait_missing,      // tiles are used at once
  release_early,          // a stage is given back before the products that read it are complete
  products_wait_missing,  // accumulators are read at once
  products_fence_missing,
  products_commit_missing,
  init_fence_missing,
  init_barrier_missing,  // others use barriers that are not initialised yet
  barrier_overwritten,
  tile_unaligned,
  load_overflow,  // the last tile reaches behind shared memory
};

constexpr int kRows = 64;     // of both matrices
constexpr int kColumns = 64;  // of a tile, 128 bytes
constexpr int kSteps = 5;
constexpr int kStages = 2;
constexpr int kTileBytes = kRows * kColumns * int(sizeof(bf16));
constexpr int kStageBytes = 2 * kTileBytes;
constexpr size_t kSharedBytes = kStages * kStageBytes + 2 * kStages * sizeof(uint64_t);

// out[64, 64] = a[64, width] b[64, width]^T: one warpgroup brings tiles, the other multiplies.
template <Fault kFault>
__global__ void __launch_bounds__(2 * cuda::kWarpgroup)
    ring_kernel(float* out, const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b) {
  unsigned char* shared = cuda::shared_memory();
  uint64_t* full = reinterpret_cast<uint64_t*>(shared + kStages * kStageBytes);
  uint64_t* empty = full + kStages;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; i++) {
      cuda::barrier_init(full + i, 1);
      cuda::barrier_init(empty + i, cuda::kWarpgroup);
    }
    if (kFault != Fault::init_fence_missing) cuda::barrier_init_fence();
    if (kFault == Fault::barrier_overwritten) full[1] = 0;
  }
  if (kFault != Fault::init_barrier_missing) __syncthreads();

  if (threadIdx.x < cuda::kWarpgroup) {
    if (threadIdx.x > 0) return;
    for (int step = 0; step < kSteps; step++) {
      const int stage = step % kStages;
      unsigned char* tiles = shared + stage * kStageBytes;
      if (step >= kStages) cuda::barrier_wait(empty + stage, (step / kStages - 1) % 2);
      if (kFault == Fault::expect_missing) {
        cuda::barrier_arrive(full + stage);
      } else {
        cuda::barrier_expect(full + stage, kStageBytes);
      }
      cuda::load_tile(tiles, &a, full + stage, step * kColumns, 0);
      const int shift = kFault == Fault::load_overflow && stage == kStages - 1 ? 1024 : 0;
      cuda::load_tile(tiles + kTileBytes + shift, &b, full + stage, step * kColumns, 0);
    }
    return;
  }

  float sums[32] = {};
  for (int step = 0; step < kSteps; step++) {
    const int stage = step % kStages;
    unsigned char* tiles = shared + stage * kStageBytes;
    if (kFault != Fault::load_wait_missing) cuda::barrier_wait(full + stage, step / kStages % 2);
    if (kFault != Fault::products_fence_missing) cuda::products_fence();
    const uint64_t a_tile = cuda::product_tile(tiles + (kFault == Fault::tile_unaligned ? 256 : 0));
    const uint64_t b_tile = cuda::product_tile(tiles + kTileBytes);
    for (int column = 0; column < 128; column += cuda::kProductBytes) {
      cuda::multiply_group_bf16(sums, cuda::product_tile(a_tile, 0, column), cuda::product_tile(b_tile, 0, column));
    }
    if (kFault != Fault::products_commit_missing) cuda::products_commit();
    if (kFault == Fault::release_early) cuda::barrier_arrive(empty + stage);
    if (kFault != Fault::products_wait_missing || step < kSteps - 1) cuda::products_wait<0>();
    if (kFault != Fault::release_early) cuda::barrier_arrive(empty + stage);
  }
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32 % 4;
  for (int i = 0; i < 32; i++) {
    const int row = 16 * warp + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + 2 * (lane % 4) + i % 2;
    out[row * kRows + column] = sums[i];
  }
  if (kFault == Fault::products_wait_missing) cuda::products_wait<0>();
}

// What may be missing where threads write a tile themselves, and a first operand is in registers.
enum class WrittenFault {
  none,
  tile_fence_missing,      // the products see shared memory as it was before the writes
  written_early,           // nor may they be asked for before all have written
  products_fence_missing,  // of weights, though the accumulators were not touched
  first_operand_changed,   // while the products that read it are in flight
};

// out[64, 64] = a[64, 64] b[64, 64] by one warpgroup that writes b, in rows of 64, to a tile.
template <WrittenFault kFault>
__global__ void __launch_bounds__(cuda::kWarpgroup) written_kernel(float* out, const bf16* a, const bf16* b) {
  unsigned char* tile = cuda::shared_memory();
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  for (int i = int(threadIdx.x); i < kRows * kColumns; i += cuda::kWarpgroup) {
    const int row = i / kColumns, byte = i % kColumns * int(sizeof(bf16));
    *reinterpret_cast<bf16*>(tile + row * 128 + (byte ^ 16 * (row % 8))) = b[i];
  }
  if (kFault != WrittenFault::tile_fence_missing) cuda::tiles_fence();
  if (kFault != WrittenFault::written_early) __syncthreads();

  float sums[32] = {};
  uint32_t first[kColumns / 16][4];
  cuda::products_fence();
  if (kFault == WrittenFault::products_fence_missing) {
    cuda::multiply_group_bf16(sums, cuda::product_tile(tile), cuda::product_tile(tile), false);
    cuda::products_commit();
    cuda::products_wait<0>();
  }
  for (int k = 0; k < kColumns / 16; k++) {
    for (int i = 0; i < 4; i++) {
      // Words 0 and 1: columns 2 (lane % 4) and the next of rows lane / 4 and eight further on; 2 and 3: eight columns
      // on.
      const int row = 16 * warp + lane / 4 + i % 2 * 8, column = 16 * k + i / 2 * 8 + 2 * (lane % 4);
      std::memcpy(&first[k][i], a + row * kColumns + column, 4);
    }
    cuda::multiply_group_bf16(sums, first[k], cuda::product_tile(cuda::product_tile(tile), 16 * k, 0));
  }
  cuda::products_commit();
  if (kFault == WrittenFault::first_operand_changed) first[3][0] ^= 1;
  cuda::products_wait<0>();
  for (int i = 0; i < 32; i++) {
    const int row = 16 * warp + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + 2 * (lane % 4) + i % 2;
    out[row * kRows + column] = sums[i];
  }
}

float value(size_t row, size_t column) { return float((3 * row + 5 * column) % 7) - 3; }

// Of a matrix [rows, width] that has `width` columns; the map says what it likes.
bool make_map(CUtensorMap* map, const bf16* values, int rows, int width) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  const cuuint64_t dimensions[2] = {cuuint64_t(width), cuuint64_t(rows)};
  const cuuint64_t strides[1] = {cuuint64_t(width) * sizeof(bf16)};
  const cuuint32_t box[2] = {kColumns, kRows}, element_strides[2] = {1, 1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(values), dimensions, strides, box,
                element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

std::vector<bf16> matrix(int rows, int width) {
  std::vector<bf16> values(size_t(rows) * size_t(width));
  for (size_t i = 0; i < values.size(); i++) values[i] = value(i / size_t(width), i % size_t(width));
  return values;
}

// a and b have `rows` and `width`, which need not fill the tiles; the maps claim `claimed` rows.
template <Fault kFault>
bool multiplies(int rows, int width, int claimed) {
  const DeviceValues<bf16> a(matrix(rows, width)), b(matrix(rows, width));
  const DeviceValues<float> out(kRows * kRows);
  CUtensorMap a_map, b_map;
  if (!make_map(&a_map, a.data(), claimed, width) || !make_map(&b_map, b.data(), claimed, width)) return false;
  return start(ring_kernel<kFault>, 1, 2 * cuda::kWarpgroup, kSharedBytes, out.data(), a_map, b_map) &&
         equal(out.read(), [rows, width](size_t i) {
           float sum = 0;
           const size_t row = i / kRows, column = i % kRows;
           for (size_t k = 0; k < size_t(width) && int(row) < rows && int(column) < rows; k++) {
             sum += value(row, k) * value(column, k);
           }
           return sum;
         });
}

template <Fault kFault>
bool ring() {
  return multiplies<kFault>(kRows, kSteps * kColumns, kRows);
}

// The second matrix is another than the first, and not its own transpose.
template <WrittenFault kFault>
bool written() {
  const auto other = [](size_t row, size_t column) { return float((2 * row + 3 * column) % 5) - 1; };
  std::vector<bf16> second(size_t(kRows) * kColumns);
  for (size_t i = 0; i < second.size(); i++) second[i] = other(i / kColumns, i % kColumns);
  const DeviceValues<bf16> a(matrix(kRows, kColumns)), b(second);
  const DeviceValues<float> out(kRows * kRows);
  return start(written_kernel<kFault>, 1, cuda::kWarpgroup, kTileBytes, out.data(), a.data(), b.data()) &&
         equal(out.read(), [&](size_t i) {
           float sum = 0;
           for (size_t k = 0; k < kColumns; k++) sum += value(i / kRows, k) * other(k, i % kRows);
           return sum;
         });
}

// Rows and columns beyond the matrix are zeros.
bool ring_of_odd_matrix() { return multiplies<Fault::none>(50, kSteps * kColumns - 24, 50); }

bool load_beyond_allocation() { return multiplies<Fault::none>(50, kSteps * kColumns, kRows); }

bool map_unaligned() {
  const DeviceValues<bf16> values(matrix(kRows, kColumns + 1));
  CUtensorMap map;
  return make_map(&map, values.data(), kRows, kColumns + 1);
}

bool older_device() {
  Options older = options();
  older.major = 8;
  configure(older);
  return ring<Fault::none>();
}

}  // namespace

std::vector<Bug> hopper_bugs() {
  return {
      {"ring", "tiles come, products use them", kNowhere, ring<Fault::none>},
      {"ring_of_odd_matrix", "tiles that leave their matrix", kNowhere, ring_of_odd_matrix},
      {"expect_missing", "a phase that does not wait for its tiles", kEverywhere, ring<Fault::expect_missing>},
      {"load_wait_missing", "tiles used at once", kEverywhere, ring<Fault::load_wait_missing>},
      {"load_overflow", "a tile that reaches behind shared memory", kEverywhere, ring<Fault::load_overflow>},
      {"load_beyond_allocation", "a map with more rows than are allocated", kEverywhere, load_beyond_allocation},
      {"map_unaligned", "a matrix whose rows are not multiples of 16 bytes", kEverywhere, map_unaligned},
      {"tile_unaligned", "products of a tile in the midst of a swizzle", kEverywhere, ring<Fault::tile_unaligned>},
      {"release_early", "a stage given back before its products are complete", kEverywhere, ring<Fault::release_early>},
      {"products_wait_missing", "accumulators read at once", kEverywhere, ring<Fault::products_wait_missing>},
      {"products_fence_missing", "accumulators written without a fence", kEverywhere,
       ring<Fault::products_fence_missing>},
      {"products_commit_missing", "products in no group", kEverywhere, ring<Fault::products_commit_missing>},
      {"init_fence_missing", "barriers unknown to the copy engine", kEverywhere, ring<Fault::init_fence_missing>},
      {"init_barrier_missing", "barriers used before they are initialised", kEverywhere,
       ring<Fault::init_barrier_missing>},
      {"barrier_overwritten", "a barrier written over", kEverywhere, ring<Fault::barrier_overwritten>},
      {"written", "a tile written by threads, a first operand in registers", kNowhere, written<WrittenFault::none>},
      {"tile_fence_missing", "a tile that the products do not see", kEverywhere,
       written<WrittenFault::tile_fence_missing>},
      {"written_early", "products asked for before all have written", kThread, written<WrittenFault::written_early>},
      {"first_operand_unfenced", "a first operand written without a fence", kEverywhere,
       written<WrittenFault::products_fence_missing>},
      {"first_operand_changed", "a first operand written over in flight", kEverywhere,
       written<WrittenFault::first_operand_changed>},
      {"older_device", "tiles and products of 9.0 on a device of 8.0", kEverywhere, older_device},
  };
}

}  // namespace baton::emulator
