#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/plan.h"

namespace baton::cpu {

constexpr int32_t kSampleBlock = 64;  // logits of which only the largest is kept at first

struct SampleKernels {
  // maxima[i] = largest of the i-th block of `count` logits (NaN aside); the last block may be short
  void (*block_maxima)(float* maxima, const float* x, int32_t count);
  // out[i] = e^((x[i] − largest) * scale)
  void (*exps)(float* out, const float* x, int32_t count, float largest, float scale);
  // Their sum in double, in a fixed order; NaN if any x is NaN
  double (*sum_exps)(const float* x, int32_t count, float largest, float scale);
};

SampleKernels scalar_sample_kernels();

// Draws the rows' tokens. In this order (that of vLLM's sampler, but that bias comes after the penalties, so that it is
// what it says):
//
//   log-probabilities  of the raw logits: log softmax, before all below
//   penalties          repetition over prompt and output: logit / p if positive, logit * p if not (Keskar et al., CTRL,
//                      2019); presence and frequency over output: logit − presence − frequency * times (OpenAI's API)
//   bias               added; −infinity bans a token
//   min_tokens         bans stop_tokens while fewer tokens than that have been generated
//   temperature        0 (below 1e-5): the largest logit, of equal ones the lowest token. Else logits / temperature,
//   then min_p              tokens at least min_p times as likely as the likeliest top_k              the first top_k
//   of them, by logit, of equal ones the lower token first top_p              the fewest of those, from the first,
//   whose share of what is left so far is at least top_p draw               the first of those at which the running sum
//   of shares exceeds a number uniform in [0, 1)
//
// That number depends on the row's seed and the position of the token drawn, nothing else. A row's state is touched by
// no other row's calls, so rows may be sampled by different threads at once.
class Sampler {
 public:
  Sampler(int32_t rows, int32_t vocabulary, const SampleKernels& kernels);

  void start(const RowStart& start);
  void move(const RowMove& move);  // what was in `to` is over
  // Draws the token at `position` of the row's request from logits [vocabulary], which it overwrites. −1, and nothing
  // remembered, if they hold a NaN or no finite maximum, or every token is banned. Allocates nothing.
  void sample(int32_t row, int32_t position, float* logits, const StepResult& result);
  // The token last drawn for the row; 0 where that was none.
  int32_t drawn(int32_t row) const { return rows_[size_t(row)].drawn; }

 private:
  static constexpr int32_t kBuckets = 128;

  struct Seen {
    int32_t token;
    int32_t times;  // in the output; 0: only in the prompt
  };
  struct Raw {
    int32_t token;
    float logit;
  };
  struct Candidate {
    float logit;
    int32_t token;
    float weight;  // e^((logit − largest) / temperature)
  };
  struct Row {
    Sampling sampling;
    int32_t prompt_length = 0;
    int32_t drawn = 0;
    std::vector<Seen> seen;  // by token; empty unless penalties are on
    // What one call works in. start reserves the most it can need; it takes room when used.
    std::vector<float> maxima;  // [blocks]
    std::vector<float> ranked;  // [blocks]
    std::vector<Raw> raw;       // logits that have been adjusted; a token's first entry is its raw one
    std::vector<Candidate> candidates;
    std::array<double, kBuckets> buckets;  // weight of the candidates by their distance from the largest logit
  };
  struct Scale {
    float largest;
    float inverse_temperature;
  };
  struct Reached {
    int32_t token;
    double sum;
  };

  static bool before(const Candidate& a, const Candidate& b);
  static int32_t bucket_of(float logit, const Scale& scale);

  float largest_of(Row& row, const float* logits) const;
  float threshold_of(Row& row, int32_t count) const;
  template <typename Body>
  void for_each_until(const Candidate& last, const Row& row, const float* logits, const Scale& scale,
                      const Body& body) const;
  void adjust(Row& row, int32_t position, float* logits) const;
  int32_t first_at(const Row& row, const float* logits, float largest) const;
  int32_t draw(Row& row, int32_t position, const float* logits, float largest) const;
  double fill_buckets(Row& row, const Candidate& last, const float* logits, const Scale& scale) const;
  void collect(int32_t bucket, Row& row, const Candidate& last, const float* logits, const Scale& scale) const;
  Reached first_reaching(double target, Row& row, const Candidate& last, const float* logits, const Scale& scale) const;

  int32_t vocabulary_;
  SampleKernels kernels_;
  std::vector<Row> rows_;
};

}  // namespace baton::cpu
