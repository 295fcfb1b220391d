#include "ops/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>

#include "core/error.h"
#include "core/tensor.h"
#include "ops/attending.h"
#include "ops/random.h"
#include "ops/trial.h"

namespace baton::ops {

namespace {

constexpr double kLeastSeconds = 0.02;  // of one timing, so that no clock is too coarse
constexpr int32_t kRepeats = 7;
constexpr int32_t kMostCopies = 256;  // of operands and weights, which take turns so that no cache holds them
constexpr int32_t kMostCalls = 2048;  // of one timing: a device may record them all before it begins

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// What is timed: call(i) works on the i-th copy of its memory.
struct Timed {
  int32_t copies = 1;
  std::function<void(int32_t copy)> call;
  bool queued_by_host = false;  // begin() does work of its own that no device clock sees
  bool product = false;         // a library may compute it too
};

// Of one call.
struct Seconds {
  double ours;
  double library = NAN;  // where it computes that
};

// One case at a time on a backend of its own.
class Bench {
 public:
  Bench(const Device& device, const Case& one, const Room& room, uint64_t seed)
      : one(one),
        device(device),
        random(seed, one.name),
        backend(device.open(options_of(one, room))),
        answers(room.rows) {}

  const Case& one;
  const Device& device;
  Random random;
  std::unique_ptr<Backend> backend;
  Answers answers;
  std::vector<std::unique_ptr<Matrix>> matrices;
  std::vector<std::unique_ptr<Operand>> operands;
  std::vector<std::unique_ptr<Vector>> vectors;
  std::vector<Rows> rows;
  Plan plan;

  // As many as it takes until `bytes` each are more than caches hold.
  int32_t copies(double bytes) const {
    return int32_t(
        std::clamp(std::ceil(2 * double(device.cache_bytes) / std::max(bytes, 1.0)), 1.0, double(kMostCopies)));
  }

  Rows make_rows(int32_t count, int32_t width) {
    rows.push_back(backend->rows(count, width));
    backend->write(rows.back(), random.normals(size_t(count) * size_t(width)));
    return rows.back();
  }

  Operand& make_operand(int32_t count, int32_t width) {
    operands.push_back(backend->operand(count, width, one.type));
    backend->convert(*operands.back(), make_rows(count, width));
    return *operands.back();
  }

  Vector& make_vector(int32_t size) {
    const auto values = random.normals(size_t(size));
    const TensorView part = {reinterpret_cast<const std::byte*>(values.data()), TensorType::f32, 1, size};
    vectors.push_back(backend->vector({&part, 1}));
    return *vectors.back();
  }

  // `copies` of a matrix of the same random bf16 weights.
  void make_matrices(int32_t copies, int32_t outputs, int32_t inputs, bool gated) {
    std::vector<uint16_t> values(size_t(outputs) * size_t(inputs));
    const float deviation = 1 / std::sqrt(float(inputs));
    for (uint16_t& value : values) value = float_to_bf16(random.normal() * deviation);
    const auto* data = reinterpret_cast<const std::byte*>(values.data());
    for (int32_t i = 0; i < copies; i++) {
      const TensorView all = {data, TensorType::bf16, outputs, inputs};
      if (gated) {
        const size_t half = size_t(outputs) / 2 * size_t(inputs) * 2;
        matrices.push_back(backend->gated_matrix({data, TensorType::bf16, outputs / 2, inputs},
                                                 {data + half, TensorType::bf16, outputs / 2, inputs}, one.type));
      } else {
        matrices.push_back(backend->matrix({&all, 1}, one.type));
      }
    }
  }

  void begin() { backend->begin(plan.view(), answers.view()); }

  Seconds seconds(const Timed& timed) {
    if (timed.queued_by_host) return {seconds_by_host(timed)};
    const bool compared = timed.product && one.type == WeightType::bf16 && !device.library.empty();
    const auto calls = [&](int32_t passes, bool library) {
      return [&, passes, library] {
        if (!device.library.empty()) use_library(*backend, library);
        for (int32_t i = 0; i < passes * timed.copies; i++) timed.call(i % timed.copies);
      };
    };
    // Once over all copies to warm up and to see how often that fits into one timing.
    const double once = backend->seconds({calls(1, false)}, 1)[0];
    const double most = std::max(1, kMostCalls / timed.copies);
    const int32_t passes = int32_t(std::clamp(std::ceil(kLeastSeconds / std::max(once, 1e-9)), 1.0, most));
    std::vector<std::function<void()>> contenders = {calls(passes, false)};
    if (compared && library_computes(calls(1, true))) contenders.push_back(calls(passes, true));
    std::vector<double> times = backend->seconds(contenders, kRepeats);
    for (double& time : times) time /= double(passes) * timed.copies;
    return {times[0], times.size() > 1 ? times[1] : NAN};
  }

