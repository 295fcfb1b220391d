#include "cpu/sample.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "core/random.h"

namespace baton::cpu {

namespace {

constexpr float kGreedyTemperature = 1e-5f;  // below it, as vLLM does, the draw could only be the largest
constexpr float kLowest = std::numeric_limits<float>::lowest();

constexpr int32_t kFirstBlocks = 64;  // whose maxima tell which candidates a draw looks at first

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
  row.drawn = 0;
  row.seen.clear();
  if (sampling.temperature >= kGreedyTemperature || sampling.logprobs > 0) {
    row.ranked.resize(row.maxima.size());
    row.candidates.reserve(size_t(vocabulary_));
  }
  row.raw.reserve(sampling.bias.size() + sampling.stop_tokens.size() +
                  (sampling.penalised() ? size_t(vocabulary_) : 0));
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
  row.drawn = 0;
  result.logprobs[size_t(index)] = std::numeric_limits<float>::quiet_NaN();

  const float raw_largest = largest_of(row, logits);
  if (!std::isfinite(raw_largest)) return;
  const double log_sum = std::log(kernels_.sum_exps(logits, vocabulary_, raw_largest, 1));
  if (std::isnan(log_sum)) return;
  const auto logprob = [&](float logit) { return float(double(logit) - raw_largest - log_sum); };

  if (row.sampling.logprobs > 0) {
    const auto top = size_t(std::min(row.sampling.logprobs, vocabulary_));
    row.candidates.clear();
    for_each_until({threshold_of(row, int32_t(top)), vocabulary_, 0}, row, logits, {raw_largest, 1},
                   [&](const Candidate& one) { row.candidates.push_back(one); });
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
  result.sampled[size_t(index)] = row.drawn = token;
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
    // A ban holds for what a penalty has made infinite too.
    logits[token] = value > -INFINITY ? logits[token] + value : value;
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

// Calls body(candidate) for every token that does not come after `last`, in the order of tokens.
template <typename Body>
void Sampler::for_each_until(const Candidate& last, const Row& row, const float* logits, const Scale& scale,
                             const Body& body) const {
  for (size_t block = 0; block < row.maxima.size(); block++) {
    if (row.maxima[block] < last.logit) continue;
    const int32_t begin = int32_t(block) * kSampleBlock;
    const int32_t count = std::min(kSampleBlock, vocabulary_ - begin);
    float weights[kSampleBlock];
    kernels_.exps(weights, logits + begin, count, scale.largest, scale.inverse_temperature);
    for (int32_t i = 0; i < count; i++) {
      const Candidate one = {logits[begin + i], begin + i, weights[i]};
      if (!before(last, one)) body(one);
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
  const Scale scale = {largest, 1 / sampling.temperature};
  const double random = uniform(sampling.seed, uint32_t(position));
  const auto target_of = [&](double weight) { return std::nextafter(random * weight, HUGE_VAL); };  // more than that
  const bool counted = sampling.top_k > 0 && sampling.top_k < vocabulary_;
  const float floor = largest + sampling.temperature * std::log(sampling.min_p);  // min_p 0: -infinity

  // min_p and top_k leave the candidates up to `last`.
  Candidate last = {std::max(floor, kLowest), vocabulary_, 0};
  if (counted) {
    last.logit = std::max(last.logit, threshold_of(row, sampling.top_k));
    row.candidates.clear();
    for_each_until(last, row, logits, scale, [&](const Candidate& one) { row.candidates.push_back(one); });
    const auto kth = row.candidates.begin() + (sampling.top_k - 1);
    if (row.candidates.size() > size_t(sampling.top_k)) {
      std::nth_element(row.candidates.begin(), kth, row.candidates.end(), before);
      last = *kth;
    }
  }

  double weight = 0;
  if (last.logit > kLowest) {
    weight = fill_buckets(row, last, logits, scale);
  } else {
    // All are candidates, but often the first few have more weight than is asked for below.
    weight = kernels_.sum_exps(logits, vocabulary_, largest, scale.inverse_temperature);
    const double needed = sampling.top_p < 1 ? sampling.top_p * weight : target_of(weight);
    const Candidate few = {threshold_of(row, kFirstBlocks), vocabulary_, 0};
    if (fill_buckets(row, few, logits, scale) >= needed) {
      last = few;
    } else {
      fill_buckets(row, last, logits, scale);
    }
  }
  if (sampling.top_p < 1) weight = first_reaching(sampling.top_p * weight, row, last, logits, scale).sum;
  return first_reaching(target_of(weight), row, last, logits, scale).token;
}

// Fractions of a temperature step below the largest logit; the last bucket has all beyond.
int32_t Sampler::bucket_of(float logit, const Scale& scale) {
  constexpr float kPerStep = 4;
  return int32_t(std::min((scale.largest - logit) * scale.inverse_temperature * kPerStep, float(kBuckets - 1)));
}

// row.buckets = weights of the candidates up to `last`; their sum.
double Sampler::fill_buckets(Row& row, const Candidate& last, const float* logits, const Scale& scale) const {
  row.buckets.fill(0);
  for_each_until(last, row, logits, scale,
                 [&](const Candidate& one) { row.buckets[size_t(bucket_of(one.logit, scale))] += one.weight; });
  double sum = 0;
  for (const double weight : row.buckets) sum += weight;
  return sum;
}

// row.candidates = those of a bucket up to `last`. Their weights are computed once they are known: a bucket has few of
// all tokens, and nothing in the loop over all of them depends on which.
void Sampler::collect(int32_t bucket, Row& row, const Candidate& last, const float* logits, const Scale& scale) const {
  row.candidates.clear();
  for (size_t block = 0; block < row.maxima.size(); block++) {
    if (row.maxima[block] < last.logit) continue;
    const int32_t begin = int32_t(block) * kSampleBlock;
    const int32_t count = std::min(kSampleBlock, vocabulary_ - begin);
    int32_t tokens[kSampleBlock];
    float own[kSampleBlock], weights[kSampleBlock];
    int32_t found = 0;
    for (int32_t i = 0; i < count; i++) {
      tokens[found] = begin + i;
      own[found] = logits[begin + i];
      found += int32_t(bucket_of(own[found], scale) == bucket);
    }
    kernels_.exps(weights, own, found, scale.largest, scale.inverse_temperature);
    for (int32_t i = 0; i < found; i++) {
      const Candidate one = {own[i], tokens[i], weights[i]};
      if (!before(last, one)) row.candidates.push_back(one);
    }
  }
}

// The first candidate at which the running sum of weights reaches `target`, and that sum; the last, if it never does.
Sampler::Reached Sampler::first_reaching(double target, Row& row, const Candidate& last, const float* logits,
                                         const Scale& scale) const {
  int32_t bucket = 0;
  double sum = 0;  // of the buckets before it
  double next = 0;
  for (int32_t i = 0; i < kBuckets && next < target; i++) {
    if (row.buckets[size_t(i)] == 0) continue;
    bucket = i;
    sum = next;
    next += row.buckets[size_t(i)];
  }
  collect(bucket, row, last, logits, scale);

  // A quickselect by weight, so that a bucket which holds the whole vocabulary is no trouble.
  constexpr std::ptrdiff_t kSorted = 32;
  auto begin = row.candidates.begin();
  auto end = row.candidates.end();
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
  for (; end - begin > 1 && sum + begin->weight < target; ++begin) sum += begin->weight;
  return {begin->token, sum + begin->weight};
}

bool Sampler::before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

}  // namespace baton::cpu
