#include "ops/trial.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "core/tensor.h"

namespace baton::ops {

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kReadRows = 64;  // of a table, in one step

TensorView view_of(std::span<const float> values, int32_t rows, int32_t columns) {
  return {reinterpret_cast<const std::byte*>(values.data()), TensorType::f32, rows, columns};
}

}  // namespace

BackendOptions options_of(const Case& one, const Room& room) {
  const auto tiles = [](int32_t slots) { return (slots + kTile - 1) / kTile * kTile; };
  ModelConfig config = {};
  config.layers = one.layers;
  config.hidden = std::max(one.inputs, 1);
  config.intermediate = std::max(one.outputs, 1);
  config.heads = one.heads;
  config.kv_heads = one.kv_heads;
  config.head_dim = one.head_dim;
  config.vocabulary = room.vocabulary;
  config.context = room.context;
  config.rms_eps = 1e-5f;
  config.rope_theta = 10000;
  config.rope_scaling = one.rope_scaling;
  config.tied_embedding = true;
  return {config,    one.type,         one.kv,      tiles(room.slots), tiles(room.host_slots),
          room.rows, room.step_tokens, room.context};
}

Answers::Answers(int32_t rows)
    : sampled(size_t(rows)),
      top_tokens(size_t(rows) * kTopLogprobs),
      logprobs(size_t(rows)),
      top_logprobs(size_t(rows) * kTopLogprobs) {}

Trial::Trial(const Device& device, const Case& one, const Room& room, uint64_t seed)
    : random(seed, one.name),
      device(device),
      asked(one),
      options_(options_of(one, room)),
      backend_(device.open(options_)),
      answers_(room.rows) {}

Answers& Trial::answers() {
  backend_->end();
  backend_->take(true);
  for (const int32_t token : answers_.sampled) digest_ = digest_ * 31 + uint64_t(token);
  return answers_;
}

StepShape Trial::begin(const Plan& plan) {
  backend_->sync();  // whoever still writes answers has done so
  std::fill(answers_.sampled.begin(), answers_.sampled.end(), -2);
  std::fill(answers_.logprobs.begin(), answers_.logprobs.end(), kNaN);
  std::fill(answers_.top_tokens.begin(), answers_.top_tokens.end(), -2);
  std::fill(answers_.top_logprobs.begin(), answers_.top_logprobs.end(), kNaN);
  return backend_->begin(plan.view(), answers_.view());
}

Rows Trial::rows(int32_t count, int32_t width) {
  const Rows rows = backend_->rows(count + 1, width).first(count);
  poison(rows);
  return rows;
}

void Trial::write(Rows to, std::span<const float> values) {
  std::vector<float> all(size_t(to.count + 1) * size_t(to.width), kNaN);
  std::copy(values.begin(), values.end(), all.begin());
  backend_->write(to.first(to.count + 1), all);
}

std::vector<float> Trial::read(Rows from) {
  std::vector<float> all(size_t(from.count + 1) * size_t(from.width));
  backend_->read(all, from.first(from.count + 1));
  const auto end = all.end() - from.width;
  near("the row behind the last", std::span(end, all.end()), size_t(from.width), [](size_t) {
    return Expected{double(kNaN), 0};
  });
  all.erase(end, all.end());
  for (const float value : all) digest_ = digest_ * 31 + std::bit_cast<uint32_t>(value);
  return all;
}

std::vector<float> Trial::read(const Operand& from) {
  std::vector<float> all(size_t(from.count) * size_t(from.width));
  backend_->read(all, from);
  for (const float value : all) digest_ = digest_ * 31 + std::bit_cast<uint32_t>(value);
  return all;
}

std::unique_ptr<Operand> Trial::operand(int32_t capacity, int32_t width, WeightType type) {
  auto operand = backend_->operand(capacity, width, type);
  const Rows nothing = backend_->rows(capacity, width);
  backend_->write(nothing, std::vector<float>(size_t(capacity) * size_t(width), kNaN));
  backend_->convert(*operand, nothing);
  return operand;
}

std::unique_ptr<Operand> Trial::operand(std::span<const float> values, int32_t rows, int32_t width) {
  auto operand = backend_->operand(std::max(rows, 1), width, asked.type);
  const Rows source = this->rows(rows, width);
  write(source, values);
  backend_->convert(*operand, source);
  return operand;
}

