// embedding, rms_norm, convert, select_sampled: what is done to one row after another.

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/tensor.h"
#include "ops/reference.h"
#include "ops/tests.h"
#include "ops/trial.h"

namespace baton::ops {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Checks an operand made of `rows` of `width` values: each within its type's rounding of expected(row) (a vector of
// doubles), and an int8 a whole multiple of its row's scale.
template <typename Expect>
void check_operand(Trial& trial, std::span<const float> received, int32_t width, const Expect& expect) {
  const Case& one = trial.asked;
  for (int32_t row = 0; row * int64_t(width) < int64_t(received.size()); row++) {
    const std::vector<double> expected = expect(row);
    double peak = 0;
    for (const double value : expected) peak = std::max(peak, std::abs(value));
    const auto own = rows_of(received, width, row, row + 1);
    near("row " + std::to_string(row) + " ", own, size_t(width), [&](size_t i) {
      const double value = expected[i];
      return Expected{value, one.tolerance * std::abs(value) + rounding(one.type, value, peak)};
    });
    const double scale = largest_magnitude(own) / 127;
    if (one.type != WeightType::int8 || scale == 0) continue;
    near("multiples of row " + std::to_string(row) + "'s scale ", own, size_t(width), [&](size_t i) {
      return Expected{std::nearbyint(own[i] / scale) * scale, 1e-6 * 127 * scale};
    });
  }
}

}  // namespace

uint64_t test_embedding(const Device& device, const Case& one, uint64_t seed) {
  const int32_t room = std::max(one.tokens, kTile);
  Trial trial(device, one, {.slots = room, .step_tokens = room, .context = room, .vocabulary = one.outputs}, seed);
  const auto values = trial.random.normals(size_t(one.outputs) * size_t(one.inputs));
  const TensorView part = {reinterpret_cast<const std::byte*>(values.data()), TensorType::f32, one.outputs, one.inputs};
  const auto table = trial.on().matrix({&part, 1}, one.type);

  const auto look_up = [&](std::span<const int32_t> tokens) {
    Plan plan;
    if (!tokens.empty()) plan.runs = {{-1, 0, 0, 0, int32_t(tokens.size())}};
    plan.tokens.assign(tokens.begin(), tokens.end());
    trial.begin(plan);
    const Rows out = trial.rows(int32_t(tokens.size()), one.inputs);
    trial.on().embedding(out, *table);
    return trial.read(out);
  };
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < one.tokens; i++) tokens.push_back(trial.random.integer(0, one.outputs - 1));
  if (one.tokens > 0) tokens.front() = one.outputs - 1;
  if (one.tokens > 1) tokens.back() = 0;
  const auto out = look_up(tokens);
  for (int32_t i = 0; i < one.tokens; i++) {
    const auto source = rows_of(values, one.inputs, tokens[size_t(i)], tokens[size_t(i)] + 1);
    const double peak = largest_magnitude(source);
    near("token " + std::to_string(i) + " ", rows_of(out, one.inputs, i, i + 1), size_t(one.inputs), [&](size_t k) {
      const double value = source[k];
      if (one.type == WeightType::bf16) return Expected{bf16_to_float(float_to_bf16(source[k])), 0};
      return Expected{value, one.type == WeightType::f32 ? 0 : rounding(one.type, value, peak)};
    });
  }
  for (int32_t i = 0; i < std::min(one.tokens, 3); i++) {
    same_bits("a token alone", look_up({&tokens[size_t(i)], 1}), rows_of(out, one.inputs, i, i + 1),
              size_t(one.inputs));
  }
  return trial.digest();
}

uint64_t test_rms_norm(const Device& device, const Case& one, uint64_t seed) {
  constexpr float kEps = 1e-5f;
  Trial trial(device, one, {}, seed);
  const auto values = trial.random.normals(size_t(one.tokens) * size_t(one.inputs), 3);
  const auto weight = trial.random.normals(size_t(one.inputs));
  const auto device_weight = trial.vector(weight);
  const auto operand = trial.operand(std::max(one.tokens, 1), one.inputs, one.type);
  const auto norm = [&](std::span<const float> x) {
    const Rows rows = trial.rows(int32_t(x.size()) / one.inputs, one.inputs);
    trial.write(rows, x);
    trial.on().rms_norm(*operand, rows, *device_weight, kEps);
    require(operand->count == rows.count, "the operand does not count its rows");
    return trial.read(*operand);
  };
  const auto out = norm(values);
  check_operand(trial, out, one.inputs, [&](int32_t row) {
    return reference::rms_norm(rows_of(values, one.inputs, row, row + 1), weight, kEps);
  });
  for (int32_t row = 0; row < one.tokens; row = 2 * row + 1) {
    same_bits("row " + std::to_string(row) + " alone", norm(rows_of(values, one.inputs, row, row + 1)),
              rows_of(out, one.inputs, row, row + 1), size_t(one.inputs));
  }
  return trial.digest();
}