 private:
  // If it does not, that is no fault of ours: our own time is still wanted.
  bool library_computes(const std::function<void()>& calls) {
    try {
      backend->seconds({calls}, 1);
      return true;
    } catch (const Error& error) {
      printf("the library does not compute %s: %s\n", one.name.c_str(), error.what());
      return false;
    }
  }

  // The median of several runs of calls, the last of which is waited for.
  double seconds_by_host(const Timed& timed) {
    std::vector<double> times;
    int32_t calls = 1;
    while (int32_t(times.size()) < kRepeats) {
      backend->sync();
      const double begin = now();
      for (int32_t i = 0; i < calls; i++) timed.call(i % timed.copies);
      backend->sync();
      const double seconds = now() - begin;
      if (seconds < kLeastSeconds && calls < 4096) {
        calls *= 2;
        times.clear();
      } else {
        times.push_back(seconds / calls);
      }
    }
    std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
    return times[kRepeats / 2];
  }
};

int32_t tokens_of(const Case& one) {
  int32_t tokens = 0;
  for (const Stretch& stretch : one.rows) tokens += stretch.count;
  return tokens;
}

// A plan of the case's rows, each behind the one before; how many slots that takes.
int32_t lay_out(const Case& one, Plan& plan) {
  int32_t slots = 0;
  for (const auto& [position, count] : one.rows) {
    plan.runs.push_back({-1, slots, 0, position, count});
    plan.tokens.insert(plan.tokens.end(), size_t(count), 0);
    slots += (position + count + kTile - 1) / kTile * kTile;
  }
  return slots;
}

Seconds time_embedding(const Device& device, const Case& one, uint64_t seed) {
  const int32_t room = std::max(one.tokens, kTile);
  Bench bench(device, one, {.slots = room, .step_tokens = room, .context = room, .vocabulary = one.outputs}, seed);
  if (one.tokens > 0) bench.plan.runs = {{-1, 0, 0, 0, one.tokens}};
  for (int32_t i = 0; i < one.tokens; i++) bench.plan.tokens.push_back(bench.random.integer(0, one.outputs - 1));
  bench.make_matrices(1, one.outputs, one.inputs, false);
  const Rows out = bench.make_rows(one.tokens, one.inputs);
  bench.begin();
  return bench.seconds({1, [&](int32_t) { bench.backend->embedding(out, *bench.matrices[0]); }});
}

Seconds time_rows(const Device& device, const Case& one, uint64_t seed, bool norm) {
  Bench bench(device, one, {}, seed);
  const int32_t copies = bench.copies(one.bytes);
  const Vector& weight = bench.make_vector(one.inputs);
  for (int32_t i = 0; i < copies; i++) bench.make_operand(std::max(one.tokens, 1), one.inputs);
  return bench.seconds({copies, [&](int32_t i) {
                          const Rows x = bench.rows[size_t(i)].first(one.tokens);
                          if (norm) {
                            bench.backend->rms_norm(*bench.operands[size_t(i)], x, weight, 1e-5f);
                          } else {
                            bench.backend->convert(*bench.operands[size_t(i)], x);
                          }
                        }});
}

Seconds time_rms_norm(const Device& device, const Case& one, uint64_t seed) {
  return time_rows(device, one, seed, true);
}

Seconds time_convert(const Device& device, const Case& one, uint64_t seed) {
  return time_rows(device, one, seed, false);
}

Seconds time_select_sampled(const Device& device, const Case& one, uint64_t seed) {
  const Room room = {.slots = one.tokens * kTile, .rows = one.tokens, .step_tokens = one.tokens};
  Bench bench(device, one, room, seed);
  for (int32_t i = 0; i < one.tokens; i++) bench.plan.runs.push_back({i, i * kTile, 0, 0, 1});
  bench.plan.tokens.assign(size_t(one.tokens), 0);
  const int32_t copies = bench.copies(one.bytes);
  for (int32_t i = 0; i < 2 * copies; i++) bench.make_rows(one.tokens, one.inputs);
  bench.begin();
  return bench.seconds({copies, [&](int32_t i) {
                          bench.backend->select_sampled(bench.rows[size_t(2 * i)], bench.rows[size_t(2 * i + 1)], 0);
                        }});
}

// matmul, and matmul_add where `add`; the operand stays, as it does in a step.
Seconds time_product(const Device& device, const Case& one, uint64_t seed, bool add) {
  Bench bench(device, one, {}, seed);
  const int32_t copies = bench.copies(one.bytes);
  const Operand& x = bench.make_operand(std::max(one.tokens, 1), one.inputs);
  bench.backend->convert(*bench.operands[0], bench.rows[0].first(one.tokens));
  bench.make_matrices(copies, one.outputs, one.inputs, false);
  const Rows out = bench.make_rows(one.tokens, one.outputs);
  const auto call = [&](int32_t i) {
    if (add) {
      bench.backend->matmul_add(out, x, *bench.matrices[size_t(i)]);
    } else {
      bench.backend->matmul(out, x, *bench.matrices[size_t(i)], nullptr);
    }
  };
  return bench.seconds({.copies = copies, .call = call, .product = true});
}

Seconds time_matmul(const Device& device, const Case& one, uint64_t seed) {
  return time_product(device, one, seed, false);
}

Seconds time_matmul_add(const Device& device, const Case& one, uint64_t seed) {
  return time_product(device, one, seed, true);
}

Seconds time_matmul_swiglu(const Device& device, const Case& one, uint64_t seed) {
  Bench bench(device, one, {}, seed);
  const int32_t copies = bench.copies(one.bytes);
  const Operand& x = bench.make_operand(std::max(one.tokens, 1), one.inputs);
  bench.backend->convert(*bench.operands[0], bench.rows[0].first(one.tokens));
  bench.make_matrices(copies, 2 * one.outputs, one.inputs, true);
  Operand& out = bench.make_operand(std::max(one.tokens, 1), one.outputs);
  const auto call = [&](int32_t i) { bench.backend->matmul_swiglu(out, x, *bench.matrices[size_t(i)]); };
  return bench.seconds({.copies = copies, .call = call, .product = true});
}

// Writes random keys and values to the first `slots` slots of a layer.
void fill_layer(Bench& bench, int32_t slots, int32_t layer) {
  const Case& one = bench.one;
  const int32_t step = std::min(slots, 512);
  const Rows qkv = bench.make_rows(step, (one.heads + 2 * one.kv_heads) * one.head_dim);
  for (int32_t slot = 0; slot < slots; slot += step) {
    const int32_t count = std::min(step, slots - slot);
    const Plan plan = {.runs = {{-1, slot, 0, 0, count}}, .tokens = std::vector<int32_t>(size_t(count))};
    bench.backend->begin(plan.view(), bench.answers.view());
    bench.backend->kv_append(qkv.first(count), layer, nullptr, nullptr);
    bench.backend->sync();
  }
}

Room attention_room(const Case& one, int32_t slots) {
  int32_t context = 0;
  for (const Stretch& stretch : one.rows) context = std::max(context, stretch.position + stretch.count);
  return {.slots = slots,
          .rows = int32_t(one.rows.size()),
          .step_tokens = std::max(tokens_of(one), 512),
          .context = std::max(context, 512)};
}

// Layers take turns, so that keys and values come from memory.
Seconds time_attention(const Device& device, const Case& one, uint64_t seed) {
  Plan plan;
  const int32_t slots = lay_out(one, plan);
  Case asked = one;
  const double layer_bytes = one.bytes;
  asked.layers = int32_t(std::clamp(std::ceil(2 * double(device.cache_bytes) / layer_bytes), 1.0, 16.0));
  asked.type = WeightType::bf16;  // what comes next is a product of bf16
  Bench bench(device, asked, attention_room(one, slots), seed);
  for (int32_t layer = 0; layer < asked.layers; layer++) fill_layer(bench, slots, layer);
  const int32_t tokens = tokens_of(one);
  const Rows qkv = bench.make_rows(tokens, (one.heads + 2 * one.kv_heads) * one.head_dim);
  Operand& out = bench.make_operand(tokens, one.heads * one.head_dim);
  bench.plan = std::move(plan);
  bench.begin();
  return bench.seconds({asked.layers, [&](int32_t layer) { bench.backend->attention(out, qkv, layer); }});
}

Seconds time_kv_append(const Device& device, const Case& one, uint64_t seed) {
  Plan plan;
  const int32_t slots = lay_out(one, plan);
  Bench bench(device, one, attention_room(one, slots), seed);
  const int32_t tokens = tokens_of(one), copies = bench.copies(one.bytes);
  const Vector* norm = one.normed ? &bench.make_vector(one.head_dim) : nullptr;
  for (int32_t i = 0; i < copies; i++) bench.make_rows(tokens, (one.heads + 2 * one.kv_heads) * one.head_dim);
  bench.plan = std::move(plan);
  bench.begin();
  return bench.seconds(
      {copies, [&](int32_t i) { bench.backend->kv_append(bench.rows[size_t(i)], i % one.layers, norm, norm); }});
}

Seconds time_moves(const Device& device, const Case& one, uint64_t seed) {
  const Room room = {.slots = one.slots, .host_slots = host_slots(one), .step_tokens = 512, .context = 512};
  Bench bench(device, one, room, seed);
  for (int32_t layer = 0; layer < one.layers; layer++) fill_layer(bench, one.slots, layer);
  bench.plan.moves = one.parked ? parked(one) : one.moves;
  return bench.seconds({1, [&](int32_t) { bench.begin(); }, true});
}

Bench sampled_rows(const Device& device, const Case& one, uint64_t seed) {
  const Room room = {
      .slots = one.tokens * kTile, .rows = one.tokens, .step_tokens = one.tokens, .vocabulary = one.outputs};
  Bench bench(device, one, room, seed);
  for (int32_t row = 0; row < one.tokens; row++) {
    bench.plan.runs.push_back({row, row * kTile, 0, 0, 1});
    bench.plan.tokens.push_back(0);
    bench.plan.starts.push_back({row, one.sampling, {0}, 1});
    bench.plan.starts.back().sampling.seed = bench.random.next();
  }
  return bench;
}

Seconds time_sample(const Device& device, const Case& one, uint64_t seed) {
  Bench bench = sampled_rows(device, one, seed);
  const int32_t copies = std::min(8, bench.copies(one.bytes));
  for (int32_t i = 0; i < copies; i++) bench.make_rows(one.tokens, one.outputs);
  bench.begin();
  return bench.seconds({copies, [&](int32_t i) { bench.backend->sample(bench.rows[size_t(i)], 0); }});
}

Seconds time_row_compact(const Device& device, const Case& one, uint64_t seed) {
  Bench bench = sampled_rows(device, one, seed);
  bench.begin();
  bench.backend->sync();
  bench.plan = {.row_moves = {{one.tokens - 1, 0}}};
  return bench.seconds({1, [&](int32_t) { bench.begin(); }, true});
}

using Time = Seconds(const Device& device, const Case& one, uint64_t seed);

Time* time_of(const std::string& op) {
  static const std::map<std::string, Time*> times = {
      {"embedding", time_embedding},
      {"rms_norm", time_rms_norm},
      {"convert", time_convert},
      {"matmul", time_matmul},
      {"matmul_add", time_matmul_add},
      {"matmul_swiglu", time_matmul_swiglu},
      {"kv_append", time_kv_append},
      {"kv_embed", time_moves},
      {"kv_pad", time_moves},
      {"kv_compact", time_moves},
      {"kv_park", time_moves},
      {"row_compact", time_row_compact},
      {"attention_decode", time_attention},
      {"attention_prefill", time_attention},
      {"select_sampled", time_select_sampled},
      {"sample", time_sample},
  };
  return times.at(op);
}

struct Result {
  std::string op, name;
  double seconds, library_seconds, bytes, operations;
  double share;         // of the ceiling that binds; NaN where neither is known
  const char* ceiling;  // memory or matrix
};

Result result_of(const std::string& op, const Case& one, Seconds seconds, const Ceilings& ceilings) {
  const bool attention = op.starts_with("attention");
  const WeightType type = attention && one.kv == KvType::bf16 ? WeightType::bf16 : one.type;
  const auto least = [](double work, double per_second) { return per_second > 0 ? work / per_second : 0; };
  const double memory = least(one.bytes, ceilings.bytes_per_second);
  const double matrix = least(one.operations, ceilings.operations(type));
  const double share = std::max(memory, matrix) / seconds.ours;
  return {op,
          one.name,
          seconds.ours,
          seconds.library,
          one.bytes,
          one.operations,
          share > 0 ? share : NAN,
          matrix > memory ? "matrix" : "memory"};
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') out += '\\';
    if (uint8_t(letter) >= 0x20) out += letter;
  }
  return out + "\"";
}

// A number as JSON has it.
std::string shown(const char* format, double value) {
  if (std::isnan(value)) return "null";
  char text[32];
  snprintf(text, sizeof text, format, value);
  return text;
}

void write_json(const BenchOptions& options, const Device& device, const Ceilings& ceilings,
                const std::vector<Result>& results) {
  const std::string& path = options.json;
  FILE* file = fopen(path.c_str(), "w");
  REQUIRE(file != nullptr, "INTERNAL", "--json: expected a file that can be written, got " + path);
  fprintf(file, "{\n  \"device\": {\"name\": %s, \"hardware\": %s},\n", quoted(device.name).c_str(),
          quoted(device.hardware).c_str());
  fprintf(file, "  \"ceilings\": {\"gigabytesPerSecond\": %.6g", ceilings.bytes_per_second / 1e9);
  fprintf(file, ", \"gigaflopsPerSecond\": {\"f32\": %.6g, \"bf16\": %.6g, \"int8\": %.6g}},\n",
          ceilings.operations(WeightType::f32) / 1e9, ceilings.operations(WeightType::bf16) / 1e9,
          ceilings.operations(WeightType::int8) / 1e9);
  fprintf(file, "  \"library\": {\"name\": %s, \"reason\": %s},\n", quoted(device.library).c_str(),
          quoted(options.without_library).c_str());
  fprintf(file, "  \"results\": [");
  for (size_t i = 0; i < results.size(); i++) {
    const Result& one = results[i];
    fprintf(file,
            "%s\n    {\"op\": %s, \"case\": %s, \"device\": %s, \"microseconds\": %.6g, \"gigabytesPerSecond\": %.6g, "
            "\"gigaflopsPerSecond\": %.6g, \"shareOfCeiling\": %s, \"ceiling\": \"%s\", "
            "\"libraryMicroseconds\": %s, \"ratioToLibrary\": %s}",
            i == 0 ? "" : ",", quoted(one.op).c_str(), quoted(one.name).c_str(), quoted(device.name).c_str(),
            one.seconds * 1e6, one.bytes / one.seconds / 1e9, one.operations / one.seconds / 1e9,
            shown("%.4f", one.share).c_str(), one.ceiling, shown("%.6g", one.library_seconds * 1e6).c_str(),
            shown("%.4f", one.seconds / one.library_seconds).c_str());
  }
  fprintf(file, "\n  ]\n}\n");
  const bool written = ferror(file) == 0;
  REQUIRE(fclose(file) == 0 && written, "INTERNAL", "--json: could not write " + path);
}

void print(const Result& one) {
  char share[32] = "";
  if (!std::isnan(one.share)) snprintf(share, sizeof share, "%5.1f %% of %s", 100 * one.share, one.ceiling);
  printf("%-18s %-48s %10.1f %9.1f %10.1f  %-18s", one.op.c_str(), one.name.c_str(), one.seconds * 1e6,
         one.bytes / one.seconds / 1e9, one.operations / one.seconds / 1e9, share);
  if (!std::isnan(one.library_seconds)) {
    printf(" %10.1f %8.2f", one.library_seconds * 1e6, one.seconds / one.library_seconds);
  }
  printf("\n");
  fflush(stdout);
}

}  // namespace

