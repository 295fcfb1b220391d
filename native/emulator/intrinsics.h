#pragma once

// CUDA's arithmetic and bit intrinsics, its cache hints and atomics. Part of <cuda_runtime.h>. Approximate ones are
// exact here: tests compare with tolerances that cover a device's.

#include <math.h>  // CUDA has these names without std::

#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

// Arithmetic. libc declares some of these names for itself, hence macros.

namespace baton::emulator {
inline float rsqrt_of(float x) { return 1.0f / sqrtf(x); }
inline float pow_of(float x, float y) { return powf(x, y); }
}  // namespace baton::emulator

#define rsqrtf(x) ::baton::emulator::rsqrt_of(x)
#define __expf(x) expf(x)
#define __exp10f(x) ::baton::emulator::pow_of(10.0f, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __powf(x, y) ::baton::emulator::pow_of(x, y)

inline void sincospif(float x, float* sine, float* cosine) {
  *sine = float(sin(double(x) * 3.14159265358979323846));
  *cosine = float(cos(double(x) * 3.14159265358979323846));
}
inline float __fdividef(float x, float y) { return x / y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return float(1.0 / sqrt(double(x))); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }

template <std::integral A, std::integral B>
requires(sizeof(A) == sizeof(B)) constexpr std::common_type_t<A, B> min(A a, B b) {
  using Common = std::common_type_t<A, B>;
  return Common(b) < Common(a) ? Common(b) : Common(a);
}
template <std::integral A, std::integral B>
requires(sizeof(A) == sizeof(B)) constexpr std::common_type_t<A, B> max(A a, B b) {
  using Common = std::common_type_t<A, B>;
  return Common(a) < Common(b) ? Common(b) : Common(a);
}
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }

// Conversions: out of range they saturate, and NaN is 0, as on the device.

namespace baton::emulator {
template <typename Integer, typename Float>
Integer saturate(Float x) {
  using Limits = std::numeric_limits<Integer>;
  if (x != x) return 0;
  // One more than the largest is a power of two, exact where the largest is not.
  if (x >= Float(2) * Float(Limits::max() / 2 + 1)) return Limits::max();
  if (x <= Float(Limits::min())) return Limits::min();
  return Integer(x);
}
}  // namespace baton::emulator

inline int __float2int_rn(float x) { return baton::emulator::saturate<int>(rintf(x)); }
inline int __float2int_rz(float x) { return baton::emulator::saturate<int>(truncf(x)); }
inline int __float2int_rd(float x) { return baton::emulator::saturate<int>(floorf(x)); }
inline int __float2int_ru(float x) { return baton::emulator::saturate<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return baton::emulator::saturate<unsigned>(rintf(x)); }
inline unsigned __float2uint_rz(float x) { return baton::emulator::saturate<unsigned>(truncf(x)); }
inline long long __float2ll_rn(float x) { return baton::emulator::saturate<long long>(rintf(x)); }
inline int __double2int_rn(double x) { return baton::emulator::saturate<int>(rint(x)); }
inline long long __double2ll_rn(double x) { return baton::emulator::saturate<long long>(rint(x)); }
inline float __double2float_rn(double x) { return float(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }
inline double __int2double_rn(int x) { return x; }
inline double __ll2double_rn(long long x) { return double(x); }

inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

// Bits.

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}
inline int __mulhi(int x, int y) { return int(int64_t(x) * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide(x) * y >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned select = selector >> 4 * i & 15;
    unsigned byte = unsigned(bytes >> 8 * (select & 7)) & 0xff;
    if (select & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << 8 * i;
  }
  return result;
}
inline int __dp4a(int x, int y, int sum) {
  for (int i = 0; i < 4; i++) sum += int(int8_t(unsigned(x) >> 8 * i)) * int(int8_t(unsigned(y) >> 8 * i));
  return sum;
}
inline unsigned __dp4a(unsigned x, unsigned y, unsigned sum) {
  for (int i = 0; i < 4; i++) sum += (x >> 8 * i & 0xff) * (y >> 8 * i & 0xff);
  return sum;
}

// Loads and stores with cache hints.

template <typename T>
inline T __ldg(const T* from) {
  return *from;
}
template <typename T>
inline T __ldcs(const T* from) {
  return *from;
}
template <typename T>
inline T __ldca(const T* from) {
  return *from;
}
template <typename T>
inline T __ldcg(const T* from) {
  return *from;
}
template <typename T>
inline void __stcs(T* to, T value) {
  *to = value;
}
template <typename T>
inline void __stcg(T* to, T value) {
  *to = value;
}
template <typename T>
inline void __stwt(T* to, T value) {
  *to = value;
}

// Atomics: relaxed, as CUDA's. A __threadfence before one publishes what came before; one after it receives.

namespace baton::emulator {
void before_atomic(const void* address);
void after_atomic(const void* address);

template <typename T, typename Update>
T atomic_update(T* address, Update update) {
  before_atomic(address);
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  for (;;) {
    T desired = update(old);
    if (__atomic_compare_exchange(address, &old, &desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
  }
  after_atomic(address);
  return old;
}
}  // namespace baton::emulator

template <typename T>
concept AtomicInteger = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;
template <typename T>
concept AtomicNumber = AtomicInteger<T> || std::same_as<T, float> || std::same_as<T, double>;

template <AtomicNumber T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return T(old + value); });
}
template <AtomicInteger T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return T(old - value); });
}
template <AtomicNumber T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T) { return value; });
}
template <AtomicInteger T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return value < old ? value : old; });
}
template <AtomicInteger T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return old < value ? value : old; });
}
template <AtomicInteger T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return old & value; });
}
template <AtomicInteger T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return old | value; });
}
template <AtomicInteger T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [value](T old) { return old ^ value; });
}
template <AtomicInteger T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return baton::emulator::atomic_update(address, [compare, value](T old) { return old == compare ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned most) {
  return baton::emulator::atomic_update(address, [most](unsigned old) { return old >= most ? 0 : old + 1; });
}
inline unsigned atomicDec(unsigned* address, unsigned most) {
  return baton::emulator::atomic_update(address,
                                        [most](unsigned old) { return old == 0 || old > most ? most : old - 1; });
}

void __threadfence();
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }

inline void __nanosleep(unsigned) {}
long long clock64();  // counts switches: time passes where others run
[[noreturn]] void __trap();
