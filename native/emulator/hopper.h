#pragma once

#include <cstdint>

#include "emulator/fault.h"

struct CUtensorMap;

// What native/cuda/hopper.cuh wraps in inline assembly on a device of compute capability 9.0. Part of <cuda_runtime.h>.
namespace baton::emulator {

// A barrier in shared memory: a phase ends when all its arrivals and bytes have come, and the next begins.
void barrier_init(uint64_t* barrier, uint32_t arrivals, const Where& where = Where::current());
void barrier_init_fence();
// Shows this thread's writes to shared memory to the copy engine and the tensor cores, which else see what was there.
void tiles_fence();
void barrier_expect(uint64_t* barrier, uint32_t bytes, const Where& where = Where::current());  // arrives, too
void barrier_arrive(uint64_t* barrier, const Where& where = Where::current());
void barrier_wait(uint64_t* barrier, uint32_t parity, const Where& where = Where::current());

// Copies the map's box at (row, column) to shared memory, swizzled, with zeros where the box leaves the tensor, and
// tells the barrier the bytes of the whole box. Deferred: when a barrier_wait lacks them.
void load_tile(void* to, const CUtensorMap* map, uint64_t* barrier, int32_t column, int32_t row,
               const Where& where = Where::current());
inline void prefetch_tile_map(const CUtensorMap*) {}

// Products of a warpgroup: four warps, the first a multiple of four. a and b: descriptors of tiles with 128-byte
// swizzle, K-major but for the b of an a in registers, which must stay as they are until the wait. Deferred: products
// read shared memory, and accumulators are other than NaN, when products_wait covers them.
void products_fence(const Where& where = Where::current());
void products_commit(const Where& where = Where::current());
void products_wait_for(int pending, const Where& where);
template <int kPending>
void products_wait(const Where& where = Where::current()) {
  products_wait_for(kPending, where);
}

enum class ProductType { bf16, int8 };
// a_registers: of this lane, or null.
void multiply_group(ProductType type, void* d, int values, const uint32_t* a_registers, uint64_t a, uint64_t b,
                    bool accumulate, const Where& where);

// d[64, N] (+)= a[64, 16] b[N, 16]^T, N twice the length of d, a multiple of 8 up to 256.
template <int kValues>
void multiply_group_bf16(float (&d)[kValues], uint64_t a, uint64_t b, bool accumulate = true,
                         const Where& where = Where::current()) {
  static_assert(kValues % 4 == 0 && kValues <= 128);
  multiply_group(ProductType::bf16, d, kValues, nullptr, a, b, accumulate, where);
}
// d[64, N] (+)= a[64, 16] b[16, N]: a in registers, b N-major.
template <int kValues>
void multiply_group_bf16(float (&d)[kValues], const uint32_t (&a)[4], uint64_t b, bool accumulate = true,
                         const Where& where = Where::current()) {
  static_assert(kValues % 4 == 0 && kValues <= 128);
  multiply_group(ProductType::bf16, d, kValues, a, 0, b, accumulate, where);
}
// d[64, N] (+)= a[64, 32] b[N, 32]^T of signed bytes, N as an instruction takes it: 8, 24, or a multiple of 16.
template <int kValues>
void multiply_group_int8(int32_t (&d)[kValues], uint64_t a, uint64_t b, bool accumulate = true,
                         const Where& where = Where::current()) {
  static_assert(kValues == 4 || kValues == 12 || (kValues % 8 == 0 && kValues <= 128));
  multiply_group(ProductType::int8, d, kValues, nullptr, a, b, accumulate, where);
}

// Moves registers between warpgroups (setmaxnreg); there are enough here.
template <int kRegisters>
void registers_release() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void registers_claim() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

}  // namespace baton::emulator
