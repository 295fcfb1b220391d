#include "core/plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"

namespace baton {

namespace {

using std::to_string;

// Message of the item at `index` of the plan's array `name`: "runs[3].row: expected …, got …".
std::string at(const char* name, size_t index, const char* field, const std::string& expected, int64_t value) {
  return std::string(name) + "[" + to_string(index) + "]." + field + ": expected " + expected + ", got " +
         to_string(value);
}

// A range of slots that something reads or writes, and the index of that move or run.
struct Range {
  int32_t begin, end;
  int32_t index;
};

bool by_begin(const Range& a, const Range& b) { return a.begin < b.begin; }

// Calls found(first, second) for two ranges of different index that overlap, if there are any. Sorts `writes`.
template <typename Found>
void find_overlap(std::vector<Range>& writes, Found found) {
  if (!std::is_sorted(writes.begin(), writes.end(), by_begin)) std::sort(writes.begin(), writes.end(), by_begin);
  for (size_t i = 1; i < writes.size(); i++) {
    if (writes[i].begin < writes[i - 1].end) found(writes[i - 1].index, writes[i].index);
  }
}

void check_moves(std::span<const Move> moves, const PlanLimits& limits) {
  std::vector<Range> writes;
  writes.reserve(moves.size());
  for (size_t i = 0; i < moves.size(); i++) {
    const Move& move = moves[i];
    REQUIRE(move.count >= 1, "INVALID_ARGUMENT", at("moves", i, "slots", "at least 1", move.count));
    const auto inside = [&](int32_t first) {
      const int32_t begin = first < limits.slots ? 0 : limits.slots;
      const int32_t end = first < limits.slots ? limits.slots : limits.slots + limits.host_slots;
      return first >= begin && first <= end - move.count;
    };
    const std::string expected =
        "slots of the arena, below " + to_string(limits.slots) +
        (limits.host_slots == 0 ? "" : ", or of the " + to_string(limits.host_slots) + " behind it");
    REQUIRE(inside(move.from), "INVALID_ARGUMENT", at("moves", i, "from", expected, move.from));
    REQUIRE(inside(move.to), "INVALID_ARGUMENT", at("moves", i, "to", expected, move.to));
    REQUIRE(std::min(move.from, move.to) < limits.slots, "INVALID_ARGUMENT",
            at("moves", i, "from", "an end in the arena", move.from));
    writes.push_back({move.to, move.to + move.count, int32_t(i)});
  }
  const auto clash = [](int32_t a, int32_t b) {
    throw Error("INVALID_ARGUMENT", "moves: expected none to read or write what another writes, but moves[" +
                                        to_string(a) + "] and moves[" + to_string(b) + "] do");
  };
  find_overlap(writes, clash);
  for (size_t i = 0; i < moves.size(); i++) {
    const int32_t begin = moves[i].from, end = begin + moves[i].count;
    // The writes are disjoint, so they are in the order of their ends too.
    auto write = std::lower_bound(writes.begin(), writes.end(), begin,
                                  [](const Range& range, int32_t slot) { return range.end <= slot; });
    for (; write != writes.end() && write->begin < end; ++write) {
      if (write->index != int32_t(i)) clash(int32_t(i), write->index);
    }
  }
}

void check_sampling(const Sampling& sampling, const std::string& where, int32_t vocabulary) {
  const auto require = [&](bool holds, const char* field, const char* expected, double value) {
    REQUIRE(holds, "INVALID_ARGUMENT", where + field + ": expected " + expected + ", got " + to_string(value));
  };
  const Sampling& s = sampling;
  require(std::isfinite(s.temperature) && s.temperature >= 0, "temperature", "0 or more", s.temperature);
  require(s.top_k >= 0, "topK", "0 or more", s.top_k);
  require(s.top_p > 0 && s.top_p <= 1, "topP", "more than 0, at most 1", s.top_p);
  require(s.min_p >= 0 && s.min_p <= 1, "minP", "0 to 1", s.min_p);
  require(std::isfinite(s.repetition_penalty) && s.repetition_penalty > 0, "repetitionPenalty", "more than 0",
          s.repetition_penalty);
  require(std::isfinite(s.presence_penalty), "presencePenalty", "a finite number", s.presence_penalty);
  require(std::isfinite(s.frequency_penalty), "frequencyPenalty", "a finite number", s.frequency_penalty);
  require(s.logprobs >= 0 && s.logprobs <= kTopLogprobs, "logprobs", "0 to 20", s.logprobs);
  require(s.min_tokens >= 0, "minTokens", "0 or more", s.min_tokens);
  for (const int32_t token : s.stop_tokens) {
    require(token >= 0 && token < vocabulary, "stopTokens", "tokens of the vocabulary", token);
  }
  for (const auto& [token, value] : s.bias) {
    require(token >= 0 && token < vocabulary, "biasTokens", "tokens of the vocabulary", token);
    require(value < INFINITY, "biasValues", "a number below Infinity", value);  // false for NaN
  }
}

void check_starts(std::span<const RowStart> starts, const PlanLimits& limits) {
  for (size_t i = 0; i < starts.size(); i++) {
    const RowStart& start = starts[i];
    REQUIRE(start.row >= 0 && start.row < limits.rows, "INVALID_ARGUMENT",
            at("starts", i, "row", "0 to " + to_string(limits.rows - 1), start.row));
    REQUIRE(int64_t(start.tokens.size()) <= limits.context, "INVALID_ARGUMENT",
            at("starts", i, "tokens", "at most " + to_string(limits.context), int64_t(start.tokens.size())));
    REQUIRE(start.prompt_length >= 0 && size_t(start.prompt_length) <= start.tokens.size(), "INVALID_ARGUMENT",
            at("starts", i, "promptLength", "0 to " + to_string(start.tokens.size()), start.prompt_length));
    for (const int32_t token : start.tokens) {
      REQUIRE(token >= 0 && token < limits.vocabulary, "INVALID_ARGUMENT",
              at("starts", i, "tokens", "0 to " + to_string(limits.vocabulary - 1), token));
    }
    check_sampling(start.sampling, "starts[" + to_string(i) + "].sampling.", limits.vocabulary);
  }
}

void check_runs(const StepPlan& plan, const PlanLimits& limits) {
  std::vector<bool> taken(size_t(limits.rows));
  std::vector<Range> writes;
  writes.reserve(plan.runs.size());
  std::vector<int64_t> may_be_drawn;  // tokens, by index, ascending
  int64_t tokens = 0;
  for (size_t i = 0; i < plan.runs.size(); i++) {
    const Run& run = plan.runs[i];
    REQUIRE(run.row >= -1 && run.row < limits.rows, "INVALID_ARGUMENT",
            at("runs", i, "row", "-1 to " + to_string(limits.rows - 1), run.row));
    if (run.row >= 0) {
      REQUIRE(!taken[size_t(run.row)], "INVALID_ARGUMENT",
              at("runs", i, "row", "a row without another run in this step", run.row));
      taken[size_t(run.row)] = true;
    }
    REQUIRE(run.offset >= 0 && run.offset % kTile == 0, "INVALID_ARGUMENT",
            at("runs", i, "offset", "a multiple of " + to_string(kTile), run.offset));
    REQUIRE(run.masked >= 0, "INVALID_ARGUMENT", at("runs", i, "masked", "0 or more", run.masked));
    REQUIRE(run.position >= 0, "INVALID_ARGUMENT", at("runs", i, "position", "0 or more", run.position));
    REQUIRE(run.count >= 1, "INVALID_ARGUMENT", at("runs", i, "tokens", "at least 1", run.count));
    const int64_t length = int64_t(run.position) + run.count;
    REQUIRE(length <= limits.context, "INVALID_ARGUMENT",
            at("runs", i, "position + tokens", "at most the context " + to_string(limits.context), length));
    const int64_t end = int64_t(run.offset) + run.masked + length;
    REQUIRE(end <= limits.slots, "INVALID_ARGUMENT",
            at("runs", i, "last slot", "below " + to_string(limits.slots), end - 1));
    if (run.row >= 0 && run.count == 1) may_be_drawn.push_back(tokens);
    tokens += run.count;
    writes.push_back({int32_t(end - run.count), int32_t(end), int32_t(i)});
  }
  REQUIRE(tokens == int64_t(plan.tokens.size()), "INVALID_ARGUMENT",
          "tokens: expected those of all runs, " + to_string(tokens) + ", got " + to_string(plan.tokens.size()));
  REQUIRE(tokens <= limits.step_tokens, "INVALID_ARGUMENT",
          "tokens: expected at most " + to_string(limits.step_tokens) + " in a step, got " + to_string(tokens));
  for (size_t i = 0; i < plan.tokens.size(); i++) {
    const int32_t token = plan.tokens[i];
    if (token == kDrawn && std::binary_search(may_be_drawn.begin(), may_be_drawn.end(), int64_t(i))) continue;
    REQUIRE(token >= 0 && token < limits.vocabulary, "INVALID_ARGUMENT",
            "tokens[" + to_string(i) + "]: expected 0 to " + to_string(limits.vocabulary - 1) +
                " (or -1, a row's drawn token, as the only token of its run), got " + to_string(token));
  }
  find_overlap(writes, [](int32_t a, int32_t b) {
    throw Error("INVALID_ARGUMENT", "runs: expected each to write slots of its own, but runs[" + to_string(a) +
                                        "] and runs[" + to_string(b) + "] share some");
  });
}

}  // namespace

void check(const StepPlan& plan, const PlanLimits& limits) {
  check_moves(plan.moves, limits);
  for (size_t i = 0; i < plan.row_moves.size(); i++) {
    const RowMove& move = plan.row_moves[i];
    REQUIRE(move.from >= 0 && move.from < limits.rows, "INVALID_ARGUMENT",
            at("rowMoves", i, "from", "0 to " + to_string(limits.rows - 1), move.from));
    REQUIRE(move.to >= 0 && move.to < limits.rows, "INVALID_ARGUMENT",
            at("rowMoves", i, "to", "0 to " + to_string(limits.rows - 1), move.to));
  }
  check_starts(plan.starts, limits);
  check_runs(plan, limits);
}

}  // namespace baton