std::unique_ptr<Vector> Trial::vector(std::span<const float> values) {
  const TensorView part = view_of(values, 1, int32_t(values.size()));
  return backend_->vector({&part, 1});
}

Weights Trial::weights(int32_t outputs, int32_t inputs) {
  std::vector<float> values = random.normals(size_t(outputs) * size_t(inputs), 1 / std::sqrt(float(inputs)));
  std::vector<TensorView> parts;
  for (int32_t begin = 0; begin < outputs;) {
    const int32_t end = parts.size() == 2 ? outputs : std::min(outputs, begin + outputs / 3 + 1);
    parts.push_back(view_of(rows_of(values, inputs, begin, end), end - begin, inputs));
    begin = end;
  }
  auto matrix = backend_->matrix(parts, asked.type);
  std::vector<float> held = hold(*matrix, std::move(values));
  return {std::move(matrix), std::move(held)};
}

Weights Trial::gated_weights(int32_t width, int32_t inputs) {
  Weights gate = weights(width, inputs), up = weights(width, inputs);
  // What the type has made of them stays as it is when it is made once more: to the same scales, and so to itself.
  const TensorView gates = view_of(gate.held, width, inputs), ups = view_of(up.held, width, inputs);
  std::vector<float> held = gate.held;
  held.insert(held.end(), up.held.begin(), up.held.end());
  return {backend_->gated_matrix(gates, ups, asked.type), std::move(held)};
}

// int8: as the embedding reads it, for two ways to round a quotient would both be right.
std::vector<float> Trial::hold(const Matrix& matrix, std::vector<float> values) {
  if (asked.type == WeightType::bf16) {
    for (float& value : values) value = bf16_to_float(float_to_bf16(value));
  }
  if (asked.type != WeightType::int8) return values;
  const int32_t most = std::min(kReadRows, std::min(options_.step_tokens, options_.context));
  const Rows out = backend_->rows(most, matrix.inputs);
  for (int32_t begin = 0; begin < matrix.outputs; begin += most) {
    const int32_t count = std::min(most, matrix.outputs - begin);
    Plan plan = {.runs = {{-1, 0, 0, 0, count}}};
    for (int32_t i = 0; i < count; i++) plan.tokens.push_back(begin + i);
    this->begin(plan);
    backend_->embedding(out.first(count), matrix);
    backend_->read(std::span(values).subspan(size_t(begin) * size_t(matrix.inputs), size_t(count * matrix.inputs)),
                   out.first(count));
  }
  return values;
}

void fail(const std::string& what, size_t wrong, size_t count, size_t first, size_t width, double received,
          Expected expected) {
  char numbers[160];
  snprintf(numbers, sizeof numbers, "expected %.9g (tolerance %.2g), received %.9g", expected.value, expected.tolerance,
           received);
  throw Failure(what + "[" + std::to_string(first / width) + ", " + std::to_string(first % width) + "]: " + numbers +
                "; " + std::to_string(wrong) + " of " + std::to_string(count) + " wrong");
}

void same_bits(const std::string& what, std::span<const float> received, std::span<const float> expected,
               size_t width) {
  require(received.size() == expected.size(), what + ": expected " + std::to_string(expected.size()) +
                                                  " values, received " + std::to_string(received.size()));
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < received.size(); i++) {
    const bool right = std::bit_cast<uint32_t>(received[i]) == std::bit_cast<uint32_t>(expected[i]) ||
                       (std::isnan(received[i]) && std::isnan(expected[i]));
    if (!right && wrong++ == 0) first = i;
  }
  if (wrong > 0) {
    fail(what, wrong, received.size(), first, width, double(received[first]), {double(expected[first]), 0});
  }
}

void require(bool holds, const std::string& what) {
  if (!holds) throw Failure(what);
}

double rounding(WeightType type, double value, double peak) {
  if (type == WeightType::f32) return 0x1p-24 * std::abs(value);
  if (type == WeightType::bf16) return 0x1.02p-8 * std::abs(value);
  return 0.501 * peak / 127;
}

double largest_magnitude(std::span<const float> values) {
  double largest = 0;
  for (const float value : values) largest = std::max(largest, double(std::abs(value)));
  return largest;
}

std::span<const float> rows_of(std::span<const float> values, int32_t width, int32_t begin, int32_t end) {
  return values.subspan(size_t(begin) * size_t(width), size_t(end - begin) * size_t(width));
}

}  // namespace baton::ops
