// sample, and row_compact: the state of a row's sampling follows it to another row.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

#include "ops/reference.h"
#include "ops/tests.h"
#include "ops/trial.h"

namespace baton::ops {

namespace {

constexpr int32_t kContext = kTile;
constexpr int32_t kSteps = 3;  // tokens drawn in a row, each by what was drawn before

// A request that is drawn for: its tokens so far, and what its logits are now.
struct Drawn {
  int32_t row;
  Sampling sampling;
  std::vector<int32_t> tokens;
  int32_t prompt_length;
  std::vector<float> logits;

  RowStart start() const { return {row, sampling, tokens, prompt_length}; }
};

// One answer, as bits may be compared.
struct Answer {
  int32_t token;
  std::vector<float> values;  // log-probability; the most likely tokens and theirs

  bool operator==(const Answer& other) const {
    if (token != other.token || values.size() != other.values.size()) return false;
    return std::equal(values.begin(), values.end(), other.values.begin(),
                      [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); });
  }
};

template <typename Value>
Value pick(Random& random, std::initializer_list<Value> values) {
  return values.begin()[random.integer(0, int32_t(values.size()) - 1)];
}

std::vector<int32_t> any_tokens(Random& random, int32_t count, int32_t vocabulary) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = random.integer(0, vocabulary - 1);
  return tokens;
}

Sampling any_sampling(Random& random, int32_t vocabulary) {
  Sampling sampling = {
      .temperature = pick(random, {0.0f, 0.3f, 0.8f, 1.0f, 1.7f, 30.0f}),
      .top_k = pick(random, {0, 0, 1, 5, 40, vocabulary, vocabulary + 5}),
      .top_p = pick(random, {1.0f, 1.0f, 0.05f, 0.5f, 0.9f, 0.999f}),
      .min_p = pick(random, {0.0f, 0.0f, 0.001f, 0.2f, 1.0f}),
      .repetition_penalty = pick(random, {1.0f, 1.0f, 1.3f, 0.5f}),
      .presence_penalty = pick(random, {0.0f, 0.0f, 0.7f, -1.0f}),
      .frequency_penalty = pick(random, {0.0f, 0.0f, 0.25f, -0.5f}),
      .seed = pick<uint64_t>(random, {0, random.next(), (uint64_t(1) << 32) + 5, ~uint64_t(0)}),
      .logprobs = pick(random, {0, 1, 5, 20}),
      .min_tokens = pick(random, {0, 3, 10}),
      .stop_tokens = any_tokens(random, 4, vocabulary),
  };
  for (const int32_t token : any_tokens(random, pick(random, {0, 3, 9}), vocabulary)) {
    sampling.bias.push_back({token, pick(random, {-INFINITY, 2.0f, -3.5f})});
  }
  return sampling;
}

// Normal; or with ties, half of them banned, all alike, or with something that is no number.
std::vector<float> any_logits(Random& random, int32_t vocabulary) {
  auto logits = random.normals(size_t(vocabulary), pick(random, {0.1f, 1.0f, 5.0f}));
  const int32_t kind = random.integer(0, 9);
  if (kind == 0) std::fill_n(logits.begin(), vocabulary / 2, -INFINITY);
  if (kind == 1 || kind == 2) std::ranges::transform(logits, logits.begin(), [](float x) { return std::round(x); });
  if (kind == 3) std::ranges::fill(logits, pick(random, {0.0f, -3.0f, -INFINITY}));
  if (kind == 4) logits[size_t(random.integer(0, vocabulary - 1))] = pick(random, {NAN, INFINITY, 3e38f, -3e38f});
  return logits;
}

// A device whose rows are drawn from given logits.
class Drawing {
 public:
  Drawing(const Device& device, const Case& one, uint64_t seed)
      : trial(device, one,
              {.slots = one.tokens * kContext,
               .rows = one.tokens,
               .step_tokens = one.tokens,
               .context = kContext,
               .vocabulary = one.outputs},
              seed),
        logits_(trial.rows(one.tokens, one.outputs)) {}

