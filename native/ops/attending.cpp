#include "ops/attending.h"

#include <algorithm>
#include <limits>

#include "core/tensor.h"

namespace baton::ops {

namespace {

constexpr int32_t kStep = 256;  // tokens

Room room_of(const Case& one, int32_t slots) {
  int32_t tokens = 0;
  for (const Stretch& stretch : one.rows) tokens += stretch.count;
  return {.slots = slots,
          .host_slots = host_slots(one),
          .rows = 1,
          .step_tokens = std::max(kStep, tokens),
          .context = slots,
          .vocabulary = 1};
}

int32_t tokens_of(std::span<const Run> runs) {
  int32_t tokens = 0;
  for (const Run& run : runs) tokens += run.count;
  return tokens;
}

}  // namespace

Attending::Attending(const Device& device, const Case& one, int32_t slots, uint64_t seed)
    : trial(device, one, room_of(one, slots), seed),
      slots(slots),
      width((one.heads + 2 * one.kv_heads) * one.head_dim),
      out_width(one.heads * one.head_dim),
      keys(one.heads * one.head_dim),
      values((one.heads + one.kv_heads) * one.head_dim),
      qkv_(trial.rows(room_of(one, slots).step_tokens, width)),
      out_(trial.operand(room_of(one, slots).step_tokens, out_width, WeightType::f32)) {
  poison();
}

void Attending::poison() {
  const std::vector<float> nothing(size_t(kStep) * size_t(width), std::numeric_limits<float>::quiet_NaN());
  for (int32_t layer = 0; layer < trial.asked.layers; layer++) {
    for (int32_t slot = 0; slot < slots; slot += kStep) {
      const Run run = run_at(slot, 0, std::min(kStep, slots - slot));
      append({&run, 1}, rows_of(nothing, width, 0, run.count), layer);
    }
  }
}

std::vector<float> Attending::append(std::span<const Run> runs, std::span<const float> qkv, int32_t layer,
                                     const Vector* q_norm, const Vector* k_norm) {
  const Rows rows = begin(runs, qkv);
  trial.on().kv_append(rows, layer, q_norm, k_norm);
  return trial.read(rows);
}

std::vector<float> Attending::attend(std::span<const Run> runs, std::span<const float> qkv, int32_t layer) {
  const Rows rows = begin(runs, qkv);
  trial.on().attention(*out_, rows, layer);
  require(out_->count == rows.count, "the operand does not count its rows");
  return trial.read(*out_);
}

std::vector<float> Attending::step(std::span<const Run> runs, std::span<const float> qkv, int32_t layer) {
  const Rows rows = begin(runs, qkv);
  trial.on().kv_append(rows, layer, nullptr, nullptr);
  trial.on().attention(*out_, rows, layer);
  return trial.read(*out_);
}

Rows Attending::begin(std::span<const Run> runs, std::span<const float> qkv) {
  const int32_t tokens = tokens_of(runs);
  Plan plan;
  plan.runs.assign(runs.begin(), runs.end());
  plan.tokens.assign(size_t(tokens), 0);
  trial.begin(plan);
  const Rows rows = qkv_.first(tokens);
  trial.write(rows, qkv);
  return rows;
}

std::vector<float> Attending::kept(std::span<const float> qkv) const {
  std::vector<float> rows(qkv.begin(), qkv.end());
  if (trial.asked.kv == KvType::f32) return rows;
  for (float& value : rows) value = bf16_to_float(float_to_bf16(value));
  return rows;
}

double Attending::tolerance() const {
  constexpr double kInFloats = 1e-5;
  return trial.device.attends_in_bf16 ? trial.asked.tolerance : std::min(trial.asked.tolerance, kInFloats);
}

int32_t host_slots(const Case& one) {
  int32_t slots = 0;
  for (const Move& move : one.moves) slots += move.count;
  return one.parked ? slots : 0;
}

namespace {

// The case's moves with one end, from or to, in host memory instead: one behind the other there.
std::vector<Move> by_way_of_host(const Case& one, int32_t Move::*end) {
  std::vector<Move> moves = one.moves;
  int32_t next = one.slots;
  for (Move& move : moves) {
    move.*end = next;
    next += move.count;
  }
  return moves;
}

}  // namespace

std::vector<Move> parked(const Case& one) { return by_way_of_host(one, &Move::to); }

std::vector<Move> unparked(const Case& one) { return by_way_of_host(one, &Move::from); }

}  // namespace baton::ops
