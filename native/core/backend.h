#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/config.h"
#include "core/plan.h"
#include "core/tensor.h"

namespace baton {

// Rows of `width` floats in backend memory. Owns nothing.
struct Rows {
  void* data;
  int32_t count;
  int32_t width;

  Rows first(int32_t rows) const { return {data, rows, width}; }
};

// A weight matrix in the backend's packed format. y[outputs] = W[outputs, inputs] x[inputs].
struct Matrix {
  int32_t outputs = 0;
  int32_t inputs = 0;
  bool gated = false;  // made by gated_matrix
  WeightType type = WeightType::f32;
  size_t bytes = 0;  // of backend memory
  virtual ~Matrix() = default;
};

// Rows in the form in which the backend's matrix products read them (packed, rounded or quantised).
struct Operand {
  int32_t capacity = 0;  // rows
  int32_t width = 0;
  int32_t count = 0;  // rows now in it
  WeightType type = WeightType::f32;
  virtual ~Operand() = default;
};

// A vector of float weights in backend memory.
struct Vector {
  int32_t size = 0;
  virtual ~Vector() = default;
};

struct BackendOptions {
  ModelConfig config;
  WeightType weights;
  KvType kv;
  int32_t slots;        // of the arena; a multiple of kTile
  int32_t host_slots;   // behind them, in host memory: where requests are parked; a multiple of kTile
  int32_t rows;         // most rows a plan may name
  int32_t step_tokens;  // most tokens of one step
  int32_t context;      // most tokens of one request
};

constexpr int32_t kStepsUnderway = 2;  // most steps begun and not taken

// The forward pass of a step: at least as many tokens and sampled rows as its plan has. A backend that replays recorded
// steps rounds them up; what it computes for the surplus is thrown away.
struct StepShape {
  int32_t tokens;
  int32_t sampled;
};

// One method per operation of the forward pass. Calls are queued in order and may return early; sync() waits for all
// of them. cpu/ is the definition of what each method computes. The law of numerics: what a method computes for one
// token has the same bits whatever other tokens, rows, chunk borders or threads there are.
struct Backend {
  virtual ~Backend() = default;

  // Load. `parts` are row-major [outputs_i, inputs] tensors stacked along outputs; the result owns a copy.
  virtual std::unique_ptr<Matrix> matrix(std::span<const TensorView> parts, WeightType type) = 0;
  // gate and up: [width, inputs] each, for matmul_swiglu only; outputs becomes 2 width.
  virtual std::unique_ptr<Matrix> gated_matrix(const TensorView& gate, const TensorView& up, WeightType type) = 0;
  virtual std::unique_ptr<Vector> vector(std::span<const TensorView> parts) = 0;  // stacked
  virtual Rows rows(int32_t count, int32_t width) = 0;                            // lives as long as the backend
  virtual std::unique_ptr<Operand> operand(int32_t capacity, int32_t width, WeightType type) = 0;

  // Starts a step: applies moves, row moves and row starts, and keeps runs and tokens for the methods below. What is
  // drawn is in `result` after take().
  virtual StepShape begin(const StepPlan& plan, const StepResult& result) = 0;
  // Calls `forward`, which calls the methods below; or replays what an earlier step of the same shape called.
  virtual void run(const std::function<void()>& forward) { forward(); }
  // Ends the step begun last: what it drew is fetched. The next may begin before this one has been carried out.
  virtual void end() {}
  // Takes the oldest step that has ended: what it drew is in its result. False if it has not been carried out yet, and
  // nobody is to wait for that; never where calls do not return early.
  virtual bool take(bool /*wait*/) { return true; }

  // out[t] = table[token t]
  virtual void embedding(Rows out, const Matrix& table) = 0;
  // out[r, i] = x[r, i] * weight[i] / sqrt(mean(x[r]^2) + eps); out.count becomes x.count
  virtual void rms_norm(Operand& out, Rows x, const Vector& weight, float eps) = 0;
  // out = x as a matrix product's operand
  virtual void convert(Operand& out, Rows x) = 0;
  // out[r, o] = sum_i x[r, i] w[o, i] + bias[o]      (bias may be null)
  virtual void matmul(Rows out, const Operand& x, const Matrix& w, const Vector* bias) = 0;
  // out[r, o] += sum_i x[r, i] w[o, i]               (the residual stream)
  virtual void matmul_add(Rows out, const Operand& x, const Matrix& w) = 0;
  // qkv: [T, q_width + 2 kv_width]. Normalises q and k per head (q_norm, k_norm not null: [head_dim]), rotates q in
  // place and k, and writes k and v of every token to its slot in `layer`.
  virtual void kv_append(Rows qkv, int32_t layer, const Vector* q_norm, const Vector* k_norm) = 0;
  // out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V over positions 0 .. position of t; q is the front of qkv
  virtual void attention(Operand& out, Rows qkv, int32_t layer) = 0;
  // out[r, i] = silu(g) * u, g = sum_j x[r, j] gate[i, j], u = sum_j x[r, j] up[i, j], silu(g) = g / (1 + e^-g)
  virtual void matmul_swiglu(Operand& out, const Operand& x, const Matrix& gate_up) = 0;
  // out[i] = x[last token of the i-th run whose row is not -1]; first .. first + out.count of them
  virtual void select_sampled(Rows out, Rows x, int32_t first) = 0;
  // Draws a token for each of those runs from its logits [vocabulary], which may be overwritten
  virtual void sample(Rows logits, int32_t first) = 0;

  virtual void sync() = 0;

  // Median seconds that each contender's calls take, by the device's own clock where it has one and without the cost of
  // queueing them. The contenders take turns, `repeats` times after one that does not count. For benches.
  virtual std::vector<double> seconds(const std::vector<std::function<void()>>& contenders, int32_t repeats) = 0;

  // Host access, for tests and benches; waits for what was queued. Values are [count, width].
  virtual void write(Rows to, std::span<const float> values) = 0;
  virtual void read(std::span<float> values, Rows from) = 0;
  virtual void read(std::span<float> values, const Operand& from) = 0;  // as matrix products see them: rounded, scaled
};

}  // namespace baton
