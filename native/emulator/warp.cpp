#include "emulator/warp.h"

#include <string>

#include "emulator/block.h"

namespace baton::emulator {

const char* name(Operation operation) {
  switch (operation) {
    case Operation::sync_warp:
      return "__syncwarp";
    case Operation::shuffle:
      return "__shfl_sync";
    case Operation::ballot:
      return "__ballot_sync";
    case Operation::match:
      return "__match_any_sync";
    case Operation::reduce:
      return "__reduce_sync";
    case Operation::load_matrix:
      return "load_matrix";
    case Operation::load_matrix_transposed:
      return "load_matrix_transposed";
    case Operation::multiply_bf16:
      return "multiply_bf16";
    case Operation::multiply_int8:
      return "multiply_int8";
    case Operation::products_fence:
      return "products_fence";
    case Operation::products_commit:
      return "products_commit";
    case Operation::products_wait:
      return "products_wait";
    case Operation::multiply_group_bf16:
      return "multiply_group_bf16";
    case Operation::multiply_group_int8:
      return "multiply_group_int8";
  }
  return "";
}

namespace {

Lane& lane() {
  Thread& thread = self();
  return thread.warp->lanes[thread.lane];
}

}  // namespace

// in: value, argument, width, kind
uint64_t shuffle(uint32_t mask, uint64_t value, Shuffle kind, int argument, int width, const Where& where) {
  Hidden hidden;
  Lane& mine = lane();
  mine.in[0] = value;
  mine.in[1] = uint64_t(argument);
  mine.in[2] = uint64_t(width);
  mine.in[3] = uint64_t(kind);
  block().meet(
      mask, Operation::shuffle, where, [&where](Warp & warp, uint32_t lanes) __attribute__((no_sanitize("thread"))) {
        for (int i = 0; i < kLanes; i++) {
          if (!(lanes >> i & 1)) continue;
          const int argument = int(warp.lanes[i].in[1]);
          const int width = int(warp.lanes[i].in[2]);
          const int first = i & ~(width - 1);
          int from = i;
          switch (Shuffle(warp.lanes[i].in[3])) {
            case Shuffle::index:
              from = first + (argument & (width - 1));
              break;
            case Shuffle::up:
              from = i - argument < first ? i : i - argument;
              break;
            case Shuffle::down:
              from = i + argument >= first + width ? i : i + argument;
              break;
            case Shuffle::exclusive_or:
              from = (i ^ argument) >= first + width ? i : i ^ argument;
              break;
          }
          if (!(lanes >> from & 1)) fault("__shfl_sync reads a lane that is not in the mask", where);
          warp.lanes[i].out[0] = warp.lanes[from].in[0];
        }
      });
  return mine.out[0];
}

uint32_t ballot(uint32_t mask, bool predicate, const Where& where) {
  Hidden hidden;
  Lane& mine = lane();
  mine.in[0] = predicate;
  block().meet(mask, Operation::ballot, where, [](Warp& warp, uint32_t lanes) {
    uint32_t votes = 0;
    for (int i = 0; i < kLanes; i++) {
      if ((lanes >> i & 1) && warp.lanes[i].in[0] != 0) votes |= 1u << i;
    }
    for (int i = 0; i < kLanes; i++) {
      if (lanes >> i & 1) warp.lanes[i].out[0] = votes;
    }
  });
  return uint32_t(mine.out[0]);
}

uint32_t match(uint32_t mask, uint64_t value, const Where& where) {
  Hidden hidden;
  Lane& mine = lane();
  mine.in[0] = value;
  block().meet(mask, Operation::match, where, [](Warp& warp, uint32_t lanes) {
    for (int i = 0; i < kLanes; i++) {
      if (!(lanes >> i & 1)) continue;
      warp.lanes[i].out[0] = 0;
      for (int j = 0; j < kLanes; j++) {
        if ((lanes >> j & 1) && warp.lanes[j].in[0] == warp.lanes[i].in[0]) warp.lanes[i].out[0] |= uint64_t(1) << j;
      }
    }
  });
  return uint32_t(mine.out[0]);
}

int64_t reduce(uint32_t mask, int64_t value, Reduction kind, const Where& where) {
  Hidden hidden;
  Lane& mine = lane();
  mine.in[0] = uint64_t(value);
  mine.in[1] = uint64_t(kind);
  block().meet(mask, Operation::reduce, where, [&where](Warp& warp, uint32_t lanes) {
    const Lane& first = warp.lanes[std::countr_zero(lanes)];
    int64_t result = int64_t(first.in[0]);
    for (int i = std::countr_zero(lanes) + 1; i < kLanes; i++) {
      if (!(lanes >> i & 1)) continue;
      if (warp.lanes[i].in[1] != first.in[1])
        fault("__reduce_sync: lanes of the warp differ in what they reduce", where);
      const int64_t value = int64_t(warp.lanes[i].in[0]);
      switch (Reduction(first.in[1])) {
        case Reduction::add:
          result += value;
          break;
        case Reduction::least:
          result = value < result ? value : result;
          break;
        case Reduction::greatest:
          result = value > result ? value : result;
          break;
        case Reduction::bits_and:
          result &= value;
          break;
        case Reduction::bits_or:
          result |= value;
          break;
        case Reduction::bits_xor:
          result ^= value;
          break;
      }
    }
    for (int i = 0; i < kLanes; i++) {
      if (lanes >> i & 1) warp.lanes[i].out[0] = uint64_t(result);
    }
  });
  return int64_t(mine.out[0]);
}

uint32_t active_lanes() {
  const Warp& warp = *self().warp;
  return warp.present & ~warp.exited;
}

void named_barrier(int id, int threads, Where where) {
  Hidden hidden;
  self(where);
  block().sync(id, threads, 0, where);
}

void named_barrier_arrive(int id, int threads, Where where) {
  Hidden hidden;
  self(where);
  block().arrive_only(id, threads, where);
}

// Atomics: an atomic after a fence publishes, and a fence after an atomic receives.

void before_atomic(const void* address) {
  if (!block().runs()) return;
  Hidden hidden;
  if (kThreadSanitizer && self().fenced) publish(address);
}

void after_atomic(const void* address) {
  if (!block().runs()) return;
  Hidden hidden;
  if (kThreadSanitizer) self().atomics.push_back(address);
  block().pause();
}

}  // namespace baton::emulator

