#pragma once

#include "cuda/device.cuh"

// One instruction each: asynchronous copies and matrix products of compute capability 8.0 and later. On the processor
// the emulator's functions of the same names stand in for them.
namespace baton::cuda {

#if defined(__CUDACC__)

// A shared-memory address as instructions take it.
__device__ inline uint32_t shared_address(const void* pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

// Copies 16 bytes from global to shared memory, behind this thread's back; zeros instead where not `valid`, and then
// `from` is not read. Both addresses are multiples of 16.
__device__ inline void copy_async(void* to, const void* from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
// Closes a group of this thread's copies.
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most kPending of this thread's groups are not complete. Other threads see them after a barrier.
template <int kPending>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// Four 8x8 tiles of 16-bit values. Lanes 8 i .. 8 i + 7 give the addresses of the rows of tile i (16 bytes each, in
// shared memory); each lane gets in r[i] the values (lane / 4, 2 (lane % 4)) and the next of tile i. Whole warps only.
__device__ inline void load_matrix(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same with each tile transposed.
__device__ inline void load_matrix_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d[16, 8] += a[16, 16] b[16, 8]. With group = lane / 4 and pair = 2 (lane % 4), a lane holds
//   d  (group, pair), (group, pair + 1), (group + 8, pair), (group + 8, pair + 1)
//   a  (group, pair ..), (group + 8, pair ..), (group, pair + 8 ..), (group + 8, pair + 8 ..), two values each
//   b  (pair .., group), (pair + 8 .., group), two values each
// Whole warps only.
__device__ inline void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d[16, 8] += a[16, 32] b[32, 8] of signed bytes, exact. As above with four values where that has two: pair becomes
// 4 (lane % 4), and 8 along k becomes 16.
__device__ inline void multiply_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 2^x to about 2 units in the last place; 0 for -infinity.
__device__ inline float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

using emulator::copy_async;
using emulator::copy_async_commit;
using emulator::copy_async_wait;
using emulator::exp2_approximate;
using emulator::load_matrix;
using emulator::load_matrix_transposed;
using emulator::multiply_bf16;
using emulator::multiply_int8;
using emulator::shared_address;

#endif

}  // namespace baton::cuda
