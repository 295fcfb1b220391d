#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/config.h"
#include "core/plan.h"

// What every op is defined to be, in double, over the values that its operands really hold.
namespace baton::ops::reference {

double dot(const float* a, const float* b, int32_t count);

double silu(double x);

// x[i] * weight[i] / sqrt(mean(x^2) + eps)
std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double eps);

// (x[i], x[i + half]) turned by position * the i-th frequency, half = x.size() / 2.
void rope(std::span<double> x, const ModelConfig& config, int32_t position);

// One head of one token: softmax(q K^T / sqrt(head_dim)) V. The key of position p begins at keys[p * stride], its value
// at values[p * stride].
std::vector<double> attention(std::span<const float> q, const float* keys, const float* values, int64_t stride,
                              int32_t positions);

// What a row may draw by the rules of cpu/sample.h.
struct Draw {
  // The token defined, and all that are drawn where borders and sums are off by no more than floats may be. -1 alone:
  // there is nothing to draw.
  std::vector<int32_t> tokens;
  std::vector<double> logprobs;  // [vocabulary] of the logits as they came
  std::vector<int32_t> top;      // the likeliest of them, as many as sampling.logprobs, that have any probability
};
// tokens: of the request so far, the first prompt_length of them its prompt.
Draw sample(std::span<const float> logits, const Sampling& sampling, std::span<const int32_t> tokens,
            int32_t prompt_length);

}  // namespace baton::ops::reference
