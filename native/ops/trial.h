#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/backend.h"
#include "ops/cases.h"
#include "ops/device.h"
#include "ops/random.h"

namespace baton::ops {

// What a test throws: the first wrong element, and how many there are.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a backend must have room for.
struct Room {
  int32_t slots = kTile;
  int32_t host_slots = 0;
  int32_t rows = 1;
  int32_t step_tokens = kTile;
  int32_t context = kTile;
  int32_t vocabulary = 1;
};

BackendOptions options_of(const Case& one, const Room& room);

// A plan that owns its parts.
struct Plan {
  std::vector<Move> moves = {};
  std::vector<RowMove> row_moves = {};
  std::vector<RowStart> starts = {};
  std::vector<Run> runs = {};
  std::vector<int32_t> tokens = {};

  StepPlan view() const { return {moves, row_moves, starts, runs, tokens}; }
};

// A plan's answers, one place per row.
struct Answers {
  std::vector<int32_t> sampled, top_tokens;
  std::vector<float> logprobs, top_logprobs;

  explicit Answers(int32_t rows);
  StepResult view() { return {sampled, logprobs, top_tokens, top_logprobs}; }
};

// Weights on a device, and what it really holds of them.
struct Weights {
  std::unique_ptr<Matrix> matrix;
  std::vector<float> held;  // [outputs, inputs]; gated: gates, then ups
};

// A backend for one case: outputs hold NaN before they are written, and rows behind the last must keep it.
class Trial {
 public:
  Trial(const Device& device, const Case& one, const Room& room, uint64_t seed);

  Random random;
  const Device& device;
  const Case asked;
  const ModelConfig& config() const { return options_.config; }

  Backend& on() { return *backend_; }
  // Waits for the step: its answers are there.
  Answers& answers();

  // Starts a step of `plan`; answers are poisoned.
  StepShape begin(const Plan& plan);

  // `count` rows of room, and one more; write() fills all behind `values` with NaN.
  Rows rows(int32_t count, int32_t width);
  void write(Rows to, std::span<const float> values);
  void poison(Rows rows) { write(rows, {}); }
  // Throws if the row behind the last has been written to.
  std::vector<float> read(Rows from);
  std::vector<float> read(const Operand& from);
  // An operand full of NaN.
  std::unique_ptr<Operand> operand(int32_t capacity, int32_t width, WeightType type);
  // An operand of the case's type that holds `values`.
  std::unique_ptr<Operand> operand(std::span<const float> values, int32_t rows, int32_t width);
  std::unique_ptr<Vector> vector(std::span<const float> values);
  // Random weights of deviation 1 / sqrt(inputs), from several tensors where there are outputs enough.
  Weights weights(int32_t outputs, int32_t inputs);
  Weights gated_weights(int32_t width, int32_t inputs);

  // Of all that was read: the same inputs must give the same bits whatever the schedule.
  uint64_t digest() const { return digest_; }

 private:
  std::vector<float> hold(const Matrix& matrix, std::vector<float> values);

  BackendOptions options_;
  std::unique_ptr<Backend> backend_;
  Answers answers_;
  uint64_t digest_ = 0;
};

// What a value should be, and how far off it may be.
struct Expected {
  double value;
  double tolerance;
};

[[noreturn]] void fail(const std::string& what, size_t wrong, size_t count, size_t first, size_t width, double received,
                       Expected expected);

// Every value is within expected(i).tolerance of expected(i).value; NaN only where that is NaN.
template <typename Expect>
void near(const std::string& what, std::span<const float> received, size_t width, const Expect& expected) {
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < received.size(); i++) {
    const Expected one = expected(i);
    const bool right =
        std::isnan(one.value) ? std::isnan(received[i]) : std::abs(double(received[i]) - one.value) <= one.tolerance;
    if (!right && wrong++ == 0) first = i;
  }
  if (wrong > 0) fail(what, wrong, received.size(), first, width, double(received[first]), expected(first));
}

// The same bits; one NaN is as good as another.
void same_bits(const std::string& what, std::span<const float> received, std::span<const float> expected, size_t width);

void require(bool holds, const std::string& what);

// How far a value of type `type` may be from the number it stands for, beside other errors; `peak`: the largest
// magnitude of its row.
double rounding(WeightType type, double value, double peak);

double largest_magnitude(std::span<const float> values);

// values[begin * width] .. values[end * width]
std::span<const float> rows_of(std::span<const float> values, int32_t width, int32_t begin, int32_t end);

}  // namespace baton::ops
