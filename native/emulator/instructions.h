#pragma once

#include <cstdint>

#include "emulator/fault.h"

// What native/cuda/mma.cuh wraps in inline assembly on a device; it says what each does. Part of <cuda_runtime.h>.
namespace baton::emulator {

// The block's dynamic shared memory: NaN wherever nobody wrote, nothing left of the block before.
unsigned char* shared_memory();
uint32_t shared_address(const void* pointer, const Where& where = Where::current());

void copy_async(void* to, const void* from, bool valid = true, const Where& where = Where::current());
void copy_async_commit();
void copy_async_wait_for(int pending);
template <int kPending>
void copy_async_wait() {
  copy_async_wait_for(kPending);
}

void load_matrix(uint32_t (&r)[4], const void* row, const Where& where = Where::current());
void load_matrix_transposed(uint32_t (&r)[4], const void* row, const Where& where = Where::current());
void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                   const Where& where = Where::current());
void multiply_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                   const Where& where = Where::current());
float exp2_approximate(float x);

}  // namespace baton::emulator
