#include "cpu/sample.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "cpu/random.h"

namespace baton::cpu {

namespace {

constexpr float kGreedyTemperature = 1e-5f;  // below it, as vLLM does, the draw could only be the largest
constexpr float kLowest = std::numeric_limits<float>::lowest();

// Blocks looked at first for a draw, and how many times as many after each time that was not enough.
constexpr int32_t kFirstBlocks = 64;
constexpr int32_t kMoreBlocks = 8;

void block_maxima(float* maxima, const float* x, int32_t count) {
  for (int32_t begin = 0; begin < count; begin += kSampleBlock) {
    float largest = -std::numeric_limits<float>::infinity();
    for (int32_t i = begin; i < std::min(begin + kSampleBlock, count); i++) largest = std::max(largest, x[i]);
    maxima[begin / kSampleBlock] = largest;
  }
}

void exps(float* out, const float* x, int32_t count, float largest, float scale) {
  for (int32_t i = 0; i < count; i++) out[i] = float(std::exp((double(x[i]) - largest) * scale));
}

double sum_exps(const float* x, int32_t count, float largest, float scale) {
  double sum = 0;
  for (int32_t i = 0; i < count; i++) sum += float(std::exp((double(x[i]) - largest) * scale));
  return sum;
}

}  // namespace

SampleKernels scalar_sample_kernels() { return {block_maxima, exps, sum_exps}; }

Sampler::Sampler(int32_t rows, int32_t vocabulary, const SampleKernels& kernels)
    : vocabulary_(vocabulary), kernels_(kernels), rows_(size_t(rows)) {
  for (Row& row : rows_) row.maxima.resize(size_t((vocabulary + kSampleBlock - 1) / kSampleBlock));
}

void Sampler::start(const RowStart& start) {
  Row& row = rows_[size_t(start.row)];
  const Sampling& sampling = row.sampling = start.sampling;
  row.prompt_length = start.prompt_length;
  row.seen.clear();
  if (sampling.temperature >= kGreedyTemperature || sampling.logprobs > 0) {
    row.ranked.resize(row.maxima.size());
    row.candidates.reserve(size_t(vocabulary_));
  }
  row.raw.reserve(sampling.bias.size() + sampling.stop_tokens.size() + (sampling.penalised() ? size_t(vocabulary_) : 0));
  if (!sampling.penalised()) return;

  row.seen.reserve(size_t(vocabulary_));
  std::vector<Seen> tokens;
  tokens.reserve(start.tokens.size());
  for (size_t i = 0; i < start.tokens.size(); i++) {
    tokens.push_back({start.tokens[i], i < size_t(start.prompt_length) ? 0 : 1});
  }
  std::sort(tokens.begin(), tokens.end(), [](const Seen& a, const Seen& b) { return a.token < b.token; });
  for (const Seen& one : tokens) {
    if (row.seen.empty() || row.seen.back().token != one.token) row.seen.push_back({one.token, 0});
    row.seen.back().times += one.times;
  }
}

void Sampler::move(const RowMove& move) { std::swap(rows_[size_t(move.to)], rows_[size_t(move.from)]); }

void Sampler::sample(int32_t index, int32_t position, float* logits, const StepResult& result) {
  Row& row = rows_[size_t(index)];
  result.sampled[size_t(index)] = -1;
  result.logprobs[size_t(index)] = std::numeric_limits<float>::quiet_NaN();

  const float raw_largest = largest_of(row, logits);
  if (!std::isfinite(raw_largest)) return;
  const double log_sum = std::log(kernels_.sum_exps(logits, vocabulary_, raw_largest, 1));
  if (std::isnan(log_sum)) return;
  const auto logprob = [&](float logit) { return float(double(logit) - raw_largest - log_sum); };

  if (row.sampling.logprobs > 0) {
    const auto top = size_t(std::min(row.sampling.logprobs, vocabulary_));
    gather(row, logits, threshold_of(row, int32_t(top)), raw_largest, 1);
    std::partial_sort(row.candidates.begin(), row.candidates.begin() + std::min(top, row.candidates.size()),
                      row.candidates.end(), before);
    for (size_t i = 0; i < size_t(row.sampling.logprobs); i++) {
      const bool exists = i < row.candidates.size();
      const size_t place = size_t(index) * kTopLogprobs + i;
      result.top_tokens[place] = exists ? row.candidates[i].token : -1;
      result.top_logprobs[place] = exists ? logprob(row.candidates[i].logit) : -std::numeric_limits<float>::infinity();
    }
  }

  adjust(row, position, logits);
  const float largest = row.raw.empty() ? raw_largest : largest_of(row, logits);
  if (!std::isfinite(largest)) return;
  const bool greedy = row.sampling.temperature < kGreedyTemperature;
  const int32_t token = greedy ? first_at(row, logits, largest) : draw(row, position, logits, largest);

  const auto changed = std::find_if(row.raw.begin(), row.raw.end(), [&](const Raw& raw) { return raw.token == token; });
  result.sampled[size_t(index)] = token;
  result.logprobs[size_t(index)] = logprob(changed == row.raw.end() ? logits[token] : changed->logit);
  if (!row.sampling.penalised()) return;
  const auto seen = std::lower_bound(row.seen.begin(), row.seen.end(), token,
                                     [](const Seen& one, int32_t value) { return one.token < value; });
  if (seen != row.seen.end() && seen->token == token) {
    seen->times++;
  } else {
    row.seen.insert(seen, {token, 1});
  }
}

// Penalties, bias and bans, in that order. row.raw: what was there before.
void Sampler::adjust(Row& row, int32_t position, float* logits) const {
  const Sampling& sampling = row.sampling;
  row.raw.clear();
  for (const Seen& one : row.seen) {
    float& logit = logits[one.token];
    row.raw.push_back({one.token, logit});
    logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    if (one.times > 0) logit -= sampling.presence_penalty + sampling.frequency_penalty * float(one.times);
  }
  for (const auto& [token, value] : sampling.bias) {
    row.raw.push_back({token, logits[token]});
    logits[token] += value;
  }
  if (position - row.prompt_length >= sampling.min_tokens) return;
  for (const int32_t token : sampling.stop_tokens) {
    row.raw.push_back({token, logits[token]});
    logits[token] = -std::numeric_limits<float>::infinity();
  }
}

// The largest logit; row.maxima: those of the blocks.
float Sampler::largest_of(Row& row, const float* logits) const {
  kernels_.block_maxima(row.maxima.data(), logits, vocabulary_);
  return *std::max_element(row.maxima.begin(), row.maxima.end());
}

// A logit that at least `count` tokens reach, by the blocks' maxima alone; the lowest number: all that are not banned.
float Sampler::threshold_of(Row& row, int32_t count) const {
  if (size_t(count) >= row.maxima.size()) return kLowest;
  row.ranked = row.maxima;
  std::nth_element(row.ranked.begin(), row.ranked.begin() + (count - 1), row.ranked.end(), std::greater<float>());
  return std::max(row.ranked[size_t(count - 1)], kLowest);
}

// row.candidates = all tokens whose logit is at least `threshold`, by token.
void Sampler::gather(Row& row, const float* logits, float threshold, float largest, float scale) const {
  row.candidates.clear();
  for (size_t block = 0; block < row.maxima.size(); block++) {
    if (row.maxima[block] < threshold) continue;
    const int32_t begin = int32_t(block) * kSampleBlock;
    const int32_t count = std::min(kSampleBlock, vocabulary_ - begin);
    float weights[kSampleBlock];
    kernels_.exps(weights, logits + begin, count, largest, scale);
    for (int32_t i = 0; i < count; i++) {
      if (logits[begin + i] >= threshold) row.candidates.push_back({logits[begin + i], begin + i, weights[i]});
    }
  }
}

int32_t Sampler::first_at(const Row& row, const float* logits, float largest) const {
  const auto block = std::find(row.maxima.begin(), row.maxima.end(), largest) - row.maxima.begin();
  const float* begin = logits + block * kSampleBlock;
  return int32_t(std::find(begin, logits + vocabulary_, largest) - logits);
}

int32_t Sampler::draw(Row& row, int32_t position, const float* logits, float largest) const {
  const Sampling& sampling = row.sampling;
  const float scale = 1 / sampling.temperature;
  const float floor = std::max(largest + sampling.temperature * std::log(sampling.min_p), kLowest);  // min_p 0: lowest
  const bool counted = sampling.top_k > 0 && sampling.top_k < vocabulary_;

  // The candidates are those that min_p and top_k leave, or as many of the first as the draw turns out to need.
  int32_t blocks = counted ? sampling.top_k : kFirstBlocks;
  const float threshold = counted || floor == kLowest ? threshold_of(row, blocks) : kLowest;
  bool complete = counted || floor > kLowest || threshold == kLowest;
  gather(row, logits, std::max(floor, threshold), largest, scale);
  if (counted && row.candidates.size() > size_t(sampling.top_k)) {
    std::nth_element(row.candidates.begin(), row.candidates.begin() + sampling.top_k, row.candidates.end(), before);
    row.candidates.resize(size_t(sampling.top_k));
  }
  double weight = complete ? weight_of(row.candidates) : kernels_.sum_exps(logits, vocabulary_, largest, scale);

  const auto first_reaching = [&](double target) {
    while (!complete && weight_of(row.candidates) < target) {
      blocks = blocks > vocabulary_ / kMoreBlocks ? vocabulary_ : blocks * kMoreBlocks;
      const float lower = threshold_of(row, blocks);
      complete = lower == kLowest;
      gather(row, logits, lower, largest, scale);
    }
    return prefix(row.candidates, target);
  };
  if (sampling.top_p < 1) {
    const Prefix nucleus = first_reaching(sampling.top_p * weight);
    row.candidates.resize(nucleus.count);
    weight = nucleus.weight;
    complete = true;
  }
  // More than u * weight, that is, the next double at least.
  const double target = std::nextafter(uniform(sampling.seed, uint32_t(position)) * weight, HUGE_VAL);
  return row.candidates[first_reaching(target).count - 1].token;
}

bool Sampler::before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

double Sampler::weight_of(const std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& one : candidates) sum += one.weight;
  return sum;
}

// The fewest candidates, from the first, whose weights sum up to `target`; all, if they do not. They are brought to the
// front, in no order but that the last of them comes last. A quickselect by weight: no more is sorted than needed.
Sampler::Prefix Sampler::prefix(std::vector<Candidate>& candidates, double target) {
  constexpr std::ptrdiff_t kSorted = 32;
  auto begin = candidates.begin();
  auto end = candidates.end();
  double sum = 0;
  while (end - begin > kSorted) {
    const Candidate a = *begin, b = begin[(end - begin) / 2], c = end[-1];
    const Candidate pivot = std::max(std::min(a, b, before), std::min(std::max(a, b, before), c, before), before);
    const auto middle = std::partition(begin, end, [&](const Candidate& one) { return !before(pivot, one); });
    double left = 0;
    for (auto one = begin; one != middle; ++one) left += one->weight;
    if (sum + left >= target) {
      end = middle;
    } else {
      sum += left;
      begin = middle;
    }
  }
  std::sort(begin, end, before);
  for (; begin != end; ++begin) {
    sum += begin->weight;
    if (sum >= target) return {size_t(begin - candidates.begin()) + 1, sum};
  }
  return {size_t(end - candidates.begin()), sum};
}

}  // namespace baton::cpu
