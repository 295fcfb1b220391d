#pragma once

// CUDA's language for a C++ compiler: keywords, indices and vector types. Part of <cuda_runtime.h>.

#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

// A static array of a kernel's is one array for all blocks here: the call makes a block follow its predecessors, so
// that the race check does not take them for concurrent. Unlike dynamic shared memory it is not filled with NaN.
#define __shared__                          \
  ::baton::emulator::enter_static_shared(); \
  static

namespace baton::emulator {
void enter_static_shared();
}

// name1 to name4 with their make_ functions, aligned as CUDA aligns them.
#define BATON_VECTOR_TYPES(Type, name)                                           \
  struct name##1 {                                                               \
    Type x;                                                                      \
  };                                                                             \
  struct alignas(2 * sizeof(Type)) name##2 {                                     \
    Type x, y;                                                                   \
  };                                                                             \
  struct name##3 {                                                               \
    Type x, y, z;                                                                \
  };                                                                             \
  struct alignas(4 * sizeof(Type) < 16 ? 4 * sizeof(Type) : 16) name##4 {        \
    Type x, y, z, w;                                                             \
  };                                                                             \
  constexpr name##1 make_##name##1(Type x) { return {x}; }                       \
  constexpr name##2 make_##name##2(Type x, Type y) { return {x, y}; }            \
  constexpr name##3 make_##name##3(Type x, Type y, Type z) { return {x, y, z}; } \
  constexpr name##4 make_##name##4(Type x, Type y, Type z, Type w) { return {x, y, z, w}; }

BATON_VECTOR_TYPES(signed char, char)
BATON_VECTOR_TYPES(unsigned char, uchar)
BATON_VECTOR_TYPES(short, short)
BATON_VECTOR_TYPES(unsigned short, ushort)
BATON_VECTOR_TYPES(int, int)
BATON_VECTOR_TYPES(long long, longlong)
BATON_VECTOR_TYPES(unsigned long long, ulonglong)
BATON_VECTOR_TYPES(float, float)
BATON_VECTOR_TYPES(double, double)
BATON_VECTOR_TYPES(unsigned, uint)
#undef BATON_VECTOR_TYPES

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;
