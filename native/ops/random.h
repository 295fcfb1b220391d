#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace baton::ops {

// Inputs of tests and benches: cheap (half a billion weights take a second), and the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // A stream of its own for what is called `name`, so that one case can be repeated without those before it.
  Random(uint64_t seed, std::string_view name) : state_(seed) {
    for (const char letter : name) state_ = (state_ ^ uint8_t(letter)) * 0x100000001b3;  // FNV-1a
  }

  // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  int32_t integer(int32_t low, int32_t high) { return low + int32_t(next() % uint64_t(high - low + 1)); }

  // Mean 0, variance 1: the sum of four 16-bit uniforms, near enough to normal, between -3.5 and 3.5.
  float normal() {
    constexpr float kMean = 2 * 65535;
    constexpr float kPerDeviation = 1.0f / 37837;  // 65536 sqrt(4 / 12)
    const uint64_t bits = next();
    const uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    return (float(sum) - kMean) * kPerDeviation;
  }

  std::vector<float> normals(size_t count, float deviation = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = normal() * deviation;
    return values;
  }

 private:
  uint64_t state_;
};

}  // namespace baton::ops
