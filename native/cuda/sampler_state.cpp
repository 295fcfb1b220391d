#include "cuda/sampler_state.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"
#include "cuda/check.h"

namespace baton::cuda {

namespace {

constexpr size_t kNumbersPerRow = 2 + 2 * size_t(kTopLogprobs);

// Room for `count`, and more than asked for, so that it need not grow often.
template <typename T>
void reserve(DeviceArray<T>& array, size_t count) {
  if (array.count() < count) array = DeviceArray<T>(std::max(2 * array.count(), count), "sampling");
}

}  // namespace

SamplerState::SamplerState(int32_t rows, int32_t vocabulary, cudaStream_t stream)
    : rows_(rows),
      vocabulary_(vocabulary),
      stream_(stream),
      states_(size_t(rows)),
      rules_(size_t(rows)),
      device_rules_(size_t(rows), "sampling"),
      stop_tokens_(size_t(rows) * size_t(kMostStopTokens), "sampling"),
      bias_(size_t(rows) * size_t(vocabulary), "sampling"),
      seen_(size_t(rows) * size_t(vocabulary), "sampling"),
      drawn_(size_t(rows), "sampling"),
      sampled_(size_t(rows) * kNumbersPerRow, "sampling") {
  std::iota(states_.begin(), states_.end(), 0);
  std::fill(rules_.begin(), rules_.end(), SamplingView{});
  // From pageable memory, which has been read when the call returns.
  CUDA_CHECK(
      cudaMemcpyAsync(device_rules_.data(), rules_.data(), device_rules_.bytes(), cudaMemcpyHostToDevice, stream_));
  CUDA_CHECK(cudaMemsetAsync(drawn_.data(), 0, drawn_.bytes(), stream_));
}

void SamplerState::move(const RowMove& move) { std::swap(states_[size_t(move.to)], states_[size_t(move.from)]); }

void SamplerState::start(const RowStart& start, Staging& staging) {
  const Sampling& sampling = start.sampling;
  REQUIRE(sampling.stop_tokens.size() <= size_t(kMostStopTokens), "INVALID_ARGUMENT",
          "stopTokens: expected at most " + std::to_string(kMostStopTokens) + ", got " +
              std::to_string(sampling.stop_tokens.size()));
  const int32_t state = states_[size_t(start.row)];
  SamplingView& rule = rules_[size_t(state)];
  rule = {
      .temperature = sampling.temperature,
      .top_k = sampling.top_k,
      .top_p = sampling.top_p,
      .min_p = sampling.min_p,
      .repetition_penalty = sampling.repetition_penalty,
      .presence_penalty = sampling.presence_penalty,
      .frequency_penalty = sampling.frequency_penalty,
      .logprobs = sampling.logprobs,
      .seed = sampling.seed,
      .min_tokens = sampling.min_tokens,
      .prompt_length = start.prompt_length,
      .stop_count = int32_t(sampling.stop_tokens.size()),
      .penalised = sampling.penalised(),
      .biased = !sampling.bias.empty(),
  };
  std::vector<int32_t> bias_tokens;
  std::vector<float> bias_values;
  for (const auto& [token, value] : sampling.bias) {
    bias_tokens.push_back(token);
    bias_values.push_back(value);
  }
  const size_t tokens = sampling.penalised() ? start.tokens.size() : 0;
  reserve(start_tokens_, tokens);
  reserve(start_bias_tokens_, bias_tokens.size());
  reserve(start_bias_values_, bias_values.size());
  staging.upload<int32_t>(start_tokens_.data(), {start.tokens.data(), tokens}, stream_);
  staging.upload<int32_t>(start_bias_tokens_.data(), bias_tokens, stream_);
  staging.upload<float>(start_bias_values_.data(), bias_values, stream_);
  staging.upload<SamplingView>(device_rules_.data() + state, {&rule, 1}, stream_);
  staging.upload<int32_t>(stop_tokens_.data() + size_t(state) * size_t(kMostStopTokens), sampling.stop_tokens, stream_);
  if (rule.penalised == 0 && rule.biased == 0) return;  // nobody looks at the rest
  launch_sampler_start(view(nullptr), state, vocabulary_, start_tokens_.data(), int32_t(tokens), start.prompt_length,
                       start_bias_tokens_.data(), start_bias_values_.data(), int32_t(bias_tokens.size()), stream_);
}

void SamplerState::fill(int32_t* states) const { std::copy(states_.begin(), states_.end(), states); }

SamplerView SamplerState::view(const int32_t* states) const {
  return {states, device_rules_.data(), stop_tokens_.data(), bias_.data(), seen_.data(), drawn_.data()};
}

SampledView SamplerState::sampled() const {
  const size_t rows = size_t(rows_);
  int32_t* numbers = sampled_.data();
  return {numbers, reinterpret_cast<float*>(numbers + rows), numbers + 2 * rows,
          reinterpret_cast<float*>(numbers + (2 + kTopLogprobs) * rows)};
}

void SamplerState::fetch(Drawn& drawn) const {
  if (drawn.rows.empty()) return;
  const size_t all = size_t(rows_) * kNumbersPerRow;
  if (drawn.numbers.count() < all) drawn.numbers = PinnedArray<int32_t>(all, "sampling");
  drawn.likeliest.clear();
  for (const int32_t row : drawn.rows) drawn.likeliest.push_back(rules_[size_t(states_[size_t(row)])].logprobs);
  const bool none =
      std::all_of(drawn.likeliest.begin(), drawn.likeliest.end(), [](int32_t count) { return count == 0; });
  const size_t bytes = (none ? size_t(rows_) * 2 : all) * sizeof(int32_t);
  CUDA_CHECK(cudaMemcpyAsync(drawn.numbers.data(), sampled_.data(), bytes, cudaMemcpyDeviceToHost, stream_));
}

void SamplerState::write(const Drawn& drawn, const StepResult& result) const {
  const size_t all = size_t(rows_);
  const int32_t* tokens = drawn.numbers.data();
  const float* logprobs = reinterpret_cast<const float*>(tokens + all);
  const int32_t* top_tokens = tokens + 2 * all;
  const float* top_logprobs = reinterpret_cast<const float*>(tokens + (2 + kTopLogprobs) * all);
  for (size_t i = 0; i < drawn.rows.size(); i++) {
    const size_t at = size_t(drawn.rows[i]), top = at * kTopLogprobs;
    result.sampled[at] = tokens[at];
    result.logprobs[at] = logprobs[at];
    std::copy_n(top_tokens + top, drawn.likeliest[i], result.top_tokens.begin() + ptrdiff_t(top));
    std::copy_n(top_logprobs + top, drawn.likeliest[i], result.top_logprobs.begin() + ptrdiff_t(top));
  }
}

}  // namespace baton::cuda
