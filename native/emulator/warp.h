#pragma once

// Barriers, and what the lanes of a warp do together. Part of <cuda_runtime.h>.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulator/fault.h"

namespace baton::emulator {

enum class Shuffle { index, up, down, exclusive_or };
enum class Reduction { add, least, greatest, bits_and, bits_or, bits_xor };

uint64_t shuffle(uint32_t mask, uint64_t value, Shuffle kind, int argument, int width, const Where& where);
uint32_t ballot(uint32_t mask, bool predicate, const Where& where);
uint32_t match(uint32_t mask, uint64_t value, const Where& where);
int64_t reduce(uint32_t mask, int64_t value, Reduction kind, const Where& where);
uint32_t active_lanes();

template <typename T>
T shuffle_value(uint32_t mask, T value, Shuffle kind, int argument, int width, const Where& where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, kind, argument, width, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Barrier `id` (0 is __syncthreads) of so many threads, a multiple of 32; bar.sync and bar.arrive.
void named_barrier(int id, int threads, Where where = Where::current());
void named_barrier_arrive(int id, int threads, Where where = Where::current());

}  // namespace baton::emulator

#define BATON_WHERE ::baton::emulator::Where where = ::baton::emulator::Where::current()

void __syncthreads(BATON_WHERE);
int __syncthreads_or(int predicate, BATON_WHERE);
int __syncthreads_and(int predicate, BATON_WHERE);
int __syncthreads_count(int predicate, BATON_WHERE);
void __syncwarp(unsigned mask = 0xffffffff, BATON_WHERE);

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, BATON_WHERE) {
  return baton::emulator::shuffle_value(mask, value, baton::emulator::Shuffle::index, lane, width, where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, BATON_WHERE) {
  return baton::emulator::shuffle_value(mask, value, baton::emulator::Shuffle::up, int(distance), width, where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, BATON_WHERE) {
  return baton::emulator::shuffle_value(mask, value, baton::emulator::Shuffle::down, int(distance), width, where);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, BATON_WHERE) {
  return baton::emulator::shuffle_value(mask, value, baton::emulator::Shuffle::exclusive_or, lane_mask, width, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, BATON_WHERE) {
  return baton::emulator::ballot(mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate, BATON_WHERE) {
  return baton::emulator::ballot(mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, BATON_WHERE) {
  return baton::emulator::ballot(mask, predicate == 0, where) == 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, BATON_WHERE) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return baton::emulator::match(mask, bits, where);
}
inline unsigned __activemask() { return baton::emulator::active_lanes(); }

inline int __reduce_add_sync(unsigned mask, int value, BATON_WHERE) {
  return int(baton::emulator::reduce(mask, value, baton::emulator::Reduction::add, where));
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value, BATON_WHERE) {
  return unsigned(baton::emulator::reduce(mask, value, baton::emulator::Reduction::add, where));
}
inline int __reduce_min_sync(unsigned mask, int value, BATON_WHERE) {
  return int(baton::emulator::reduce(mask, value, baton::emulator::Reduction::least, where));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, BATON_WHERE) {
  return unsigned(baton::emulator::reduce(mask, value, baton::emulator::Reduction::least, where));
}
inline int __reduce_max_sync(unsigned mask, int value, BATON_WHERE) {
  return int(baton::emulator::reduce(mask, value, baton::emulator::Reduction::greatest, where));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, BATON_WHERE) {
  return unsigned(baton::emulator::reduce(mask, value, baton::emulator::Reduction::greatest, where));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, BATON_WHERE) {
  return unsigned(baton::emulator::reduce(mask, value, baton::emulator::Reduction::bits_and, where));
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, BATON_WHERE) {
  return unsigned(baton::emulator::reduce(mask, value, baton::emulator::Reduction::bits_or, where));
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, BATON_WHERE) {
  return unsigned(baton::emulator::reduce(mask, value, baton::emulator::Reduction::bits_xor, where));
}

#undef BATON_WHERE
