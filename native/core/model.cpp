#include "core/model.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"

namespace baton {

Model::Model(std::unique_ptr<Backend> backend, const BackendOptions& options, Weights weights)
    : backend_(std::move(backend)),
      config_(options.config),
      limits_{options.slots,       options.host_slots, options.rows,
              options.step_tokens, options.context,    options.config.vocabulary},
      drew_(size_t(options.rows)),
      weights_(std::move(weights)),
      weight_bytes_(weights_.bytes()) {
  const int32_t tokens = options.step_tokens;
  const int32_t logit_rows = std::min(options.rows, kLogitRows);
  x_ = backend_->rows(tokens, config_.hidden);
  qkv_ = backend_->rows(tokens, config_.qkv_width());
  selected_ = backend_->rows(logit_rows, config_.hidden);
  logits_ = backend_->rows(logit_rows, config_.vocabulary);
  normed_ = backend_->operand(tokens, config_.hidden, options.weights);
  attended_ = backend_->operand(tokens, config_.q_width(), options.weights);
  activated_ = backend_->operand(tokens, config_.intermediate, options.weights);
  selected_normed_ = backend_->operand(logit_rows, config_.hidden, options.weights);
}

void Model::step(const StepPlan& plan, const StepResult& result) {
  check(plan, limits_);
  const size_t rows = size_t(limits_.rows);
  REQUIRE(result.sampled.size() >= rows && result.logprobs.size() >= rows &&
              result.top_tokens.size() >= rows * kTopLogprobs && result.top_logprobs.size() >= rows * kTopLogprobs,
          "INVALID_ARGUMENT", "result: expected room for " + std::to_string(limits_.rows) + " rows");
  follow_rows(plan);
  const StepShape shape = backend_->begin(plan, result);
  if (!plan.runs.empty()) backend_->run([&] { forward(shape); });
  backend_->end();
}

// Keeps drew_; a token that was never drawn throws before anything is changed.
void Model::follow_rows(const StepPlan& plan) {
  std::vector<uint8_t>& drew = drew_next_;
  drew = drew_;
  for (const RowMove& move : plan.row_moves) std::swap(drew[size_t(move.to)], drew[size_t(move.from)]);
  for (const RowStart& start : plan.starts) drew[size_t(start.row)] = 0;
  size_t token = 0;
  for (const Run& run : plan.runs) {
    REQUIRE(
        plan.tokens[token] != kDrawn || drew[size_t(run.row)], "INVALID_ARGUMENT",
        "tokens[" + std::to_string(token) + "]: expected row " + std::to_string(run.row) + " to have drawn a token");
    if (run.row >= 0) drew[size_t(run.row)] = 1;
    token += size_t(run.count);
  }
  drew_.swap(drew_next_);
}

void Model::forward(StepShape shape) {
  Backend& on = *backend_;
  const Rows x = x_.first(shape.tokens), qkv = qkv_.first(shape.tokens);
  on.embedding(x, *weights_.embedding);
  for (int32_t layer = 0; layer < config_.layers; layer++) {
    const LayerWeights& weights = weights_.layers[size_t(layer)];
    on.rms_norm(*normed_, x, *weights.attention_norm, config_.rms_eps);
    on.matmul(qkv, *normed_, *weights.qkv, weights.qkv_bias.get());
    on.kv_append(qkv, layer, weights.q_norm.get(), weights.k_norm.get());
    if (shape.sampled == 0 && layer == config_.layers - 1) return;  // nobody asks for more than keys and values
    on.attention(*attended_, qkv, layer);
    on.matmul_add(x, *attended_, *weights.output);
    on.rms_norm(*normed_, x, *weights.mlp_norm, config_.rms_eps);
    on.matmul_swiglu(*activated_, *normed_, *weights.gate_up);
    on.matmul_add(x, *activated_, *weights.down);
  }
  for (int32_t first = 0; first < shape.sampled; first += kLogitRows) {
    const int32_t rows = std::min(kLogitRows, shape.sampled - first);
    const Rows selected = selected_.first(rows), logits = logits_.first(rows);
    on.select_sampled(selected, x, first);
    on.rms_norm(*selected_normed_, selected, *weights_.norm, config_.rms_eps);
    on.matmul(logits, *selected_normed_, weights_.head(), nullptr);
    on.sample(logits, first);
  }
}

}  // namespace baton
