#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace baton {

constexpr int32_t kTile = 64;         // slots; spans start and grow in multiples of it
constexpr int32_t kTopLogprobs = 20;  // alternatives a result has room for, per row
// A token that stands for the one last drawn for its run's row, so that a step can be queued before the host has seen
// what the step before it drew. Only where the run has this one token and a row that has drawn since its start.
constexpr int32_t kDrawn = -1;

// Tokens of one request computed in this step. The key of position p lies in slot offset + masked + p.
struct Run {
  int32_t row;       // its last token is sampled for this row; -1: not sampled
  int32_t offset;    // first slot of the span
  int32_t masked;    // leading slots that are padding
  int32_t position;  // of its first token
  int32_t count;     // tokens
};

// Copy of `count` slots, all layers. May overlap itself; never what another move reads or writes. Slots are numbered
// through: the arena's, then those in host memory. A move that leaves the arena parks, one that enters it unparks; none
// lies within host memory.
struct Move {
  int32_t from, to, count;
};

// Per-row state follows a request from one row to another.
struct RowMove {
  int32_t from, to;
};

// How a row's tokens are drawn; the meanings and ranges are those of `Sampling` in src/native.ts.
struct Sampling {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint64_t seed = 0;
  int32_t logprobs = 0;
  int32_t min_tokens = 0;  // while fewer were generated, stop_tokens are banned
  std::vector<int32_t> stop_tokens = {};
  std::vector<std::pair<int32_t, float>> bias = {};  // token, added to its logit

  bool penalised() const { return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0; }
};

// A row that changes hands in this step.
struct RowStart {
  int32_t row;
  Sampling sampling;
  std::vector<int32_t> tokens;  // prompt and output so far
  int32_t prompt_length;
};

// What one step asks of the device, as it came from TypeScript. check() is called before anything else sees it.
struct StepPlan {
  std::span<const Move> moves;
  std::span<const RowMove> row_moves;
  std::span<const RowStart> starts;
  std::span<const Run> runs;
  std::span<const int32_t> tokens;  // of all runs, one after another
};

struct PlanLimits {
  int32_t slots, host_slots, rows, step_tokens, context, vocabulary;
};

void check(const StepPlan& plan, const PlanLimits& limits);  // throws INVALID_ARGUMENT

// Where a step's answers go; each array is indexed by row. Memory of the caller, valid until the step has ended.
struct StepResult {
  std::span<int32_t> sampled;     // [rows]; -1 where the logits hold no finite maximum
  std::span<float> logprobs;      // [rows]
  std::span<int32_t> top_tokens;  // [rows, kTopLogprobs]
  std::span<float> top_logprobs;  // [rows, kTopLogprobs]
};

}  // namespace baton
