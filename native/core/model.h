#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/weights.h"

namespace baton {

constexpr int32_t kLogitRows = 64;  // rows whose logits exist at one time: a vocabulary of 150k takes 38 MB, not more

// A decoder-only model of the Llama family on a backend. One thread at a time.
class Model {
 public:
  Model(std::unique_ptr<Backend> backend, const BackendOptions& options, Weights weights);

  // Queues one iteration. Throws INVALID_ARGUMENT before anything is changed.
  void step(const StepPlan& plan, const StepResult& result);
  // The oldest of them: see Backend::take.
  bool take(bool wait) { return backend_->take(wait); }

  size_t weight_bytes() const { return weight_bytes_; }

 private:
  void follow_rows(const StepPlan& plan);
  void forward(StepShape shape);

  std::unique_ptr<Backend> backend_;  // first: everything below lies in its memory
  ModelConfig config_;
  PlanLimits limits_;
  std::vector<uint8_t> drew_;  // [rows] whether it drew a token since its start
  std::vector<uint8_t> drew_next_;
  Weights weights_;
  size_t weight_bytes_;
  Rows x_;                                    // [step_tokens, hidden] the residual stream
  Rows qkv_;                                  // [step_tokens, q_width + 2 kv_width]
  Rows selected_;                             // [kLogitRows, hidden]
  Rows logits_;                               // [kLogitRows, vocabulary]
  std::unique_ptr<Operand> normed_;           // [step_tokens, hidden]
  std::unique_ptr<Operand> attended_;         // [step_tokens, q_width]
  std::unique_ptr<Operand> activated_;        // [step_tokens, intermediate]
  std::unique_ptr<Operand> selected_normed_;  // [kLogitRows, hidden]
};

}  // namespace baton
