#include "emulator/instructions.h"

#include <cmath>
#include <cstring>

#include "emulator/block.h"

namespace baton::emulator {

unsigned char* shared_memory() {
  self();
  return block().shared();
}

uint32_t shared_address(const void* pointer, const Where& where) {
  self(where);
  if (!block().contains(pointer)) fault("the address is not in the block's dynamic shared memory", where);
  return uint32_t(block().offset(pointer));
}

// Asynchronous copies

namespace {

constexpr size_t kCopyBytes = 16;

// An access through an instruction that AddressSanitizer does not see.
void check_global(const void* from, size_t bytes, const char* what, const Where& where) {
  const void* bad = find_poison(from, bytes);
  if (bad == nullptr) return;
  const volatile char access = *static_cast<const char*>(bad);  // AddressSanitizer says whose memory it is
  (void)access;
  fault(std::string(what) + " reads memory that is not allocated", where);
}

void perform(const Copy& copy) {
  if (copy.valid) {
    std::memcpy(copy.to, copy.from, kCopyBytes);
  } else {
    std::memset(copy.to, 0, kCopyBytes);
  }
  show_accesses();
  if (copy.valid) note_read(copy.from, kCopyBytes);
  note_write(copy.to, kCopyBytes);
  hide_accesses();
}

}  // namespace

void copy_async(void* to, const void* from, bool valid, const Where& where) {
  Hidden hidden;
  Thread& thread = self(where);
  if (uintptr_t(to) % kCopyBytes != 0) fault("copy_async to an address that is not a multiple of 16", where);
  if (valid && uintptr_t(from) % kCopyBytes != 0)
    fault("copy_async from an address that is not a multiple of 16", where);
  block().shared(shared_address(to, where), kCopyBytes, where);
  if (valid) check_global(from, kCopyBytes, "copy_async", where);
  const Copy copy = {to, from, valid};
  if (block().async() == Async::eager) {
    perform(copy);
  } else {
    thread.copies.push_back(copy);
  }
}

void copy_async_commit() {
  Hidden hidden;
  Thread& thread = self();
  uint32_t committed = 0;
  for (const uint32_t copies : thread.committed) committed += copies;
  thread.committed.push_back(uint32_t(thread.copies.size()) - committed);
}

void copy_async_wait_for(int pending) {
  Hidden hidden;
  Thread& thread = self();
  size_t complete = 0;
  size_t groups = 0;
  for (; thread.committed.size() - groups > size_t(pending); groups++) complete += thread.committed[groups];
  for (size_t i = 0; i < complete; i++) perform(thread.copies[i]);
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + complete);
  thread.committed.erase(thread.committed.begin(), thread.committed.begin() + groups);
}

// Matrices

