#pragma once

#include <cstdint>

namespace baton {

struct PhiloxWords {
  uint32_t word[4];
};

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011): 128 random bits
// that are a function of counter and key alone. Plain code, so that a device can compile it too.
constexpr PhiloxWords philox(PhiloxWords counter, uint64_t key) {
  uint32_t key_low = uint32_t(key);
  uint32_t key_high = uint32_t(key >> 32);
  uint32_t a = counter.word[0], b = counter.word[1], c = counter.word[2], d = counter.word[3];
  for (int round = 0; round < 10; round++) {
    const uint64_t left = uint64_t(0xD2511F53) * a;
    const uint64_t right = uint64_t(0xCD9E8D57) * c;
    a = uint32_t(right >> 32) ^ b ^ key_low;
    b = uint32_t(right);
    c = uint32_t(left >> 32) ^ d ^ key_high;
    d = uint32_t(left);
    key_low += 0x9E3779B9;
    key_high += 0xBB67AE85;
  }
  return {{a, b, c, d}};
}

// Uniform in [0, 1): 53 bits of Philox at counter (position, 0, 0, 0) under `seed`.
constexpr double uniform(uint64_t seed, uint32_t position) {
  const PhiloxWords random = philox({{position, 0, 0, 0}}, seed);
  const uint64_t bits = (uint64_t(random.word[0]) << 32 | random.word[1]) >> 11;
  return double(bits) * 0x1p-53;
}

// The known answers that come with the authors' own code (Random123, kat_vectors).
static_assert(philox({{0, 0, 0, 0}}, 0).word[0] == 0x6627e8d5 && philox({{0, 0, 0, 0}}, 0).word[3] == 0x9b00dbd8);
static_assert(philox({{~0u, ~0u, ~0u, ~0u}}, ~0ull).word[0] == 0x408f276d &&
              philox({{~0u, ~0u, ~0u, ~0u}}, ~0ull).word[3] == 0x6d5451fd);
static_assert(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822).word[0] == 0xd16cfe09 &&
              philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822).word[3] == 0x24126ea1);

}  // namespace baton
