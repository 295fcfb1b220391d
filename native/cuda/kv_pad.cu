// KV pad: slots to .. to + count of every move become what from .. from + count held, in all layers, keys and values;
// the two may overlap by any distance
//
// Grid:   planes x moves; a plane is one head's keys, or values, in one layer. A block walks its move piece by piece,
//         from the front if the slots move down, from the back if they move up. What a piece's stores overwrite then
//         belongs to the piece itself or to one before it, which the barrier before the stores has seen read; never to
//         a later one, so the next piece is loaded before this one is stored.
// Reads:  the moved slots once; a thread has four to eight loads of 16 bytes on their way.
// Bound:  memory; 2 bytes moved per byte copied. A block has 32 to 64 KiB in flight, so one block per multiprocessor is
//         enough for memory's latency (3.35 TB/s x 1 us / 132 = 25 KiB); models with fewer planes than the device has
//         multiprocessors use as many of them as they have planes.

#include <algorithm>
#include <cassert>

#include "cuda/kernels.h"
#include "cuda/vector.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 512;
constexpr int kLoads = 4;
constexpr int kPiece = kThreads * kLoads;  // units of 16 bytes
constexpr int kMostGridY = 65535;

// A thread's part of one piece.
struct Piece {
  uint4 values[kLoads];

  __device__ void load(const uint4* from, int64_t first, int64_t size) {
#pragma unroll
    for (int j = 0; j < kLoads; j++) {
      const int64_t i = first + j * kThreads;
      if (i >= 0 && i < size) values[j] = from[i];
    }
  }

  __device__ void store(uint4* to, int64_t first, int64_t size) const {
#pragma unroll
    for (int j = 0; j < kLoads; j++) {
      const int64_t i = first + j * kThreads;
      if (i >= 0 && i < size) to[i] = values[j];
    }
  }
};

__global__ void __launch_bounds__(kThreads, 2)
    kv_pad_kernel(KvView kv, const Move* __restrict__ moves, int count, int slot_units) {
  const int heads = kv.layers * kv.kv_heads;
  const int plane = int(blockIdx.x);
  uint4* units = (plane < heads ? static_cast<uint4*>(kv.keys) : static_cast<uint4*>(kv.values)) +
                 (plane < heads ? plane : plane - heads) * kv.slots * slot_units;
  for (int i = int(blockIdx.y); i < count; i += int(gridDim.y)) {
    const Move move = moves[i];
    const int64_t size = int64_t(move.count) * slot_units;
    const uint4* from = units + int64_t(move.from) * slot_units;
    uint4* to = units + int64_t(move.to) * slot_units;
    const bool down = move.to < move.from;
    const int64_t step = down ? kPiece : -kPiece;
    int64_t first =
        (down ? 0 : size - kPiece) + threadIdx.x;  // from the back, the last piece may begin before the front
    Piece pieces[2];
    pieces[0].load(from, first, size);
    for (int64_t rest = size; rest > 0; rest -= 2 * kPiece) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        pieces[1 - j].load(from, first + step, size);
        __syncthreads();  // all have read piece j
        pieces[j].store(to, first, size);
        first += step;
      }
    }
  }
}

}  // namespace

void launch_kv_pad(KvView kv, const Move* moves, int32_t count, cudaStream_t stream) {
  const int planes = 2 * kv.layers * kv.kv_heads;
  if (count == 0 || planes == 0) return;
  assert(aligned16(kv.keys) && aligned16(kv.values));
  const int slot_units = kv.width * (kv.type == KvType::f32 ? 4 : 2) / 16;
  const dim3 grid(unsigned(planes), unsigned(std::min(count, kMostGridY)));
  CUDA_CHECK(launch(kv_pad_kernel, grid, kThreads, 0, stream, kv, moves, count, slot_units));
}

}  // namespace baton::cuda
