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
constexpr int32_t kMostCopies = 256;    // of operands and weights, which take turns so that no cache holds them
constexpr double kMostSeconds = 0.2;  // of all copies once, at the ceilings: what takes longer does not wait for memory
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

// Seconds that a case takes at least, by what it moves and by what it computes; 0 where the ceiling is not known.
struct Least {
  double memory, matrix;

  double seconds() const { return std::max(memory, matrix); }
};

// What attention multiplies is of the cache's type.
WeightType type_of(const std::string& op, const Case& one) {
  if (!op.starts_with("attention")) return one.type;
  return one.kv == KvType::bf16 ? WeightType::bf16 : WeightType::f32;
}

Least least(const std::string& op, const Case& one, const Ceilings& ceilings) {
  const auto at = [](double work, double per_second) { return per_second > 0 ? work / per_second : 0; };
  return {at(one.bytes, one.moves.empty() ? ceilings.read_per_second : ceilings.copied_per_second),
          at(one.operations, ceilings.operations(type_of(op, one)))};
}

class Bench;

// What times one case after another.
struct Timer {
  const Device& device;
  const uint64_t seed;
  const int32_t repeats;
  double call_seconds = 0;  // that the case at hand will take: at the ceilings, or as far below as the one before
  // Of the product timed last: cases that differ in tokens only share their matrices.
  std::string weights = {};
  std::unique_ptr<Bench> product = {};
};

// One case at a time on a backend of its own.
class Bench {
 public:
  Bench(const Timer& timer, const Case& one, const Room& room)
      : one(one),
        device(timer.device),
        call_seconds(timer.call_seconds),
        repeats(timer.repeats),
        random(timer.seed, one.name),
        backend(device.open(options_of(one, room))),
        answers(room.rows) {}

  Case one;
  const Device& device;
  double call_seconds;  // expected
  int32_t repeats;
  Random random;
  std::unique_ptr<Backend> backend;
  Answers answers;
  std::vector<std::unique_ptr<Matrix>> matrices;
  std::vector<std::unique_ptr<Operand>> operands;
  std::vector<std::unique_ptr<Vector>> vectors;
  std::vector<Rows> rows;
  Plan plan;

  // As many as it takes until `bytes` each are more than caches hold; two of what takes its time for computing.
  int32_t copies(double bytes) const {
    const double cold = std::ceil(2 * double(device.cache_bytes) / std::max(bytes, 1.0));
    const double quick = std::max(2.0, kMostSeconds / std::max(call_seconds, 1e-9));
    return int32_t(std::clamp(std::min(cold, quick), 1.0, double(kMostCopies)));
  }