namespace {

constexpr int kTiles = 4;
constexpr int kRows = 8;        // of a tile, 16 bytes each
constexpr int kBankGroups = 8;  // of four banks, 16 bytes

void load_tiles(uint32_t (&r)[kTiles], const void* row, Operation operation, const Where& where) {
  Hidden hidden;
  Thread& thread = self(where);
  if (uintptr_t(row) % 16 != 0) fault("load_matrix from an address that is not a multiple of 16", where);
  block().shared(shared_address(row, where), 16, where);
  show_accesses();
  note_read(row, 16);
  hide_accesses();

  Lane& lane = thread.warp->lanes[thread.lane];
  lane.in[0] = uintptr_t(row);
  const bool transposed = operation == Operation::load_matrix_transposed;
  block().meet(
      kAllLanes, operation, where, [transposed](Warp & warp, uint32_t) __attribute__((no_sanitize("thread"))) {
        for (int tile = 0; tile < kTiles; tile++) {
          uint16_t values[kRows][kRows];
          uint32_t groups = 0;
          for (int i = 0; i < kRows; i++) {
            const void* row = reinterpret_cast<const void*>(warp.lanes[tile * kRows + i].in[0]);
            std::memcpy(values[i], row, sizeof values[i]);
            groups |= 1u << block().offset(row) / 16 % kBankGroups;
          }
          block().stats.shared_phases++;
          block().stats.shared_conflicts += uint64_t(kRows - std::popcount(groups));
          for (int i = 0; i < kLanes; i++) {
            const int major = i / 4, minor = 2 * (i % 4);
            const uint32_t low = transposed ? values[minor][major] : values[major][minor];
            const uint32_t high = transposed ? values[minor + 1][major] : values[major][minor + 1];
            warp.lanes[i].out[tile] = low | high << 16;
          }
        }
      });
  for (int tile = 0; tile < kTiles; tile++) r[tile] = uint32_t(lane.out[tile]);
}

// d[16, 8] += a[16, kDepth] b[kDepth, 8], one row of d at a time. No sanitizers: only arrays of its own.
template <typename Value, int kDepth>
__attribute__((no_sanitize("address", "undefined", "thread"))) void multiply(Value (&d)[16][8],
                                                                             const Value (&a)[16][kDepth],
                                                                             const Value (&b)[kDepth][8]) {
  typedef Value Row __attribute__((vector_size(8 * sizeof(Value))));
  for (int i = 0; i < 16; i++) {
    Row sum;
    std::memcpy(&sum, d[i], sizeof sum);
    for (int k = 0; k < kDepth; k++) {
      Row values;
      std::memcpy(&values, b[k], sizeof values);
      sum += a[i][k] * values;
    }
    std::memcpy(d[i], &sum, sizeof sum);
  }
}

float unpack(uint32_t word, int i, float) {
  const uint32_t bits = i == 0 ? word << 16 : word & 0xffff0000;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
int32_t unpack(uint32_t word, int i, int32_t) { return int8_t(word >> 8 * i); }

// Value: the accumulators'. kPacked: values of a and b in a word.
template <typename Value, int kPacked>
__attribute__((no_sanitize("address", "undefined", "thread"))) void multiply_warp(Warp& warp) {
  constexpr int kDepth = 8 * kPacked;
  Value a[16][kDepth], b[kDepth][8], d[16][8];
  for (int i = 0; i < kLanes; i++) {
    const Lane& lane = warp.lanes[i];
    const int group = i / 4;
    for (int j = 0; j < kPacked; j++) {
      const int k = kPacked * (i % 4) + j;
      for (int half = 0; half < 2; half++) {
        a[group][k + half * kDepth / 2] = unpack(uint32_t(lane.in[2 * half]), j, Value());
        a[group + 8][k + half * kDepth / 2] = unpack(uint32_t(lane.in[2 * half + 1]), j, Value());
        b[k + half * kDepth / 2][group] = unpack(uint32_t(lane.in[4 + half]), j, Value());
      }
    }
    for (int j = 0; j < 4; j++) std::memcpy(&d[group + j / 2 * 8][2 * (i % 4) + j % 2], &lane.in[6 + j], sizeof(Value));
  }
  multiply<Value, kDepth>(d, a, b);
  for (int i = 0; i < kLanes; i++) {
    for (int j = 0; j < 4; j++) {
      std::memcpy(&warp.lanes[i].out[j], &d[i / 4 + j / 2 * 8][2 * (i % 4) + j % 2], sizeof(Value));
    }
  }
}

// in: four words of a, two of b, four accumulators
template <typename Value, int kPacked>
void multiply_lanes(Value (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Operation operation,
                    const Where& where) {
  Hidden hidden;
  Thread& thread = self(where);
  Lane& lane = thread.warp->lanes[thread.lane];
  for (int i = 0; i < 4; i++) lane.in[i] = a[i];
  for (int i = 0; i < 2; i++) lane.in[4 + i] = b[i];
  for (int i = 0; i < 4; i++) std::memcpy(&lane.in[6 + i], &d[i], sizeof d[i]);
  block().meet(kAllLanes, operation, where, [](Warp& warp, uint32_t) {
    block().stats.products++;
    multiply_warp<Value, kPacked>(warp);
  });
  for (int i = 0; i < 4; i++) std::memcpy(&d[i], &lane.out[i], sizeof d[i]);
}

}  // namespace

void load_matrix(uint32_t (&r)[4], const void* row, const Where& where) {
  load_tiles(r, row, Operation::load_matrix, where);
}

void load_matrix_transposed(uint32_t (&r)[4], const void* row, const Where& where) {
  load_tiles(r, row, Operation::load_matrix_transposed, where);
}

void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Where& where) {
  multiply_lanes<float, 2>(d, a, b, Operation::multiply_bf16, where);
}

void multiply_int8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Where& where) {
  multiply_lanes<int32_t, 4>(d, a, b, Operation::multiply_int8, where);
}

float exp2_approximate(float x) { return std::exp2(x); }

}  // namespace baton::emulator
