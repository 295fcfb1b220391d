#include "ops/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "core/random.h"

namespace baton::ops::reference {

namespace {

constexpr float kGreedyTemperature = 1e-5f;

struct Candidate {
  int32_t token;
  float logit;
  double weight;  // e^((logit - largest) / temperature)
};

bool before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

std::vector<Candidate> ranked(std::span<const float> logits) {
  std::vector<Candidate> all;
  for (size_t token = 0; token < logits.size(); token++) {
    if (logits[token] > -INFINITY) all.push_back({int32_t(token), logits[token], 0});
  }
  std::sort(all.begin(), all.end(), before);
  return all;
}

// Penalties, bias and bans, in the order and the precision of the definition.
std::vector<float> adjusted(std::span<const float> raw, const Sampling& sampling, std::span<const int32_t> tokens,
                            int32_t prompt_length) {
  std::vector<float> logits(raw.begin(), raw.end());
  std::vector<int32_t> times(raw.size(), -1);  // -1: never, 0: in the prompt
  for (size_t i = 0; i < tokens.size(); i++) {
    int32_t& count = times[size_t(tokens[i])];
    count = std::max(count, 0) + (i >= size_t(prompt_length) ? 1 : 0);
  }
  for (size_t token = 0; token < logits.size() && sampling.penalised(); token++) {
    if (times[token] < 0) continue;
    float& logit = logits[token];
    logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    if (times[token] > 0) logit -= sampling.presence_penalty + sampling.frequency_penalty * float(times[token]);
  }
  for (const auto& [token, value] : sampling.bias) {
    logits[size_t(token)] = value > -INFINITY ? logits[size_t(token)] + value : value;
  }
  if (int32_t(tokens.size()) - prompt_length < sampling.min_tokens) {
    for (const int32_t token : sampling.stop_tokens) logits[size_t(token)] = -INFINITY;
  }
  return logits;
}

// The rank drawn where borders and sums are off by these parts of themselves.
struct Errors {
  double min_p, top_p, random;
};

size_t drawn_rank(std::span<const Candidate> all, const Sampling& sampling, double random, Errors errors) {
  size_t left = all.size();
  while (left > 1 && all[left - 1].weight < sampling.min_p * (1 + errors.min_p)) left--;
  if (sampling.top_k > 0) left = std::min(left, size_t(sampling.top_k));
  double total = 0;
  for (size_t i = 0; i < left; i++) total += all[i].weight;
  if (sampling.top_p < 1) {
    const double share = double(sampling.top_p) * total * (1 + errors.top_p);
    size_t kept = 0;
    double sum = 0;
    while (kept < left && sum < share) sum += all[kept++].weight;
    left = std::max(kept, size_t(1));
    total = sum;
  }
  const double target = (random + errors.random) * total;
  double sum = all[0].weight;
  size_t rank = 0;
  while (rank + 1 < left && sum <= target) sum += all[++rank].weight;
  return rank;
}

}  // namespace

double dot(const float* a, const float* b, int32_t count) {
  constexpr int32_t kSums = 8;  // so that the compiler may use vectors
  double sums[kSums] = {};
  int32_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int32_t j = 0; j < kSums; j++) sums[j] += double(a[i + j]) * b[i + j];
  }
  for (; i < count; i++) sums[0] += double(a[i]) * b[i];
  return std::accumulate(sums, sums + kSums, 0.0);
}

double silu(double x) { return x / (1 + std::exp(-x)); }

std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double eps) {
  const double scale = 1 / std::sqrt(dot(x.data(), x.data(), int32_t(x.size())) / double(x.size()) + eps);
  std::vector<double> out(x.size());
  for (size_t i = 0; i < x.size(); i++) out[i] = x[i] * scale * weight[i];
  return out;
}

void rope(std::span<double> x, const ModelConfig& config, int32_t position) {
  const size_t half = x.size() / 2;
  const RopeScaling& scaling = config.rope_scaling;
  for (size_t i = 0; i < half; i++) {
    double frequency = std::pow(config.rope_theta, -2.0 * double(i) / double(x.size()));
    if (scaling.kind == RopeScaling::Kind::linear) frequency /= scaling.factor;
    if (scaling.kind == RopeScaling::Kind::llama3) {
      // Between two wavelengths, a mixture of the frequency and its factor-th part (Llama 3.1's own rule).
      const double turns = scaling.original_context * frequency / (2 * std::numbers::pi);
      const double share =
          (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor);
      const double kept = std::clamp(share, 0.0, 1.0);
      frequency = kept * frequency + (1 - kept) * frequency / scaling.factor;
    }
    const double cosine = std::cos(position * frequency), sine = std::sin(position * frequency);
    const double a = x[i], b = x[i + half];
    x[i] = a * cosine - b * sine;
    x[i + half] = b * cosine + a * sine;
  }
}

std::vector<double> attention(std::span<const float> q, const float* keys, const float* values, int64_t stride,
                              int32_t positions) {
  const int32_t head_dim = int32_t(q.size());
  std::vector<double> weights(static_cast<size_t>(positions));
  for (int32_t p = 0; p < positions; p++) {
    weights[size_t(p)] = dot(q.data(), keys + p * stride, head_dim) / std::sqrt(double(head_dim));
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  std::vector<double> out(q.size());
  for (int32_t p = 0; p < positions; p++) {
    const double weight = weights[size_t(p)] / sum;
    for (size_t i = 0; i < out.size(); i++) out[i] += weight * values[p * stride + int64_t(i)];
  }
  return out;
}

Draw sample(std::span<const float> logits, const Sampling& sampling, std::span<const int32_t> tokens,
            int32_t prompt_length) {
  // Shares of 4e-6 are what sums in float of float exponentials may differ by; borders compare single exponentials, of
  // quotients that are themselves rounded.
  constexpr double kSumError = 4e-6;
  constexpr double kBorderError = 2e-5;
  const Draw nothing = {{-1}, {}, {}};
  if (std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isnan(logit); })) return nothing;
  const std::vector<Candidate> raw = ranked(logits);
  if (raw.empty() || raw[0].logit == INFINITY) return nothing;
  double sum = 0;
  for (const Candidate& one : raw) sum += std::exp(double(one.logit) - raw[0].logit);
  Draw draw;
  for (const float logit : logits) draw.logprobs.push_back(double(logit) - raw[0].logit - std::log(sum));
  for (size_t i = 0; i < std::min(raw.size(), size_t(sampling.logprobs)); i++) draw.top.push_back(raw[i].token);

  std::vector<Candidate> left = ranked(adjusted(logits, sampling, tokens, prompt_length));
  if (left.empty() || left[0].logit == INFINITY) return nothing;
  if (sampling.temperature < kGreedyTemperature) {
    draw.tokens = {left[0].token};
    return draw;
  }
  for (Candidate& one : left) one.weight = std::exp((double(one.logit) - left[0].logit) / sampling.temperature);
  const double random = uniform(sampling.seed, uint32_t(tokens.size()));
  const size_t defined = drawn_rank(left, sampling, random, {});
  draw.tokens = {left[defined].token};
  size_t lowest = defined, highest = defined;
  for (const double min_p : {-kBorderError, kBorderError}) {
    for (const double top_p : {-kSumError, kSumError}) {
      for (const double error : {-kSumError, kSumError}) {
        const size_t rank = drawn_rank(left, sampling, random, {min_p, top_p, error});
        lowest = std::min(lowest, rank);
        highest = std::max(highest, rank);
      }
    }
  }
  for (size_t rank = lowest; rank <= highest; rank++) draw.tokens.push_back(left[rank].token);
  return draw;
}

}  // namespace baton::ops::reference