  // Of the matrices there are: fewer where calls are longer than those they were made for.
  int32_t weights_in_turn() const { return std::min(int32_t(matrices.size()), copies(double(matrices[0]->bytes))); }

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
    std::vector<double> times = backend->seconds(contenders, repeats);
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
    while (int32_t(times.size()) < repeats) {
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
    std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
    return times[size_t(repeats / 2)];
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

Seconds time_embedding(Timer& timer, const Case& one) {
  const int32_t room = std::max(one.tokens, kTile);
  Bench bench(timer, one, {.slots = room, .step_tokens = room, .context = room, .vocabulary = one.outputs});
  if (one.tokens > 0) bench.plan.runs = {{-1, 0, 0, 0, one.tokens}};
  for (int32_t i = 0; i < one.tokens; i++) bench.plan.tokens.push_back(bench.random.integer(0, one.outputs - 1));
  bench.make_matrices(1, one.outputs, one.inputs, false);
  const Rows out = bench.make_rows(one.tokens, one.inputs);
  bench.begin();
  return bench.seconds({1, [&](int32_t) { bench.backend->embedding(out, *bench.matrices[0]); }});
}

Seconds time_rows(Timer& timer, const Case& one, bool norm) {
  Bench bench(timer, one, {});
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

Seconds time_rms_norm(Timer& timer, const Case& one) { return time_rows(timer, one, true); }

Seconds time_convert(Timer& timer, const Case& one) { return time_rows(timer, one, false); }

Seconds time_select_sampled(Timer& timer, const Case& one) {
  const Room room = {.slots = one.tokens * kTile, .rows = one.tokens, .step_tokens = one.tokens};
  Bench bench(timer, one, room);
  for (int32_t i = 0; i < one.tokens; i++) bench.plan.runs.push_back({i, i * kTile, 0, 0, 1});
  bench.plan.tokens.assign(size_t(one.tokens), 0);
  const int32_t copies = bench.copies(one.bytes);
  for (int32_t i = 0; i < 2 * copies; i++) bench.make_rows(one.tokens, one.inputs);
  bench.begin();
  return bench.seconds({copies, [&](int32_t i) {
                          bench.backend->select_sampled(bench.rows[size_t(2 * i)], bench.rows[size_t(2 * i + 1)], 0);
                        }});
}

// The bench that a product is timed on, with weights of the case's shape. What is made for one number of tokens stays.
Bench& product_bench(Timer& timer, const Case& one, bool gated) {
  const std::string weights = std::to_string(one.outputs) + " x " + std::to_string(one.inputs) + " " +
                              name_of(one.type) + (gated ? " gated" : "");
  if (timer.product == nullptr || timer.weights != weights) {
    timer.product = nullptr;  // first, for its memory
    timer.product = std::make_unique<Bench>(timer, one, Room{});
    timer.weights = weights;
    const double outputs = gated ? 2.0 * one.outputs : one.outputs;
    const double bytes = outputs * one.inputs * bytes_of(one.type);
    timer.product->make_matrices(timer.product->copies(bytes), int32_t(outputs), one.inputs, gated);
  }
  timer.product->one = one;
  timer.product->call_seconds = timer.call_seconds;
  return *timer.product;
}

// matmul, and matmul_add where `add`; the operand stays, as it does in a step.
Seconds time_product(Timer& timer, const Case& one, bool add) {
  Bench& bench = product_bench(timer, one, false);
  const Operand& x = bench.make_operand(one.tokens, one.inputs);
  const Rows out = bench.make_rows(one.tokens, one.outputs);
  const auto call = [&](int32_t i) {
    if (add) {
      bench.backend->matmul_add(out, x, *bench.matrices[size_t(i)]);
    } else {
      bench.backend->matmul(out, x, *bench.matrices[size_t(i)], nullptr);
    }
  };
  return bench.seconds({.copies = bench.weights_in_turn(), .call = call, .product = true});
}

Seconds time_matmul(Timer& timer, const Case& one) { return time_product(timer, one, false); }

Seconds time_matmul_add(Timer& timer, const Case& one) { return time_product(timer, one, true); }

Seconds time_matmul_swiglu(Timer& timer, const Case& one) {
  Bench& bench = product_bench(timer, one, true);
  const Operand& x = bench.make_operand(one.tokens, one.inputs);
  Operand& out = bench.make_operand(one.tokens, one.outputs);
  const auto call = [&](int32_t i) { bench.backend->matmul_swiglu(out, x, *bench.matrices[size_t(i)]); };
  return bench.seconds({.copies = bench.weights_in_turn(), .call = call, .product = true});
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
Seconds time_attention(Timer& timer, const Case& one) {
  Plan plan;
  const int32_t slots = lay_out(one, plan);
  Case asked = one;
  const double layer_bytes = one.bytes;
  asked.layers = int32_t(std::clamp(std::ceil(2 * double(timer.device.cache_bytes) / layer_bytes), 1.0, 16.0));
  asked.type = WeightType::bf16;  // what comes next is a product of bf16
  Bench bench(timer, asked, attention_room(one, slots));
  for (int32_t layer = 0; layer < asked.layers; layer++) fill_layer(bench, slots, layer);
  const int32_t tokens = tokens_of(one);
  const Rows qkv = bench.make_rows(tokens, (one.heads + 2 * one.kv_heads) * one.head_dim);
  Operand& out = bench.make_operand(tokens, one.heads * one.head_dim);
  bench.plan = std::move(plan);
  bench.begin();
  return bench.seconds({asked.layers, [&](int32_t layer) { bench.backend->attention(out, qkv, layer); }});
}

Seconds time_kv_append(Timer& timer, const Case& one) {
  Plan plan;
  const int32_t slots = lay_out(one, plan);
  Bench bench(timer, one, attention_room(one, slots));
  const int32_t tokens = tokens_of(one), copies = bench.copies(one.bytes);
  const Vector* norm = one.normed ? &bench.make_vector(one.head_dim) : nullptr;
  for (int32_t i = 0; i < copies; i++) bench.make_rows(tokens, (one.heads + 2 * one.kv_heads) * one.head_dim);
  bench.plan = std::move(plan);
  bench.begin();
  return bench.seconds(
      {copies, [&](int32_t i) { bench.backend->kv_append(bench.rows[size_t(i)], i % one.layers, norm, norm); }});
}

Seconds time_moves(Timer& timer, const Case& one) {
  const Room room = {.slots = one.slots, .host_slots = host_slots(one), .step_tokens = 512, .context = 512};
  Bench bench(timer, one, room);
  for (int32_t layer = 0; layer < one.layers; layer++) fill_layer(bench, one.slots, layer);
  bench.plan.moves = one.parked ? parked(one) : one.moves;
  return bench.seconds({1, [&](int32_t) { bench.begin(); }, true});
}

Bench sampled_rows(Timer& timer, const Case& one) {
  const Room room = {
      .slots = one.tokens * kTile, .rows = one.tokens, .step_tokens = one.tokens, .vocabulary = one.outputs};
  Bench bench(timer, one, room);
  for (int32_t row = 0; row < one.tokens; row++) {
    bench.plan.runs.push_back({row, row * kTile, 0, 0, 1});
    bench.plan.tokens.push_back(0);
    bench.plan.starts.push_back({row, one.sampling, {0}, 1});
    bench.plan.starts.back().sampling.seed = bench.random.next();
  }
  return bench;
}

Seconds time_sample(Timer& timer, const Case& one) {
  Bench bench = sampled_rows(timer, one);
  const int32_t copies = std::min(8, bench.copies(one.bytes));
  for (int32_t i = 0; i < copies; i++) bench.make_rows(one.tokens, one.outputs);
  bench.begin();
  return bench.seconds({copies, [&](int32_t i) { bench.backend->sample(bench.rows[size_t(i)], 0); }});
}

Seconds time_row_compact(Timer& timer, const Case& one) {
  Bench bench = sampled_rows(timer, one);
  bench.begin();
  bench.backend->sync();
  bench.plan = {.row_moves = {{one.tokens - 1, 0}}};
  return bench.seconds({1, [&](int32_t) { bench.begin(); }, true});
}

using Time = Seconds(Timer& timer, const Case& one);

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

// NaN where nothing is known that could be shared.
double share_of(double least, Seconds seconds) { return least > 0 ? least / seconds.ours : NAN; }

struct Result {
  std::string op;
  const Case& one;
  Seconds seconds;
  Least least;

  double share() const { return share_of(least.seconds(), seconds); }
  const char* ceiling() const { return least.matrix > least.memory ? "matrix" : "memory"; }
};

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
  fprintf(file, "  \"ceilings\": {\"gigabytesPerSecond\": %.6g, \"copiedGigabytesPerSecond\": %.6g",
          ceilings.read_per_second / 1e9, ceilings.copied_per_second / 1e9);
  fprintf(file, ", \"gigaflopsPerSecond\": {\"f32\": %.6g, \"bf16\": %.6g, \"int8\": %.6g}},\n",
          ceilings.operations(WeightType::f32) / 1e9, ceilings.operations(WeightType::bf16) / 1e9,
          ceilings.operations(WeightType::int8) / 1e9);
  fprintf(file, "  \"library\": {\"name\": %s, \"reason\": %s},\n", quoted(device.library).c_str(),
          quoted(options.without_library).c_str());
  fprintf(file, "  \"results\": [");
  for (size_t i = 0; i < results.size(); i++) {
    const auto& [op, one, seconds, bound] = results[i];
    fprintf(file,
            "%s\n    {\"op\": %s, \"case\": %s, \"device\": %s, \"type\": \"%s\", \"microseconds\": %.6g, "
            "\"gigabytesPerSecond\": %.6g, \"gigaflopsPerSecond\": %.6g, \"bandwidthShare\": %s, \"computeShare\": %s, "
            "\"shareOfCeiling\": %s, \"ceiling\": \"%s\", \"libraryMicroseconds\": %s, \"ratioToLibrary\": %s",
            i == 0 ? "" : ",", quoted(op).c_str(), quoted(one.name).c_str(), quoted(device.name).c_str(),
            name_of(type_of(op, one)), seconds.ours * 1e6, one.bytes / seconds.ours / 1e9,
            one.operations / seconds.ours / 1e9, shown("%.4f", share_of(bound.memory, seconds)).c_str(),
            shown("%.4f", share_of(bound.matrix, seconds)).c_str(), shown("%.4f", results[i].share()).c_str(),
            results[i].ceiling(), shown("%.6g", seconds.library * 1e6).c_str(),
            shown("%.4f", seconds.ours / seconds.library).c_str());
    if (!one.line.empty()) {
      fprintf(file, ", \"line\": %s, \"against\": \"%s\", \"x\": %.6g", quoted(one.line).c_str(), one.against, one.x);
    }
    fprintf(file, "}");
  }
  fprintf(file, "\n  ]\n}\n");
  const bool written = ferror(file) == 0;
  REQUIRE(fclose(file) == 0 && written, "INTERNAL", "--json: could not write " + path);
}

void print(const Result& result) {
  const auto& [op, one, seconds, bound] = result;
  char share[32] = "";
  if (!std::isnan(result.share()))
    snprintf(share, sizeof share, "%5.1f %% of %s", 100 * result.share(), result.ceiling());
  printf("%-18s %-48s %10.1f %9.1f %10.1f  %-18s", op.c_str(), one.name.c_str(), seconds.ours * 1e6,
         one.bytes / seconds.ours / 1e9, one.operations / seconds.ours / 1e9, share);
  if (!std::isnan(seconds.library)) printf(" %10.1f %8.2f", seconds.library * 1e6, seconds.ours / seconds.library);
  printf("\n");
  fflush(stdout);
}

// Of its ceiling, that the case before it on its line reached; 1 where there is none.
double share_before(const std::vector<Result>& results, const Case& one) {
  if (one.line.empty() || results.empty() || results.back().one.line != one.line) return 1;
  return results.back().share() > 0 ? std::min(results.back().share(), 1.0) : 1;
}

bool wanted(const Case& one, const BenchOptions& options) {
  if (one.tokens == 0 && one.rows.empty() && one.moves.empty()) return false;  // nothing is asked
  if (options.sweep) return one.use == Use::sweep;
  return options.quick ? one.use == Use::quick : one.use == Use::real || one.use == Use::bench;
}

}  // namespace

void bench(const Device& device, const std::vector<OpCases>& ops, const BenchOptions& options) {
  const double start = now();
  const Ceilings ceilings = device.measure();
  printf("%s: %s; %.1f GB/s read, %.1f GB/s copied, %.0f GFLOP/s bf16, %.0f GOP/s int8\n", device.name.c_str(),
         device.hardware.c_str(), ceilings.read_per_second / 1e9, ceilings.copied_per_second / 1e9,
         ceilings.operations(WeightType::bf16) / 1e9, ceilings.operations(WeightType::int8) / 1e9);
  if (!options.without_library.empty()) printf("no library to compare with: %s\n", options.without_library.c_str());
  if (!device.library.empty()) printf("ours / library: times of %s\n", device.library.c_str());
  printf("%-18s %-48s %10s %9s %10s  %-18s", "op", "case", "us", "GB/s", "GFLOP/s", "ceiling");
  printf(device.library.empty() ? "\n" : " %10s %8s\n", "library us", "ours / l");
  std::vector<Result> results;
  Timer timer = {device, options.seed, options.repeats};
  int32_t failed = 0, skipped = 0, long_ones = 0;
  for (const OpCases& op : ops) {
    timer.product = nullptr;
    for (const Case& one : op.cases) {
      if (!wanted(one, options)) continue;
      const Least bound = least(op.op, one, ceilings);
      timer.call_seconds = bound.seconds() / share_before(results, one);
      if (timer.call_seconds > options.call_seconds) {
        long_ones++;
        continue;
      }
      if (now() - start > options.seconds) {
        skipped++;
        continue;
      }
      try {
        results.push_back({op.op, one, time_of(op.op)(timer, one), bound});
        print(results.back());
      } catch (const Error& error) {
        printf("%-18s %-48s %s: %s\n", op.op.c_str(), one.name.c_str(), error.code, error.what());
        failed++;
      }
    }
  }
  if (long_ones > 0) printf("%d left out: a call would take over %g s\n", long_ones, options.call_seconds);
  printf("%zu timed, %d failed, %d skipped\n", results.size(), failed, skipped);
  if (!options.json.empty()) write_json(options, device, ceilings, results);
}

}  // namespace baton::ops