uint64_t test_convert(const Device& device, const Case& one, uint64_t seed) {
  Trial trial(device, one, {}, seed);
  auto values = trial.random.normals(size_t(one.tokens) * size_t(one.inputs), 5);
  if (one.tokens > 2) std::fill_n(values.begin() + one.inputs, one.inputs, 0.0f);
  const auto operand = trial.operand(std::max(one.tokens, 1), one.inputs, one.type);
  const auto convert = [&](std::span<const float> x) {
    const Rows rows = trial.rows(int32_t(x.size()) / one.inputs, one.inputs);
    trial.write(rows, x);
    trial.on().convert(*operand, rows);
    require(operand->count == rows.count, "the operand does not count its rows");
    return trial.read(*operand);
  };
  const auto out = convert(values);
  check_operand(trial, out, one.inputs, [&](int32_t row) {
    const auto source = rows_of(values, one.inputs, row, row + 1);
    return std::vector<double>(source.begin(), source.end());
  });
  if (one.type == WeightType::bf16) {
    near("rounded to the nearest", out, size_t(one.inputs), [&](size_t i) {
      return Expected{bf16_to_float(float_to_bf16(values[i])), 0};
    });
  }
  for (int32_t row = 0; row < one.tokens; row = 2 * row + 1) {
    same_bits("row " + std::to_string(row) + " alone", convert(rows_of(values, one.inputs, row, row + 1)),
              rows_of(out, one.inputs, row, row + 1), size_t(one.inputs));
  }
  if (one.tokens == 0) return trial.digest();

  // The clock of benches: it waits for what it times, and that is done as often as it says.
  const Rows rows = trial.rows(one.tokens, one.inputs);
  trial.write(rows, values);
  const double seconds = trial.on().seconds({[&] { trial.on().convert(*operand, rows); }}, 1)[0];
  require(seconds >= 0, "seconds: expected 0 or more, received " + std::to_string(seconds));
  same_bits("while it is timed", trial.read(*operand), out, size_t(one.inputs));

  // What is not a number makes none of its own row, or leaves a gap in it; other rows are as they were.
  values[size_t(one.inputs) - 1] = kNaN;
  const auto spoilt = convert(values);
  require(std::isnan(spoilt[size_t(one.inputs) - 1]), "a NaN became a number");
  same_bits("rows beside one with a NaN", rows_of(spoilt, one.inputs, 1, one.tokens),
            rows_of(out, one.inputs, 1, one.tokens), size_t(one.inputs));
  return trial.digest();
}

uint64_t test_select_sampled(const Device& device, const Case& one, uint64_t seed) {
  const int32_t slots = one.tokens * kTile;
  Trial trial(device, one, {.slots = slots, .rows = one.tokens, .step_tokens = one.tokens, .context = kTile}, seed);
  // Runs of up to five tokens, of which every other one or so is sampled; rows in no order.
  Plan plan;
  std::vector<int32_t> last;
  for (int32_t token = 0; token < one.tokens;) {
    const int32_t count = trial.random.integer(1, std::min(5, one.tokens - token));
    const bool sampled = token == 0 || trial.random.integer(0, 2) > 0;
    const int32_t index = int32_t(plan.runs.size());
    plan.runs.push_back({sampled ? one.tokens - 1 - index : -1, index * kTile, 0, 0, count});
    token += count;
    if (sampled) last.push_back(token - 1);
  }
  plan.tokens.assign(size_t(one.tokens), 0);
  trial.begin(plan);
  const auto values = trial.random.normals(size_t(one.tokens) * size_t(one.inputs));
  const Rows x = trial.rows(one.tokens, one.inputs);
  trial.write(x, values);
  const int32_t half = int32_t(last.size()) / 2;
  for (const auto& [first, count] : {std::pair{0, int32_t(last.size())}, {0, 0}, {half, int32_t(last.size()) - half}}) {
    const Rows out = trial.rows(count, one.inputs);
    trial.on().select_sampled(out, x, first);
    const auto received = trial.read(out);
    for (int32_t i = 0; i < count; i++) {
      const int32_t token = last[size_t(first + i)];
      same_bits("row " + std::to_string(i), rows_of(received, one.inputs, i, i + 1),
                rows_of(values, one.inputs, token, token + 1), size_t(one.inputs));
    }
  }
  return trial.digest();
}

}  // namespace baton::ops
