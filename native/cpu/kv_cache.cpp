#include "cpu/kv_cache.h"

#include <bit>
#include <cassert>
#include <cstring>
#include <string>

#include "core/error.h"

namespace baton::cpu {

namespace {

int32_t round_up(int32_t value, int32_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Nearest even; NaN stays NaN. Here and not a call, so that loops over it become vector code.
uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return uint16_t((value != value ? bits | 0x400000 : rounded) >> 16);
}

float from_bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

// bf16 values in pairs of slots: the place of a slot's first value; the others follow at every second place.
size_t paired(int32_t slot, int32_t width) { return size_t(slot / 2) * 2 * size_t(width) + size_t(slot % 2); }

void move_one_paired(uint16_t* values, int32_t width, int32_t from, int32_t to) {
  const uint16_t* source = values + paired(from, width);
  uint16_t* target = values + paired(to, width);
  for (int32_t i = 0; i < width; i++) target[2 * i] = source[2 * i];
}

// In ascending order if the slots move down, in descending order if they move up, so that nothing is overwritten before
// it is read. Pairs move as wholes if both ends are equally even or odd.
void move_paired(uint16_t* values, int32_t width, const Move& move) {
  const auto one = [&](int32_t i) { move_one_paired(values, width, move.from + i, move.to + i); };
  if (move.from % 2 != move.to % 2) {
    for (int32_t i = 0; i < move.count; i++) one(move.to < move.from ? i : move.count - 1 - i);
    return;
  }
  const bool front = move.from % 2 == 1;                // the first slot ends a pair
  const bool back = (move.from + move.count) % 2 == 1;  // the last slot begins one
  const int32_t whole = move.count - int32_t(front) - int32_t(back);
  const auto pairs = [&] {
    std::memmove(values + paired(move.to + int32_t(front), width), values + paired(move.from + int32_t(front), width),
                 size_t(whole) * size_t(width) * sizeof(uint16_t));
  };
  if (move.to < move.from) {
    if (front) one(0);
    pairs();
    if (back) one(move.count - 1);
  } else {
    if (back) one(move.count - 1);
    pairs();
    if (front) one(0);
  }
}

}  // namespace

void append_bf16(uint16_t* key, uint16_t* pair, int32_t half, const float* k, const float* v, int32_t head_dim,
                 int32_t width) {
  for (int32_t i = 0; i < head_dim; i++) key[i] = to_bf16(k[i]);
  for (int32_t i = head_dim; i < width; i++) key[i] = 0;
  for (int32_t i = 0; i < head_dim; i++) pair[2 * i + half] = to_bf16(v[i]);
  for (int32_t i = head_dim; i < width; i++) pair[2 * i + half] = 0;
}

KvCache::KvCache(const KvShape& shape, AppendBf16 append)
    : shape_(shape), append_bf16_(append), width_(round_up(shape.head_dim, shape.type == KvType::f32 ? 16 : 32)) {
  assert(shape.slots % 2 == 0);
  REQUIRE(shape.head_dim <= kMaxHeadDim, "MODEL_UNSUPPORTED",
          "headDim: expected at most " + std::to_string(kMaxHeadDim) + ", got " + std::to_string(shape.head_dim));
  const size_t bytes = slot_bytes() * size_t(shape.slots);  // below 2^63 within the limits of ModelConfig::check
  memory_ = Memory(bytes, "KV cache", true);
  keys_ = memory_.data();
  values_ = keys_ + bytes / 2;
}

size_t KvCache::slot_bytes() const { return 2 * size_t(shape_.layers) * size_t(shape_.kv_heads) * row_bytes(); }

void KvCache::append(int32_t layer, int32_t kv_head, int32_t slot, const float* k, const float* v) {
  std::byte* keys = keys_ + head_bytes(layer, kv_head);
  std::byte* values = values_ + head_bytes(layer, kv_head);
  const int32_t dim = shape_.head_dim;
  if (shape_.type == KvType::f32) {
    const size_t row = size_t(slot) * size_t(width_);
    float* key = reinterpret_cast<float*>(keys) + row;
    float* value = reinterpret_cast<float*>(values) + row;
    std::memcpy(key, k, size_t(dim) * sizeof(float));
    std::memcpy(value, v, size_t(dim) * sizeof(float));
    std::memset(key + dim, 0, size_t(width_ - dim) * sizeof(float));
    std::memset(value + dim, 0, size_t(width_ - dim) * sizeof(float));
  } else {
    uint16_t* key = reinterpret_cast<uint16_t*>(keys) + size_t(slot) * size_t(width_);
    uint16_t* pair = reinterpret_cast<uint16_t*>(values) + paired(slot / 2 * 2, width_);
    append_bf16_(key, pair, slot % 2, k, v, dim, width_);
  }
}

void KvCache::read(int32_t layer, int32_t kv_head, int32_t slot, float* k, float* v) const {
  const size_t row = size_t(slot) * size_t(width_);
  if (shape_.type == KvType::f32) {
    const size_t size = size_t(shape_.head_dim) * sizeof(float);
    std::memcpy(k, reinterpret_cast<const float*>(keys(layer, kv_head)) + row, size);
    std::memcpy(v, reinterpret_cast<const float*>(values(layer, kv_head)) + row, size);
  } else {
    const uint16_t* key = reinterpret_cast<const uint16_t*>(keys(layer, kv_head)) + row;
    const uint16_t* value = reinterpret_cast<const uint16_t*>(values(layer, kv_head)) + paired(slot, width_);
    for (int32_t i = 0; i < shape_.head_dim; i++) k[i] = from_bf16(key[i]);
    for (int32_t i = 0; i < shape_.head_dim; i++) v[i] = from_bf16(value[2 * i]);
  }
}

void KvCache::apply(std::span<const Move> moves, ThreadPool& pool) {
  if (moves.empty()) return;
  pool.run(shape_.layers * shape_.kv_heads, [&](int32_t head) {
    std::byte* keys = keys_ + head_bytes(0, head);
    std::byte* values = values_ + head_bytes(0, head);
    const size_t row = row_bytes();
    for (const Move& move : moves) {
      const size_t size = size_t(move.count) * row;
      std::memmove(keys + size_t(move.to) * row, keys + size_t(move.from) * row, size);
      if (shape_.type == KvType::f32) {
        std::memmove(values + size_t(move.to) * row, values + size_t(move.from) * row, size);
      } else {
        move_paired(reinterpret_cast<uint16_t*>(values), width_, move);
      }
    }
  });
}

}  // namespace baton::cpu
