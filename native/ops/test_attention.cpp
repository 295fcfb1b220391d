// attention_decode and attention_prefill: the definition in double; every slot that a row does not own holds NaN.

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/attending.h"
#include "ops/reference.h"
#include "ops/tests.h"

namespace baton::ops {

namespace {

// One row's tokens, and where they lie.
struct Story {
  Stretch stretch;
  int32_t slot;             // of position 0
  std::vector<float> qkv;   // [position + count, width]
  std::vector<float> kept;  // as the arena keeps it
};

constexpr int32_t kAppended = 256;  // tokens of one step

// A span for every story, behind some masked slots. Answers how many slots that takes: as many every time.
int32_t place(std::span<Story> stories, Random& random) {
  int32_t slots = 0;
  for (Story& story : stories) {
    story.slot = slots + (random.integer(0, 3) == 0 ? 0 : random.integer(1, kTile - 1));
    slots += (story.stretch.position + story.stretch.count + 2 * (kTile - 1)) / kTile * kTile;
  }
  return slots;
}

// Keys and values of positions 0 .. end - 1.
void fill(Attending& arena, const Story& story, int32_t end) {
  for (int32_t begin = 0; begin < end; begin += kAppended) {
    const int32_t count = std::min(kAppended, end - begin);
    const Run run = run_at(story.slot, begin, count);
    arena.append({&run, 1}, rows_of(story.qkv, arena.width, begin, begin + count), 0);
  }
}

// Positions begin .. end - 1 of the story, alone, in pieces of these many tokens.
std::vector<float> compute(Attending& arena, const Story& story, int32_t begin, int32_t end, int32_t piece) {
  fill(arena, story, begin);
  std::vector<float> out;
  for (; begin < end; begin += piece) {
    const Run run = run_at(story.slot, begin, std::min(piece, end - begin));
    const auto some = arena.step({&run, 1}, rows_of(story.qkv, arena.width, begin, begin + run.count), 0);
    out.insert(out.end(), some.begin(), some.end());
  }
  return out;
}

}  // namespace

uint64_t test_attention(const Device& device, const Case& one, uint64_t seed) {
  Random random(seed, one.name);
  std::vector<Story> stories;
  for (const Stretch& stretch : one.rows) stories.push_back({stretch, 0, {}, {}});
  const int32_t slots = place(stories, random) + kTile;  // and a span for one more
  const int32_t spare = slots - kTile;
  Attending arena(device, unturned(one), slots, seed);
  for (Story& story : stories) {
    const int32_t length = story.stretch.position + story.stretch.count;
    story.qkv = arena.trial.random.normals(size_t(length) * size_t(arena.width));
    // Some early key outweighs all others, so that splits differ in their largest score.
    if (length > 300) {
      for (int32_t i = 0; i < one.head_dim; i++) {
        const float q = story.qkv[size_t(length - 1) * size_t(arena.width) + size_t(i)];
        story.qkv[size_t(30) * size_t(arena.width) + size_t(arena.keys + i)] = 2 * q;
      }
    }
    story.kept = arena.kept(story.qkv);
  }

  std::vector<Run> runs;
  std::vector<float> qkv;
  for (const Story& story : stories) {
    const auto& [position, count] = story.stretch;
    fill(arena, story, position);
    runs.push_back(run_at(story.slot, position, count));
    const auto own = rows_of(story.qkv, arena.width, position, position + count);
    qkv.insert(qkv.end(), own.begin(), own.end());
  }
  const auto out = arena.step(runs, qkv, 0);
  const size_t head_dim = size_t(one.head_dim);
  double squares = 0;
  int32_t token = 0;
  for (const Story& story : stories) {
    for (int32_t i = 0; i < story.stretch.count; i++, token++) {
      const int32_t position = story.stretch.position + i;
      for (int32_t head = 0; head < one.heads; head++) {
        const int32_t kv_head = head / (one.heads / one.kv_heads);
        const auto q =
            rows_of(story.qkv, arena.width, position, position + 1).subspan(size_t(head) * head_dim, head_dim);
        const auto expected =
            reference::attention(q, &story.kept[size_t(arena.keys + kv_head * one.head_dim)],
                                 &story.kept[size_t(arena.values + kv_head * one.head_dim)], arena.width, position + 1);
        const auto received =
            rows_of(out, arena.out_width, token, token + 1).subspan(size_t(head) * head_dim, head_dim);
        near("position " + std::to_string(position) + ", head " + std::to_string(head) + " ", received, head_dim,
             [&](size_t k) {
               return Expected{expected[k], arena.tolerance()};
             });
        for (size_t k = 0; k < head_dim; k++) squares += std::pow(received[k] - expected[k], 2);
      }
    }
  }
  const double error = std::sqrt(squares / double(out.size()));
  require(error <= arena.tolerance() / 10, "root mean square error: expected at most " +
                                               std::to_string(arena.tolerance() / 10) + ", received " +
                                               std::to_string(error));

  // The law: the same tokens alone, elsewhere, cut otherwise. A decoded token as one of a chunk, chunks token by token
  // and in pieces.
  arena.poison();
  std::reverse(stories.begin(), stories.end());
  place(stories, random);
  for (const Story& story : stories) {
    const auto& [position, count] = story.stretch;
    token -= count;
    const auto all = rows_of(out, arena.out_width, token, token + count);
    const auto alike = [&](const Story& other) { return other.stretch == story.stretch; };
    if (&*std::ranges::find_if(stories, alike) != &story) continue;  // one of each will do
    const std::string name = "row of " + std::to_string(position + count) + " positions, ";
    if (count == 1) {
      const int32_t begin = std::max(0, position - 2);
      const auto chunk = compute(arena, story, begin, position + 1, 3);
      same_bits(name + "in a chunk", rows_of(chunk, arena.out_width, position - begin, position - begin + 1), all,
                size_t(arena.out_width));
      same_bits(name + "alone", compute(arena, story, position, position + 1, 1), all, size_t(arena.out_width));
      continue;
    }
    const int32_t piece = arena.trial.random.integer(2, std::max(2, count - 1));
    same_bits(name + "in pieces of " + std::to_string(piece), compute(arena, story, position, position + count, piece),
              all, size_t(arena.out_width));
    const int32_t few = std::min(count, 4);
    same_bits(name + "its last tokens one by one", compute(arena, story, position + count - few, position + count, 1),
              rows_of(all, arena.out_width, count - few, count), size_t(arena.out_width));
  }

  // What is not a number stays with the head of the token it belongs to, and a row beside one that has nothing else.
  const Story& story = stories.back();
  const auto& [position, count] = story.stretch;
  fill(arena, story, position);
  std::vector<float> spoilt(story.qkv.begin() + int64_t(position) * arena.width, story.qkv.end());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::fill_n(spoilt.begin() + int64_t(count / 2) * arena.width, one.head_dim, nan);
  spoilt.resize(spoilt.size() + size_t(arena.width), nan);
  const Run both[] = {run_at(story.slot, position, count), run_at(spare, 0, 1)};
  auto received = arena.step(both, spoilt, 0);
  const auto nans = std::span(received).subspan(size_t(count / 2) * size_t(arena.out_width), head_dim);
  require(std::ranges::all_of(nans, [](float value) { return std::isnan(value); }), "a NaN became a number");
  const auto clean = rows_of(out, arena.out_width, 0, count);
  std::copy_n(clean.begin() + int64_t(count / 2) * arena.out_width, head_dim, nans.begin());
  received.resize(size_t(count) * size_t(arena.out_width));
  same_bits("beside a NaN", received, clean, size_t(arena.out_width));
  return arena.trial.digest();
}

}  // namespace baton::ops