  Trial trial;

  // One token for each, in one step that also starts and moves rows.
  std::vector<Answer> draw(std::span<const Drawn> rows, std::vector<RowStart> starts = {},
                           std::vector<RowMove> moves = {}) {
    Plan plan = {.row_moves = std::move(moves), .starts = std::move(starts)};
    std::vector<float> values;
    for (const Drawn& one : rows) {
      plan.runs.push_back({one.row, one.row * kContext, 0, int32_t(one.tokens.size()) - 1, 1});
      plan.tokens.push_back(one.tokens.back());
      values.insert(values.end(), one.logits.begin(), one.logits.end());
    }
    trial.begin(plan);
    const Rows logits = logits_.first(int32_t(rows.size()));
    trial.write(logits, values);
    trial.on().sample(logits, 0);
    const Answers& all = trial.answers();
    std::vector<Answer> answers;
    for (const Drawn& one : rows) {
      const size_t row = size_t(one.row), top = row * kTopLogprobs;
      Answer answer = {all.sampled[row], {all.logprobs[row]}};
      for (size_t i = 0; i < size_t(one.sampling.logprobs) && answer.token >= 0; i++) {
        answer.values.push_back(float(all.top_tokens[top + i]));
        answer.values.push_back(all.top_logprobs[top + i]);
      }
      answers.push_back(std::move(answer));
    }
    return answers;
  }

 private:
  Rows logits_;
};

void check(const Answer& answer, const Drawn& one, double tolerance, const std::string& what) {
  const auto right = reference::sample(one.logits, one.sampling, one.tokens, one.prompt_length);
  require(std::ranges::find(right.tokens, answer.token) != right.tokens.end(),
          what + ": expected token " + std::to_string(right.tokens[0]) + ", received " + std::to_string(answer.token));
  if (answer.token < 0) return require(std::isnan(answer.values[0]), what + ": nothing is drawn, with a probability");
  const auto close = [&](double value) { return Expected{value, tolerance * std::max(1.0, std::abs(value))}; };
  near(what + ", log-probability ", std::span(answer.values).first(1), 1,
       [&](size_t) { return close(right.logprobs[size_t(answer.token)]); });
  for (size_t i = 0; i < right.top.size(); i++) {
    const int32_t token = int32_t(answer.values[1 + 2 * i]);
    require(token == right.top[i], what + ", likely token " + std::to_string(i) + ": expected " +
                                       std::to_string(right.top[i]) + ", received " + std::to_string(token));
    near(what + ", likely token " + std::to_string(i) + " ", std::span(answer.values).subspan(2 + 2 * i, 1), 1,
         [&](size_t) { return close(right.logprobs[size_t(token)]); });
  }
}

}  // namespace

uint64_t test_sample(const Device& device, const Case& one, uint64_t seed) {
  Drawing it(device, one, seed);
  Random& random = it.trial.random;
  const int32_t rounds = device.emulated || one.outputs > 10000 ? 1 : 12;
  for (int32_t round = 0; round < rounds; round++) {
    std::vector<Drawn> rows;
    for (int32_t row = 0; row < one.tokens; row++) {
      Drawn drawn = {row, one.sampling, any_tokens(random, random.integer(1, 30), one.outputs), 0, {}};
      if (one.any_sampling) {
        drawn.sampling = any_sampling(random, one.outputs);
      } else {
        drawn.sampling.seed = random.next();
      }
      drawn.prompt_length = random.integer(1, int32_t(drawn.tokens.size()));
      rows.push_back(std::move(drawn));
    }
    std::vector<RowStart> starts;
    for (const Drawn& drawn : rows) starts.push_back(drawn.start());
    Drawn first;
    Answer first_answer;
    for (int32_t step = 0; step < kSteps; step++) {
      for (Drawn& drawn : rows) {
        drawn.logits = one.any_sampling ? any_logits(random, one.outputs)
                                        : random.normals(size_t(one.outputs), one.outputs > 10000 ? 2.0f : 1.0f);
      }
      const auto answers = it.draw(rows, std::exchange(starts, {}));
      for (size_t i = 0; i < rows.size(); i++) {
        check(answers[i], rows[i], one.tolerance,
              "round " + std::to_string(round) + ", step " + std::to_string(step) + ", row " + std::to_string(i));
      }
      if (step == 0) std::tie(first, first_answer) = std::tie(rows[0], answers[0]);
      for (size_t i = 0; i < rows.size(); i++) {
        if (answers[i].token >= 0) rows[i].tokens.push_back(answers[i].token);
      }
    }
    // The law: alone, in another row, the same.
    first.row = one.tokens - 1;
    require(it.draw({&first, 1}, {first.start()})[0] == first_answer, "alone in another row: not the same answer");
  }
  return it.trial.digest();
}