using baton::emulator::block;
using baton::emulator::Hidden;
using baton::emulator::self;

void __syncthreads(baton::emulator::Where where) {
  Hidden hidden;
  self(where);
  block().sync(0, 0, 0, where);
}

int __syncthreads_count(int predicate, baton::emulator::Where where) {
  Hidden hidden;
  self(where);
  return block().sync(0, 0, predicate != 0, where);
}

int __syncthreads_or(int predicate, baton::emulator::Where where) {
  return __syncthreads_count(predicate != 0, where) != 0;
}

int __syncthreads_and(int predicate, baton::emulator::Where where) {
  return __syncthreads_count(predicate == 0, where) == 0;
}

void __syncwarp(unsigned mask, baton::emulator::Where where) {
  Hidden hidden;
  self(where);
  block().meet(mask, baton::emulator::Operation::sync_warp, where, [](baton::emulator::Warp&, uint32_t) {});
}

void __threadfence() {
  if (!baton::emulator::kThreadSanitizer || !block().runs()) return;
  Hidden hidden;
  baton::emulator::Thread& thread = self();
  thread.fenced = true;
  for (const void* address : thread.atomics) baton::emulator::receive(address);
  thread.atomics.clear();
}

long long clock64() { return (long long)(block().stats.switches); }

void __trap() { baton::emulator::fault("__trap"); }
