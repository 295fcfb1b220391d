// kv_append; kv_embed, kv_pad, kv_compact and kv_park, which are moves of a plan. The arena is checked slot by slot.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/attending.h"
#include "ops/reference.h"
#include "ops/tests.h"

namespace baton::ops {

namespace {

constexpr int32_t kProbes = 256;  // rows of one step

// What the q of `probe` sees in slots s and s + 1, for every s: [slots - 1, out_width].
std::vector<float> read_pairs(Attending& arena, int32_t layer, std::span<const float> probe) {
  std::vector<float> pairs;
  for (int32_t begin = 0; begin < arena.slots - 1; begin += kProbes) {
    const int32_t end = std::min(arena.slots - 1, begin + kProbes);
    std::vector<Run> runs;
    std::vector<float> rows;
    for (int32_t slot = begin; slot < end; slot++) {
      runs.push_back(run_at(slot, 1, 1));
      rows.insert(rows.end(), probe.begin(), probe.end());
    }
    const auto some = arena.attend(runs, rows, layer);
    pairs.insert(pairs.end(), some.begin(), some.end());
  }
  return pairs;
}

// Moves of which none reads or writes what another writes; each may overlap itself.
std::vector<Move> random_moves(Random& random, int32_t slots) {
  std::vector<bool> read(static_cast<size_t>(slots)), written(static_cast<size_t>(slots));
  std::vector<Move> moves;
  for (int32_t attempt = 0; attempt < 14; attempt++) {
    const int32_t count = random.integer(1, attempt < 2 ? 70 : 9);
    const int32_t from = random.integer(0, slots - count);
    const int32_t to = attempt % 2 == 0 ? from + random.integer(-5, 5) : random.integer(0, slots - count);
    if (to < 0 || to + count > slots) continue;
    bool free = true;
    for (int32_t i = 0; i < count; i++) {
      free = free && !written[size_t(from + i)] && !written[size_t(to + i)] && !read[size_t(to + i)];
    }
    if (!free) continue;
    std::fill_n(read.begin() + from, count, true);
    std::fill_n(written.begin() + to, count, true);
    moves.push_back({from, to, count});
  }
  return moves;
}

// One head of a row of qkv after the norm (none: empty) and the turn.
std::vector<double> turned(std::span<const float> head, std::span<const float> norm, const ModelConfig& config,
                           int32_t position) {
  std::vector<double> out(head.begin(), head.end());
  if (!norm.empty()) out = reference::rms_norm(head, norm, double(config.rms_eps));
  reference::rope(out, config, position);
  return out;
}

}  // namespace

uint64_t test_moves(const Device& device, const Case& one, uint64_t seed) {
  Attending arena(device, unturned(one), one.slots, seed);
  Trial& trial = arena.trial;
  const size_t width = size_t(arena.width), slots = size_t(arena.slots);
  const auto probe = trial.random.normals(width, 2);
  std::vector<std::vector<float>> rows, before;  // by layer
  for (int32_t layer = 0; layer < one.layers; layer++) {
    rows.push_back(trial.random.normals(slots * width));
    for (int32_t slot = 0; slot < arena.slots; slot += kProbes) {
      const Run run = run_at(slot, 0, std::min(kProbes, arena.slots - slot));
      arena.append({&run, 1}, rows_of(rows.back(), arena.width, slot, slot + run.count), layer);
    }
    before.push_back(read_pairs(arena, layer, probe));
  }

  const std::vector<Move> moves = one.moves.empty() ? random_moves(trial.random, one.slots) : one.moves;
  std::vector<int32_t> source(slots);  // of each slot's content, after the moves
  std::iota(source.begin(), source.end(), 0);
  for (const Move& move : moves) std::iota(&source[size_t(move.to)], &source[size_t(move.to)] + move.count, move.from);
  if (one.parked) {
    trial.begin({.moves = parked(one)});
    trial.begin({.moves = unparked(one)});
  } else {
    trial.begin({.moves = moves});
  }

  const double tolerance = device.attends_in_bf16 && one.kv == KvType::bf16 ? 5e-2 : 1e-4;
  for (int32_t layer = 0; layer < one.layers; layer++) {
    const auto after = read_pairs(arena, layer, probe);
    const auto kept = arena.kept(rows[size_t(layer)]);
    for (int32_t slot = 0; slot + 1 < arena.slots; slot++) {
      const int32_t first = source[size_t(slot)], second = source[size_t(slot) + 1];
      const auto seen = rows_of(after, arena.out_width, slot, slot + 1);
      const std::string name =
          "layer " + std::to_string(layer) + ", slots " + std::to_string(slot) + " and " + std::to_string(slot + 1);
      if (second == first + 1) {
        same_bits(name, seen, rows_of(before[size_t(layer)], arena.out_width, first, first + 1),
                  size_t(arena.out_width));
      }
      for (int32_t head = 0; head < one.heads; head++) {
        const int64_t k = int64_t(first) * arena.width + arena.keys + head * one.head_dim;
        const int64_t v = int64_t(first) * arena.width + arena.values + head * one.head_dim;
        const auto expected =
            reference::attention(std::span(probe).subspan(size_t(head * one.head_dim), size_t(one.head_dim)),
                                 &kept[size_t(k)], &kept[size_t(v)], int64_t(second - first) * arena.width, 2);
        near(name + ", head " + std::to_string(head) + " ",
             seen.subspan(size_t(head * one.head_dim), size_t(one.head_dim)), size_t(one.head_dim), [&](size_t i) {
               return Expected{expected[i], tolerance};
             });
      }
    }
  }
  return trial.digest();
}

uint64_t test_kv_append(const Device& device, const Case& one, uint64_t seed) {
  // A span for each row, and as many again for the law; behind each at least one slot that nobody writes to.
  std::vector<int32_t> first_slots;
  int32_t slots = 0;
  Random masks(seed, one.name);
  for (int32_t copy = 0; copy < 2; copy++) {
    for (const auto& [position, count] : one.rows) {
      const int32_t masked = masks.integer(1, kTile - 1);
      first_slots.push_back(slots + masked);
      slots += (masked + position + count + kTile) / kTile * kTile;
    }
  }
  Case asked = one;
  asked.type = WeightType::f32;
  Attending arena(device, asked, slots, seed);
  Trial& trial = arena.trial;
  const ModelConfig& config = trial.config();
  const int32_t layer = one.layers - 1, group = one.heads / one.kv_heads;
  const size_t head_dim = size_t(one.head_dim);
  const auto q_norm = one.normed ? trial.random.normals(head_dim) : std::vector<float>();
  const auto k_norm = one.normed ? trial.random.normals(head_dim) : std::vector<float>();
  const auto device_q_norm = one.normed ? trial.vector(q_norm) : nullptr;
  const auto device_k_norm = one.normed ? trial.vector(k_norm) : nullptr;

  std::vector<Run> runs;
  for (size_t i = 0; i < one.rows.size(); i++) {
    runs.push_back(run_at(first_slots[i], one.rows[i].position, one.rows[i].count));
  }
  std::vector<int32_t> positions, written;  // of each token; its slot
  for (const Run& run : runs) {
    for (int32_t i = 0; i < run.count; i++) {
      positions.push_back(run.position + i);
      written.push_back(run.offset + run.masked + run.position + i);
    }
  }
  const int32_t tokens = int32_t(positions.size());
  const auto qkv = trial.random.normals(size_t(tokens) * size_t(arena.width));
  const auto after = arena.append(runs, qkv, layer, device_q_norm.get(), device_k_norm.get());

  // q in place; k and v as the arena should hold them.
  std::vector<float> expected(qkv);
  for (int32_t token = 0; token < tokens; token++) {
    float* row = &expected[size_t(token) * size_t(arena.width)];
    for (int32_t head = 0; head < one.heads + one.kv_heads; head++) {
      const std::span<float> own(row + size_t(head) * head_dim, head_dim);
      const bool query = head < one.heads;
      const auto right = turned(own, query ? q_norm : k_norm, config, positions[size_t(token)]);
      std::copy(right.begin(), right.end(), own.begin());
      if (!query) continue;
      const auto received = rows_of(after, arena.width, token, token + 1).subspan(size_t(head) * head_dim, head_dim);
      near("token " + std::to_string(token) + ", q of head " + std::to_string(head) + " ", received, head_dim,
           [&](size_t i) {
             const double length = std::hypot(right[i], right[(i + head_dim / 2) % head_dim]);
             return Expected{right[i], one.tolerance * length};
           });
    }
  }
  const auto kept = arena.kept(expected);

  // Values: alone. In other layers, before and behind: nothing.
  const std::vector<float> nothing(size_t(tokens) * size_t(arena.width));
  std::vector<Run> alone, beside;
  for (const int32_t slot : written) alone.push_back(run_at(slot, 0, 1));
  for (const Run& run : runs) {
    beside.push_back(run_at(run.offset + run.masked + run.position - 1, 0, 1));
    beside.push_back(run_at(run.offset + run.masked + run.position + run.count, 0, 1));
  }
  const auto own_values = arena.attend(alone, nothing, layer);
  for (int32_t token = 0; token < tokens; token++) {
    for (int32_t head = 0; head < one.heads; head++) {
      const size_t v = size_t(token) * size_t(arena.width) + size_t(arena.values) + size_t(head / group) * head_dim;
      same_bits("value of token " + std::to_string(token),
                rows_of(own_values, arena.out_width, token, token + 1).subspan(size_t(head) * head_dim, head_dim),
                std::span(kept).subspan(v, head_dim), head_dim);
    }
  }
  const auto is_nan = [](float value) { return std::isnan(value); };
  const std::vector<float> some(beside.size() * size_t(arena.width));
  require(std::ranges::all_of(arena.attend(beside, some, layer), is_nan), "a slot beside the run's was written");
  for (int32_t other = 0; other < layer; other++) {
    require(std::ranges::all_of(arena.attend(alone, nothing, other), is_nan), "another layer was written");
  }

  // Keys: one value of each by each q of a group, against the key that follows it.
  const auto probe_pairs = [&](std::span<const Run> at) {
    std::vector<std::vector<float>> seen;
    for (const Run& run : at) {
      const int32_t slot = run.offset + run.masked + run.position;
      for (int32_t i = 0; i + 1 < run.count; i++) {
        std::vector<Run> probes;
        std::vector<float> rows;
        for (int32_t begin = 0; begin < one.head_dim; begin += group) {
          probes.push_back(run_at(slot + i, 1, 1));
          rows.resize(rows.size() + size_t(arena.width));
          float* row = &rows[rows.size() - size_t(arena.width)];
          for (int32_t head = 0; head < one.heads; head++) {
            const int32_t at_value = begin + head % group;
            if (at_value < one.head_dim) row[head * one.head_dim + at_value] = std::sqrt(float(one.head_dim));
          }
        }
        seen.push_back(arena.attend(probes, rows, layer));
      }
    }
    return seen;
  };
  // A key that rounds the other way is off by 2^-8 of itself; weights are rounded to bf16 besides.
  const double tolerance = one.kv == KvType::bf16 ? 5e-2 : 1e-4;
  const auto seen = probe_pairs(runs);
  size_t pair = 0;
  for (int32_t token = 0; token + 1 < tokens; token++) {
    if (written[size_t(token) + 1] != written[size_t(token)] + 1) continue;
    for (int32_t begin = 0, row = 0; begin < one.head_dim; begin += group, row++) {
      for (int32_t head = 0; head < one.heads && begin + head % group < one.head_dim; head++) {
        std::vector<float> q(head_dim);
        q[size_t(begin + head % group)] = std::sqrt(float(one.head_dim));
        const size_t k = size_t(token) * size_t(arena.width) + size_t(arena.keys) + size_t(head / group) * head_dim;
        const size_t v = k + size_t(arena.values - arena.keys);
        const auto right = reference::attention(q, &kept[k], &kept[v], arena.width, 2);
        near("key of token " + std::to_string(token) + " at " + std::to_string(begin + head % group) +
                 " seen by head " + std::to_string(head) + " ",
             rows_of(seen[pair], arena.out_width, row, row + 1).subspan(size_t(head) * head_dim, head_dim), head_dim,
             [&](size_t i) {
               return Expected{right[i], tolerance};
             });
      }
    }
    pair++;
  }

  // The law: token by token, elsewhere.
  std::vector<Run> elsewhere;
  int32_t token = 0;
  for (size_t i = 0; i < one.rows.size(); i++) {
    const auto& [position, count] = one.rows[i];
    elsewhere.push_back(run_at(first_slots[one.rows.size() + i], position, count));
    for (int32_t j = 0; j < count; j++, token++) {
      const Run run = run_at(first_slots[one.rows.size() + i], position + j, 1);
      const auto row = arena.append({&run, 1}, rows_of(qkv, arena.width, token, token + 1), layer, device_q_norm.get(),
                                    device_k_norm.get());
      same_bits("q of token " + std::to_string(token) + " alone", std::span(row).first(size_t(arena.keys)),
                rows_of(after, arena.width, token, token + 1).first(size_t(arena.keys)), size_t(arena.keys));
    }
  }
  const auto seen_elsewhere = probe_pairs(elsewhere);
  for (size_t i = 0; i < seen.size(); i++) {
    same_bits("keys of pair " + std::to_string(i) + ", written one by one elsewhere", seen_elsewhere[i], seen[i],
              size_t(arena.out_width));
  }
  return trial.digest();
}

}  // namespace baton::ops