// Every request draws what it would have drawn had it stayed in its row: with a presence penalty no token comes twice,
// and the number drawn is its own seed's.
uint64_t test_row_compact(const Device& device, const Case& one, uint64_t seed) {
  constexpr int32_t kDraws = 4;
  Drawing it(device, one, seed);
  Random& random = it.trial.random;
  std::vector<Drawn> begun;
  std::vector<RowStart> starts;
  for (int32_t row = 0; row < one.tokens; row++) {
    const Sampling sampling = {.temperature = row % 2 == 0 ? 0.0f : 1.0f,
                               .presence_penalty = 50,
                               .seed = random.next(),
                               .logprobs = row % 3,
                               .bias = {{row, 3.0f}}};
    begun.push_back({row, sampling, {0}, 1, random.normals(size_t(one.outputs))});
    starts.push_back(begun.back().start());
  }
  std::vector<std::vector<Answer>> expected;  // [draw][request]
  std::vector<Drawn> stayed = begun;
  for (int32_t draw = 0; draw < kDraws; draw++) {
    expected.push_back(it.draw(stayed, draw == 0 ? starts : std::vector<RowStart>()));
    for (size_t i = 0; i < stayed.size(); i++) {
      check(expected.back()[i], stayed[i], one.tolerance, "row " + std::to_string(i));
      stayed[i].tokens.push_back(expected.back()[i].token);
    }
  }

  // Once more; before every further draw some requests end, and those in the last rows take their places.
  std::vector<Drawn> left = begun;
  std::vector<size_t> requests(left.size());  // what each of them is
  std::iota(requests.begin(), requests.end(), 0);
  for (int32_t draw = 0; draw < kDraws; draw++) {
    std::vector<RowMove> moves;
    for (int32_t ended = 0; draw > 0 && ended < one.tokens / kDraws; ended++) {
      const size_t index = size_t(random.integer(0, int32_t(left.size()) - 1));
      const int32_t hole = left[index].row;
      left.erase(left.begin() + ptrdiff_t(index));
      requests.erase(requests.begin() + ptrdiff_t(index));
      Drawn& last = *std::ranges::max_element(left, {}, &Drawn::row);
      if (last.row < hole) continue;
      moves.push_back({last.row, hole});
      last.row = hole;
    }
    const auto answers = it.draw(left, draw == 0 ? starts : std::vector<RowStart>(), moves);
    for (size_t i = 0; i < left.size(); i++) {
      require(answers[i] == expected[size_t(draw)][requests[i]],
              "request " + std::to_string(requests[i]) + " in row " + std::to_string(left[i].row) + ", draw " +
                  std::to_string(draw) + ": not what it draws where it began");
      left[i].tokens.push_back(answers[i].token);
    }
  }

  // Who comes into a row that was left knows nothing of who was there.
  begun[0].row = one.tokens - 1;
  require(it.draw({&begun[0], 1}, {begun[0].start()})[0] == expected[0][0], "a row that starts anew remembers");
  return it.trial.digest();
}

}  // namespace baton::ops