void bench(const Device& device, const std::vector<OpCases>& ops, const BenchOptions& options) {
  const double start = now();
  const Ceilings ceilings = device.measure();
  printf("%s: %s; %.1f GB/s, %.0f GFLOP/s bf16, %.0f GOP/s int8\n", device.name.c_str(), device.hardware.c_str(),
         ceilings.bytes_per_second / 1e9, ceilings.operations(WeightType::bf16) / 1e9,
         ceilings.operations(WeightType::int8) / 1e9);
  if (!options.without_library.empty()) printf("no library to compare with: %s\n", options.without_library.c_str());
  if (!device.library.empty()) printf("ours / library: times of %s\n", device.library.c_str());
  printf("%-18s %-48s %10s %9s %10s  %-18s", "op", "case", "us", "GB/s", "GFLOP/s", "ceiling");
  printf(device.library.empty() ? "\n" : " %10s %8s\n", "library us", "ours / l");
  std::vector<Result> results;
  int32_t failed = 0, skipped = 0;
  for (const OpCases& op : ops) {
    for (const Case& one : op.cases) {
      if ((one.use == Use::quick) != options.quick) continue;
      if (one.tokens == 0 && one.rows.empty() && one.moves.empty()) continue;  // nothing is asked
      if (now() - start > options.seconds) {
        skipped++;
        continue;
      }
      try {
        results.push_back(result_of(op.op, one, time_of(op.op)(device, one, options.seed), ceilings));
        print(results.back());
      } catch (const Error& error) {
        printf("%-18s %-48s %s: %s\n", op.op.c_str(), one.name.c_str(), error.code, error.what());
        failed++;
      }
    }
  }
  printf("%zu timed, %d failed, %d skipped\n", results.size(), failed, skipped);
  if (!options.json.empty()) write_json(options, device, ceilings, results);
}

}  // namespace baton::ops
