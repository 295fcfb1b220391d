#pragma once

#include <cuda.h>

#include "cuda/mma.cuh"

// One instruction each, of compute capability 9.0 only (compiled for 90a): tile copies by the copy engine, the barriers
// they report to, and matrix products of a warpgroup. On the processor the emulator's functions of the same names stand
// in for them.
//
// A tile is 64 rows, or a multiple, of 128 bytes in shared memory, at a multiple of 1,024 bytes. Byte b of row r lies
// at 128 r + (b ^ 16 (r % 8)), so that eight rows' 16 bytes of one column are in different banks: the copy engine
// writes and the products read tiles in this order.
namespace baton::cuda {

constexpr int kWarpgroup = 128;  // threads: four warps, the first a multiple of four
constexpr int kTileRows = 64;
constexpr int kTileRowBytes = 128;
constexpr int kTileBytes = kTileRows * kTileRowBytes;
constexpr int kProductBytes = 32;  // of a row in one product: 16 bf16 or 32 int8

#if defined(__CUDACC__)

// A barrier in shared memory: a phase ends when `arrivals` threads have arrived and all bytes expected in it are there;
// then the next begins. By one thread, before a fence and a __syncthreads.
__device__ inline void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Shows this thread's new barriers to the copy engine.
__device__ inline void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// Arrives; the phase now also waits for so many bytes more.
__device__ inline void barrier_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
__device__ inline void barrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Waits for the end of the phase of this parity: phases alternate, the first is 0. Parity 1 passes at once before the
// first has ended. Each thread that reads what arrived must wait.
__device__ inline void barrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred ended;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
      "@!ended bra again;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// Copies the map's box, whose first byte is (row, column), to a tile; zeros where it leaves the matrix, without reading
// there. The box's bytes, zeros included, arrive at the barrier. By one thread.
__device__ inline void load_tile(void* to, const CUtensorMap* map, uint64_t* barrier, int32_t column, int32_t row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row)
      : "memory");
}

// Shows this thread's own writes to shared memory to the copy engine and the products, once a barrier has ordered them.
__device__ inline void tiles_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Orders this thread's accesses to accumulators and first operands before the products that follow. All four below:
// whole warpgroups.
__device__ inline void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products.
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most kPending groups are not complete: of the others this warp's part has read its tiles.
template <int kPending>
__device__ inline void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d[64, 64] += a[64, 16] b[64, 16]^T, or without `accumulate` = it; behind the threads' backs until a wait. Both are
// tiles, as product_tile gives them. With row = 16 (warp % 4) + lane / 4 and column = 2 (lane % 4), a lane holds in
// d[4 j + 2 h + c] the value (row + 8 h, column + 8 j + c).
__device__ inline void multiply_group_bf16(float (&d)[32], uint64_t a, uint64_t b, bool accumulate = true) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, accumulate, 1, 1, 0, 0;\n"
      "}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b), "r"(int(accumulate)));
}
// d[64, 64] += a[64, 16] b[16, 64]: a in registers, which must stay as they are until the wait, b the first 16 rows of
// a tile. Of a a lane holds (row, column ..), (row + 8, column ..), (row, column + 8 ..), (row + 8, column + 8 ..), two
// values each.
__device__ inline void multiply_group_bf16(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, accumulate, 1, 1, 1;\n"
      "}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
// d[64, 64] += a[64, 32] b[64, 32]^T of signed bytes, exact.
__device__ inline void multiply_group_int8(int32_t (&d)[32], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, accumulate;\n"
      "}"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]), "+r"(d[8]),
        "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]), "+r"(d[16]),
        "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]),
        "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31])
      : "l"(a), "l"(b));
}

// Take registers from the threads of a warpgroup, and give them to those of another, which waits until there are
// enough. Whole warpgroups; multiples of 8, from a kernel whose launch bounds say how many blocks a multiprocessor has.
template <int kRegisters>
__device__ inline void registers_release() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void registers_claim() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// No instruction: keeps the compiler from moving accesses to accumulators across it. After their first values, before a
// fence; and after a wait, before their use. Of a first operand: keeps its registers from other use until here.
__device__ inline void products_settle(float (&d)[32]) {
#pragma unroll
  for (float& value : d) asm volatile("" : "+f"(value)::"memory");
}
__device__ inline void products_settle(int32_t (&d)[32]) {
#pragma unroll
  for (int32_t& value : d) asm volatile("" : "+r"(value)::"memory");
}
__device__ inline void products_settle(uint32_t (&a)[4]) {
#pragma unroll
  for (uint32_t& value : a) asm volatile("" : "+r"(value)::"memory");
}

#else

using emulator::barrier_arrive;
using emulator::barrier_expect;
using emulator::barrier_init;
using emulator::barrier_init_fence;
using emulator::barrier_wait;
using emulator::load_tile;
using emulator::multiply_group_bf16;
using emulator::multiply_group_int8;
using emulator::products_commit;
using emulator::products_fence;
using emulator::products_wait;
using emulator::registers_claim;
using emulator::registers_release;
using emulator::tiles_fence;

template <typename Value, int kValues>
void products_settle(Value (&)[kValues]) {}

#endif

// Where in a ring of stages a producer or consumer is. `parity` tells one round from the next.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The first kProductBytes of a tile's first 64 rows, as products take them. 8 rows, 1,024 bytes, are its stride.
__device__ inline uint64_t product_tile(const void* tile) {
  const uint64_t address = shared_address(tile) >> 4;
  return address | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
// The same of the bytes from `column` of the rows from `row`, a multiple of 8.
__device__ inline uint64_t product_tile(uint64_t tile, int row, int column) {
  return tile + uint64_t(row * kTileRowBytes + column) / 16;
}

}  // namespace baton::cuda
