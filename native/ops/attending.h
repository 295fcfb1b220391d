#pragma once

#include <span>
#include <vector>

#include "ops/trial.h"

namespace baton::ops {

// The run of `count` tokens from `position` on of a request whose position 0 lies in `slot`.
inline Run run_at(int32_t slot, int32_t position, int32_t count) {
  return {-1, slot / kTile * kTile, slot % kTile, position, count};
}

// A trial whose arena holds NaN in every slot, and the ways to write to it and to look at it. What lies in it can be
// seen only through attention: a token at position 0 sees the value of its own slot, one at position 1 tells the keys
// of two slots apart.
class Attending {
 public:
  Attending(const Device& device, const Case& one, int32_t slots, uint64_t seed);

  Trial trial;
  const int32_t slots;
  const int32_t width;      // of a row of qkv
  const int32_t out_width;  // heads * head_dim
  const int32_t keys;       // first of them in a row of qkv
  const int32_t values;

  void poison();
  // Writes k and v of qkv [tokens, width] to the runs' slots. The rows as they are afterwards.
  std::vector<float> append(std::span<const Run> runs, std::span<const float> qkv, int32_t layer,
                            const Vector* q_norm = nullptr, const Vector* k_norm = nullptr);
  // Attention of the rows' q, as it is: nothing is turned or written. [tokens, out_width]
  std::vector<float> attend(std::span<const Run> runs, std::span<const float> qkv, int32_t layer);
  // Both, as in a step of a model.
  std::vector<float> step(std::span<const Run> runs, std::span<const float> qkv, int32_t layer);

  // What the arena keeps of qkv rows.
  std::vector<float> kept(std::span<const float> qkv) const;
  // How far attention may be from its definition.
  double tolerance() const;

 private:
  Rows begin(std::span<const Run> runs, std::span<const float> qkv);

  Rows qkv_;
  std::unique_ptr<Operand> out_;
};

// Slots in host memory that the case's moves pass through, and the two steps of that.
int32_t host_slots(const Case& one);
std::vector<Move> parked(const Case& one);
std::vector<Move> unparked(const Case& one);

// Angles below 1e-26: no float is changed by them.
inline Case unturned(Case one) {
  one.rope_scaling = {.kind = RopeScaling::Kind::linear, .factor = 1e30};
  one.type = WeightType::f32;  // of the operand: attention as it is
  return one;
}

}  // namespace baton::ops
