// matmul, matmul_add, matmul_swiglu: sums in double over what the operand and the matrix really hold.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/reference.h"
#include "ops/tests.h"
#include "ops/trial.h"

namespace baton::ops {

namespace {

constexpr int32_t kCheckedRows = 16;  // of a case with many tokens; the others are held against them by the law

struct Product {
  std::vector<float> x;  // [rows, inputs] as the operand holds them
  const Weights& w;
  int32_t inputs;
  std::vector<double> x_lengths, w_lengths;

  Product(std::vector<float> seen, const Weights& weights, int32_t inputs)
      : x(std::move(seen)), w(weights), inputs(inputs), x_lengths(lengths(x)), w_lengths(lengths(weights.held)) {}

  double sum(size_t row, size_t output) const {
    return reference::dot(&x[row * size_t(inputs)], &w.held[output * size_t(inputs)], inputs);
  }
  double length(size_t row, size_t output) const { return x_lengths[row] * w_lengths[output]; }

 private:
  std::vector<double> lengths(const std::vector<float>& values) const {
    std::vector<double> all(values.size() / size_t(inputs));
    for (size_t i = 0; i < all.size(); i++) {
      const float* row = &values[i * size_t(inputs)];
      all[i] = std::sqrt(reference::dot(row, row, inputs));
    }
    return all;
  }
};

// All rows, or some.
std::vector<int32_t> checked_rows(Trial& trial) {
  const int32_t tokens = trial.asked.tokens;
  std::vector<int32_t> rows(size_t(std::min(tokens, tokens > 160 ? kCheckedRows : tokens)));
  std::iota(rows.begin(), rows.end(), 0);
  if (int32_t(rows.size()) == tokens) return rows;
  for (int32_t& row : rows) row = trial.random.integer(0, tokens - 1);
  return rows;
}

// The law: `multiply` gives rows of x the bits that they have in `all`, in other company. Of many tokens every row, in
// pieces; of few some. A library need not obey it.
template <typename Multiply>
void check_law(Trial& trial, std::span<const float> x, std::span<const float> all, const Multiply& multiply) {
  const Case& one = trial.asked;
  if (!trial.device.library.empty() && one.type == WeightType::bf16) return;
  for (int32_t begin = 0; begin < one.tokens;) {
    const int32_t end = std::min(one.tokens, begin + (begin == 0 ? 1 : trial.random.integer(1, 70)));
    const std::string name = "rows " + std::to_string(begin) + " to " + std::to_string(end - 1) + " by themselves";
    same_bits(name, multiply(rows_of(x, one.inputs, begin, end)), rows_of(all, one.outputs, begin, end),
              size_t(one.outputs));
    begin = end;
  }
}

}  // namespace

uint64_t test_matmul(const Device& device, const Case& one, uint64_t seed) {
  Trial trial(device, one, {.vocabulary = one.outputs}, seed);
  const Weights w = trial.weights(one.outputs, one.inputs);
  const auto x = trial.random.normals(size_t(one.tokens) * size_t(one.inputs));
  const auto bias = trial.random.normals(size_t(one.outputs));
  const auto device_bias = trial.vector(bias);
  const auto operand = trial.operand(x, one.tokens, one.inputs);
  const Product product(trial.read(*operand), w, one.inputs);

  const auto multiply = [&](std::span<const float> rows, const Vector* with) {
    const int32_t count = int32_t(rows.size()) / one.inputs;
    const auto some = trial.operand(rows, count, one.inputs);
    const Rows out = trial.rows(count, one.outputs);
    trial.on().matmul(out, *some, *w.matrix, with);
    return trial.read(out);
  };
  const auto out = multiply(x, nullptr);
  const auto biased = multiply(x, device_bias.get());
  for (const int32_t row : checked_rows(trial)) {
    std::vector<double> sums(static_cast<size_t>(one.outputs));
    for (size_t o = 0; o < sums.size(); o++) sums[o] = product.sum(size_t(row), o);
    const auto tolerance = [&](size_t o) { return one.tolerance * product.length(size_t(row), o); };
    const std::string name = "row " + std::to_string(row);
    near(name + " ", rows_of(out, one.outputs, row, row + 1), size_t(one.outputs), [&](size_t o) {
      return Expected{sums[o], tolerance(o)};
    });
    near(name + " with a bias ", rows_of(biased, one.outputs, row, row + 1), size_t(one.outputs), [&](size_t o) {
      return Expected{sums[o] + bias[o], tolerance(o) + 0x1p-23 * std::abs(sums[o] + bias[o])};
    });
  }
  check_law(trial, x, out, [&](std::span<const float> rows) { return multiply(rows, nullptr); });
  return trial.digest();
}

uint64_t test_matmul_add(const Device& device, const Case& one, uint64_t seed) {
  Trial trial(device, one, {.vocabulary = one.outputs}, seed);
  const Weights w = trial.weights(one.outputs, one.inputs);
  const auto x = trial.random.normals(size_t(one.tokens) * size_t(one.inputs));
  const auto before = trial.random.normals(size_t(one.tokens) * size_t(one.outputs));
  const auto operand = trial.operand(x, one.tokens, one.inputs);
  const Product product(trial.read(*operand), w, one.inputs);

  const auto add = [&](std::span<const float> rows, std::span<const float> onto) {
    const int32_t count = int32_t(rows.size()) / one.inputs;
    const auto some = trial.operand(rows, count, one.inputs);
    const Rows out = trial.rows(count, one.outputs);
    trial.write(out, onto);
    trial.on().matmul_add(out, *some, *w.matrix);
    return trial.read(out);
  };
  const auto out = add(x, before);
  for (const int32_t row : checked_rows(trial)) {
    near("row " + std::to_string(row) + " ", rows_of(out, one.outputs, row, row + 1), size_t(one.outputs),
         [&](size_t o) {
           const double sum = product.sum(size_t(row), o) + before[size_t(row) * size_t(one.outputs) + o];
           return Expected{sum, one.tolerance * product.length(size_t(row), o) + 0x1p-23 * std::abs(sum)};
         });
  }
  int32_t begin = 0;
  check_law(trial, x, out, [&](std::span<const float> rows) {
    const int32_t count = int32_t(rows.size()) / one.inputs;
    begin += count;
    return add(rows, rows_of(before, one.outputs, begin - count, begin));
  });
  return trial.digest();
}

uint64_t test_matmul_swiglu(const Device& device, const Case& one, uint64_t seed) {
  Trial trial(device, one, {.vocabulary = one.outputs}, seed);
  const Weights w = trial.gated_weights(one.outputs, one.inputs);
  const auto x = trial.random.normals(size_t(one.tokens) * size_t(one.inputs), 1.5f);
  const auto operand = trial.operand(x, one.tokens, one.inputs);
  const Product product(trial.read(*operand), w, one.inputs);
  const Weights next = trial.weights(1, one.outputs);

  const auto activate = [&](std::span<const float> rows) {
    const int32_t count = int32_t(rows.size()) / one.inputs;
    const auto some = trial.operand(rows, count, one.inputs);
    // Of more rows before, which were no numbers and lay elsewhere.
    const auto out = trial.operand(count + 1, one.outputs, one.type);
    trial.on().matmul_swiglu(*out, *some, *w.matrix);
    require(out->count == count, "the operand does not count its rows");
    const Rows behind = trial.rows(count, 1);
    trial.on().matmul(behind, *out, *next.matrix, nullptr);
    for (const float value : trial.read(behind)) {
      require(std::isfinite(value), "what the operand held before reaches the product behind it");
    }
    return trial.read(*out);
  };
  const auto out = activate(x);
  for (const int32_t row : checked_rows(trial)) {
    constexpr double kSteepest = 1.1;      // silu's slope is never more
    constexpr double kExponential = 2e-6;  // of the value: an exponential and a quotient in float
    std::vector<Expected> expected(static_cast<size_t>(one.outputs));
    double peak = 0;
    for (size_t i = 0; i < expected.size(); i++) {
      const size_t partner = size_t(one.outputs) + i;
      const double gate = product.sum(size_t(row), i), up = product.sum(size_t(row), partner);
      const double value = reference::silu(gate) * up;
      expected[i] = {value, one.tolerance * (kSteepest * std::abs(up) * product.length(size_t(row), i) +
                                             std::abs(reference::silu(gate)) * product.length(size_t(row), partner)) +
                                kExponential * std::abs(value)};
      peak = std::max(peak, std::abs(value));
    }
    near("row " + std::to_string(row) + " ", rows_of(out, one.outputs, row, row + 1), size_t(one.outputs),
         [&](size_t i) {
           return Expected{expected[i].value, expected[i].tolerance + rounding(one.type, expected[i].value, peak)};
         });
  }
  check_law(trial, x, out, activate);
  return trial.digest();
}

}  // namespace baton::ops
