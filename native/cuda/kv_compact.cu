// KV compact: slots to .. to + count of every move become what from .. from + count hold, in all layers, keys and
// values; in one cache, or from one to another, of which one may lie in pinned host memory
//
// Grid:   blocks per plane x planes; a plane is one head's keys, or values, in one layer. The pieces of all moves of a
//         plane, one after another, are dealt out to its blocks in turn, so that moves of any lengths keep all busy.
// Reads:  the moved slots once; four loads of 16 bytes per thread are on their way before the first store.
// Bound:  memory; 2 bytes moved per byte copied. 2,048 threads x 64 bytes in flight = 128 KiB per multiprocessor,
//         several times what memory's latency needs (3.35 TB/s x 1 us / 132 = 25 KiB). To and from the host: the link,
//         which is full with far less on its way.

#include <algorithm>
#include <cassert>

#include "cuda/kernels.h"
#include "cuda/vector.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 4;
constexpr int kPiece = kThreads * kLoads;  // units of 16 bytes
// Enough for eight rounds of a large GPU's 1,056 blocks at a time, so that the last round's idle part is small.
constexpr int kBlocks = 8192;
constexpr int kMostGridY = 65535;

// Of the first `heads` planes the keys, then the values.
__device__ inline uint4* plane_of(const KvView& kv, int plane, int heads, int slot_units) {
  const int64_t plane_units = kv.slots * slot_units;
  return plane < heads ? static_cast<uint4*>(kv.keys) + plane * plane_units
                       : static_cast<uint4*>(kv.values) + (plane - heads) * plane_units;
}

__global__ void __launch_bounds__(kThreads, 8)
    kv_compact_kernel(KvView to_kv, KvView from_kv, const Move* __restrict__ moves, int count, int slot_units) {
  const int heads = to_kv.layers * to_kv.kv_heads;
  for (int plane = int(blockIdx.y); plane < 2 * heads; plane += int(gridDim.y)) {
    uint4* to_plane = plane_of(to_kv, plane, heads, slot_units);
    const uint4* from_plane = plane_of(from_kv, plane, heads, slot_units);
    int64_t piece = blockIdx.x;  // of this move; beyond its last one, of those that follow
    for (int i = 0; i < count; i++) {
      const Move move = moves[i];
      const int64_t size = int64_t(move.count) * slot_units;
      const uint4* from = from_plane + int64_t(move.from) * slot_units;
      uint4* to = to_plane + int64_t(move.to) * slot_units;
      const int64_t pieces = (size + kPiece - 1) / kPiece;
      for (; piece < pieces; piece += gridDim.x) {
        const int64_t first = piece * kPiece + threadIdx.x;
        uint4 values[kLoads];
#pragma unroll
        for (int j = 0; j < kLoads; j++) {
          if (first + j * kThreads < size) values[j] = from[first + j * kThreads];
        }
#pragma unroll
        for (int j = 0; j < kLoads; j++) {
          if (first + j * kThreads < size) to[first + j * kThreads] = values[j];
        }
      }
      piece -= pieces;
    }
  }
}

}  // namespace

void launch_kv_compact(KvView to, KvView from, const Move* moves, int32_t count, int32_t longest, cudaStream_t stream) {
  const int planes = 2 * to.layers * to.kv_heads;
  if (count == 0 || longest == 0 || planes == 0) return;
  assert(aligned16(to.keys) && aligned16(to.values) && aligned16(from.keys) && aligned16(from.values));
  assert(to.layers == from.layers && to.kv_heads == from.kv_heads && to.width == from.width && to.type == from.type);
  const int slot_units = to.width * (to.type == KvType::f32 ? 4 : 2) / 16;
  const int64_t most_pieces = (int64_t(longest) * slot_units + kPiece - 1) / kPiece * count;
  const int64_t blocks = std::min<int64_t>(most_pieces, (kBlocks + planes - 1) / planes);
  const dim3 grid(unsigned(blocks), unsigned(std::min(planes, kMostGridY)));
  CUDA_CHECK(launch(kv_compact_kernel, grid, kThreads, 0, stream, to, from, moves, count, slot_units));
}

}  // namespace baton::cuda
