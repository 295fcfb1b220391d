#include "ops/cases.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>

namespace baton::ops {

namespace {

using std::to_string;

// Of the product of both vectors' lengths, which bounds any sum of products. Sums in float stay below 2e-7 of it for
// random vectors however long; tensor cores that cut off instead of rounding reach some 5e-7.
constexpr double kSumTolerance = 2e-6;
// Of the value: a sum of squares in float, a reciprocal square root good to 2 units in the last place.
constexpr double kNormTolerance = 2e-6;
// Of the length of the pair that is turned: float tables of cosines and sines, float products, and the norm before.
constexpr double kRopeTolerance = 4e-6;
// Of values of about 1, where all is float: exponentials good to 2 units in the last place of scores below 16.
constexpr double kAttentionTolerance = 1e-5;
// The same where q and the weights of values are rounded to bf16: half a unit in the last place is 2^-9 of each.
// test_attention.cpp asks a tenth of it as the root mean square.
constexpr double kBf16AttentionTolerance = 3e-2;
// Of log-probabilities: the log of a sum of exponentials in float.
constexpr double kLogprobTolerance = 1e-5;

constexpr WeightType kTypes[] = {WeightType::f32, WeightType::bf16, WeightType::int8};
constexpr KvType kKvTypes[] = {KvType::f32, KvType::bf16};

struct ModelShape {
  const char* name;
  int32_t hidden, intermediate, heads, kv_heads, head_dim, vocabulary;
};

constexpr ModelShape kLlama = {"llama-8b", 4096, 14336, 32, 8, 128, 128256};
constexpr ModelShape kQwen = {"qwen-0.5b", 896, 4864, 14, 2, 64, 151936};
constexpr ModelShape kSmol = {"smollm2-135m", 576, 1536, 9, 3, 64, 49152};
constexpr ModelShape kModels[] = {kSmol, kQwen, kLlama};

// Sweeps
constexpr ModelShape kSmallLlama = {"llama-3.2-1b", 2048, 8192, 32, 8, 64, 128256};
constexpr ModelShape kSwept[] = {kSmol, kQwen, kSmallLlama};
constexpr ModelShape kSweptHeads[] = {kSmol, kSmallLlama};
constexpr int32_t kSweptTokens[] = {1, 8, 64, 512};

std::string count_of(int32_t count, const char* what) {
  return to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string sized(int32_t outputs, int32_t inputs, WeightType type, int32_t tokens) {
  return to_string(outputs) + " x " + to_string(inputs) + " " + name_of(type) + ", " + count_of(tokens, "token");
}

// Puts a case on a line and names it: "line, 16 tokens".
void put(Case& one, const std::string& line, const char* against, int32_t x) {
  std::string unit = against;
  if (x == 1) unit.erase(unit.find_first_of(' ') == std::string::npos ? unit.size() - 1 : unit.find(' ') - 1, 1);
  one.use = Use::sweep;
  one.name = line + ", " + to_string(x) + " " + unit;
  one.line = line;
  one.against = against;
  one.x = x;
}

// Row-wise ops

std::vector<Case> embedding_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::string name, Use use, int32_t tokens, int32_t width, int32_t vocabulary, WeightType type) {
    cases.push_back({.name = std::move(name),
                     .use = use,
                     .tolerance = type == WeightType::int8 ? 1e-6 : 0,  // of the value: byte times scale in float
                     .tokens = tokens,
                     .inputs = width,
                     .outputs = vocabulary,
                     .type = type,
                     .bytes = double(tokens) * width * (bytes_of(type) + 4)});
  };
  for (const WeightType type : kTypes) {
    for (const auto& [tokens, width, vocabulary] :
         {std::tuple{0, 40, 9}, {1, 1, 1}, {5, 15, 37}, {21, 130, 37}, {3, 256, 300}}) {
      add(sized(vocabulary, width, type, tokens), Use::quick, tokens, width, vocabulary, type);
    }
  }
  add("20 MB in pieces, f32, 5 tokens", Use::quick, 5, 1024, 5000, WeightType::f32);
  for (const ModelShape& model : kModels) {
    const Use use = model.hidden > 1000 ? Use::bench : Use::real;
    for (const int32_t tokens : {1, 64, 512}) {
      add(std::string(model.name) + " bf16, " + count_of(tokens, "token"), use, tokens, model.hidden, model.vocabulary,
          WeightType::bf16);
    }
  }
  for (const int32_t tokens : kSweptTokens) {
    add("", Use::sweep, tokens, kSmol.hidden, kSmol.vocabulary, WeightType::bf16);
    put(cases.back(), "smollm2-135m bf16", "tokens", tokens);
  }
  return cases;
}

std::vector<Case> row_cases(double tolerance) {
  std::vector<Case> cases;
  const auto add = [&](std::string name, Use use, int32_t tokens, int32_t width, WeightType type) {
    cases.push_back({.name = std::move(name),
                     .use = use,
                     .tolerance = tolerance,
                     .tokens = tokens,
                     .inputs = width,
                     .type = type,
                     .bytes = double(tokens) * width * (4 + bytes_of(type))});
  };
  for (const WeightType type : kTypes) {
    for (const auto& [tokens, width] : {std::pair{0, 64}, {1, 1}, {3, 15}, {21, 64}, {2, 130}, {5, 256}, {1, 1100}}) {
      add(to_string(width) + " " + name_of(type) + ", " + count_of(tokens, "token"), Use::quick, tokens, width, type);
    }
    for (const ModelShape& model : kModels) {
      for (const int32_t tokens : {1, 16, 512}) {
        if (type == WeightType::f32 && tokens != 16) continue;
        add(std::string(model.name) + " " + name_of(type) + ", " + count_of(tokens, "token"), Use::real, tokens,
            model.hidden, type);
      }
    }
    for (const ModelShape& model : kSweptHeads) {
      for (const int32_t tokens : kSweptTokens) {
        if (type == WeightType::f32) continue;
        add("", Use::sweep, tokens, model.hidden, type);
        put(cases.back(), std::string(model.name) + " " + name_of(type), "tokens", tokens);
      }
    }
  }
  return cases;
}

std::vector<Case> select_cases() {
  std::vector<Case> cases;
  for (const auto& [tokens, width] : {std::pair{1, 1}, {9, 15}, {40, 130}, {64, 256}}) {
    cases.push_back({.name = to_string(width) + ", " + count_of(tokens, "token"), .tokens = tokens, .inputs = width});
  }
  cases.push_back({.name = "llama-8b, 64 tokens", .use = Use::real, .tokens = 64, .inputs = kLlama.hidden});
  for (Case& one : cases) one.bytes = 8.0 * one.tokens * one.inputs;
  return cases;
}

// Matrix products

enum class Product { plain, add, swiglu };

std::vector<Case> product_cases(Product product) {
  std::vector<Case> cases;
  const auto add = [&](std::string name, Use use, int32_t tokens, int32_t outputs, int32_t inputs, WeightType type) {
    const double rows = product == Product::swiglu ? 2.0 * outputs : outputs;
    const double answer = product == Product::swiglu ? bytes_of(type) : product == Product::add ? 8 : 4;
    cases.push_back({.name = std::move(name),
                     .use = use,
                     .tolerance = kSumTolerance,
                     .tokens = tokens,
                     .inputs = inputs,
                     .outputs = outputs,
                     .type = type,
                     .bytes = bytes_of(type) * (rows + tokens) * inputs + answer * tokens * outputs,
                     .operations = 2.0 * tokens * rows * inputs});
  };
  // Around every border: vectors and tiles of 8, 16, 32, 64 and 128 outputs, as many tokens, 16 to 256 bytes of inputs;
  // one product is longer than any pipeline, one is cut along k and ends in part of a pair of blocks.
  for (const WeightType type : kTypes) {
    for (const auto& [tokens, outputs, inputs] : {std::tuple{0, 40, 64},
                                                  {1, 1, 1},
                                                  {2, 33, 8},
                                                  {3, 31, 172},
                                                  {16, 64, 64},
                                                  {17, 100, 250},
                                                  {8, 72, 2100},
                                                  {33, 48, 96},
                                                  {65, 129, 256},
                                                  {150, 80, 130},
                                                  {70, 100, 1500}}) {
      add(sized(outputs, inputs, type, tokens), Use::quick, tokens, outputs, inputs, type);
    }
  }
  struct Layer {
    const char* name;
    Product product;
    int32_t outputs, inputs;
  };
  const auto layers_of = [](const ModelShape& model) {
    const int32_t q_width = model.heads * model.head_dim;
    return std::array{
        Layer{"qkv", Product::plain, q_width + 2 * model.kv_heads * model.head_dim, model.hidden},
        Layer{"output", Product::add, model.hidden, q_width},
        Layer{"gate_up", Product::swiglu, model.intermediate, model.hidden},
        Layer{"down", Product::add, model.hidden, model.intermediate},
        Layer{"vocabulary", Product::plain, model.vocabulary, model.hidden},
    };
  };
  for (const ModelShape& model : kModels) {
    for (const Layer& layer : layers_of(model)) {
      if (layer.product != product) continue;
      for (const WeightType type : {WeightType::bf16, WeightType::int8, WeightType::f32}) {
        for (const int32_t tokens : {1, 4, 16, 64, 256, 2048}) {
          const bool vocabulary = layer.outputs == model.vocabulary;
          if (vocabulary && tokens > 64) continue;                // logits are made for so many rows at a time
          if (type == WeightType::f32 && tokens != 16) continue;  // for tests of other code, not for speed
          const bool large = tokens > 256 || double(layer.outputs) * layer.inputs > 8e7;
          const Use use = large || (&model == &kModels[2] && tokens % 16 != 0 && tokens > 1) ? Use::bench : Use::real;
          add(std::string(model.name) + " " + layer.name + " " + name_of(type) + ", " + count_of(tokens, "token"), use,
              tokens, layer.outputs, layer.inputs, type);
        }
      }
    }
  }
  for (const ModelShape& model : kSwept) {
    for (const Layer& layer : layers_of(model)) {
      const bool vocabulary = layer.outputs == model.vocabulary;
      if (layer.product != product || layer.inputs == layer.outputs || (vocabulary && model.hidden > 1000)) continue;
      for (const WeightType type : {WeightType::bf16, WeightType::int8}) {
        for (int32_t tokens = 1; tokens <= (vocabulary ? 64 : 512); tokens *= vocabulary ? 4 : 2) {
          add("", Use::sweep, tokens, layer.outputs, layer.inputs, type);
          put(cases.back(), std::string(model.name) + " " + layer.name + " " + name_of(type), "tokens", tokens);
        }
      }
    }
  }
  return cases;
}

// Keys and values

struct HeadShape {
  int32_t head_dim, group;
};

// All widths of rows that kernels know, sizes that fill none, and all sizes of groups of models there are.
constexpr HeadShape kHeadShapes[] = {{8, 1},  {32, 2},  {40, 3},   {64, 4}, {80, 7},
                                     {96, 8}, {128, 5}, {128, 16}, {256, 1}};

std::string head_name(const Case& one) {
  return "head_dim " + to_string(one.head_dim) + ", " + to_string(one.heads) + "/" + to_string(one.kv_heads) +
         " heads, " + name_of(one.kv);
}

double kv_token_bytes(const Case& one) { return 2.0 * one.kv_heads * one.head_dim * bytes_of(one.kv); }

int32_t tokens_of(const Case& one) {
  int32_t tokens = 0;
  for (const Stretch& stretch : one.rows) tokens += stretch.count;
  return tokens;
}

std::vector<Case> append_cases() {
  std::vector<Case> cases;
  const auto add = [&](Case one) {
    one.tolerance = kRopeTolerance;
    if (one.name.empty()) one.name = head_name(one) + (one.normed ? ", normed" : "");
    const double width = (one.heads + 2.0 * one.kv_heads) * one.head_dim;
    one.bytes = tokens_of(one) * (4 * width + 4.0 * one.heads * one.head_dim + kv_token_bytes(one));
    cases.push_back(std::move(one));
  };
  for (const KvType kv : kKvTypes) {
    for (const auto& [head_dim, group] : kHeadShapes) {
      if (kv == KvType::f32 && head_dim % 64 != 0 && group % 2 == 0) continue;  // other cases have either
      const int32_t kv_heads = head_dim < 96 ? 2 : 1;
      add({.kv = kv,
           .layers = 2,
           .heads = kv_heads * group,
           .kv_heads = kv_heads,
           .head_dim = head_dim,
           .normed = group % 2 == 0,
           .rows = {{0, 2}, {62, 2}, {200, 1}}});
    }
    const RopeScaling llama3 = {RopeScaling::Kind::llama3, 8, 1, 4, 64};
    add({.name = "llama3 scaling, " + std::string(name_of(kv)),
         .kv = kv,
         .heads = 2,
         .kv_heads = 1,
         .head_dim = 64,
         .rope_scaling = llama3,
         .rows = {{0, 1}, {1, 3}, {100, 5}}});
  }
  for (const ModelShape& model : kModels) {
    for (const int32_t tokens : {1, 64, 512}) {
      add({.name = std::string(model.name) + " bf16, " + count_of(tokens, "token"),
           .use = tokens == 64 ? Use::real : Use::bench,
           .kv = KvType::bf16,
           .heads = model.heads,
           .kv_heads = model.kv_heads,
           .head_dim = model.head_dim,
           .rows = {{1000, tokens}}});
    }
  }
  for (const ModelShape& model : kSweptHeads) {
    for (const int32_t tokens : kSweptTokens) {
      add({.name = "swept",
           .kv = KvType::bf16,
           .heads = model.heads,
           .kv_heads = model.kv_heads,
           .head_dim = model.head_dim,
           .rows = {{1000, tokens}}});
      put(cases.back(), std::string(model.name) + " bf16", "tokens", tokens);
    }
  }
  return cases;
}

// Moves: {from, to, slots}
std::vector<Case> move_cases(const std::vector<std::pair<const char*, std::vector<Move>>>& quick,
                             const std::function<std::vector<Move>(int32_t)>& real) {
  std::vector<Case> cases;
  const auto add = [&](std::string name, Use use, Case one) {
    one.name = std::move(name);
    one.use = use;
    double slots = 0;
    for (const Move& move : one.moves) slots += move.count;
    one.bytes = 2 * slots * one.layers * kv_token_bytes(one);  // read and written
    cases.push_back(std::move(one));
  };
  for (const auto& [name, moves] : quick) {
    const KvType kv = kKvTypes[cases.size() % 2];  // bytes are bytes
    add(std::string(name) + ", " + name_of(kv), Use::quick,
        {.kv = kv, .layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 40, .moves = moves, .slots = 192});
  }
  const auto of_model = [&](const ModelShape& model, int32_t layers, int32_t slots) {
    return Case{.kv = KvType::bf16,
                .layers = layers,
                .heads = model.kv_heads,
                .kv_heads = model.kv_heads,
                .head_dim = model.head_dim,
                .moves = real(slots),
                .slots = std::max(4 * slots, 256)};
  };
  for (const int32_t layers : {2, 32}) {
    add("llama-8b bf16, " + to_string(layers) + " layers, 1024 slots", layers == 2 ? Use::real : Use::bench,
        of_model(kLlama, layers, 1024));
  }
  for (const auto& [model, layers] : {std::pair{kSmol, 30}, {kSmallLlama, 16}}) {
    for (const int32_t slots : {16, 128, 1024, 4096}) {
      add("", Use::sweep, of_model(model, layers, slots));
      put(cases.back(), std::string(model.name) + " bf16, " + to_string(layers) + " layers", "slots", slots);
    }
  }
  return cases;
}

std::vector<Case> embed_cases() {
  return move_cases({{"a span behind masked slots", {{0, 67, 59}}},
                     {"one slot", {{5, 191, 1}}},
                     {"a span that ends the arena", {{1, 128, 64}}},
                     {"two spans", {{0, 71, 30}, {31, 150, 33}}}},
                    [](int32_t slots) {
                      return std::vector<Move>{{0, 2 * slots + 17, slots}};
                    });
}

std::vector<Case> pad_cases() {
  return move_cases({{"down by 3", {{67, 64, 100}}},
                     {"up by 7", {{64, 71, 100}}},
                     {"down by 64", {{64, 0, 128}}},
                     {"up by 1", {{0, 1, 191}}},
                     {"onto itself", {{64, 64, 70}}},
                     {"two spans", {{10, 5, 40}, {100, 101, 90}}},
                     {"by 1, and by 2", {{1, 0, 63}, {64, 66, 100}}},
                     {"down by 64 and on", {{65, 0, 70}}}},
                    [](int32_t slots) {
                      return std::vector<Move>{{64, 81, slots}};
                    });
}

std::vector<Case> compact_cases() {
  return move_cases({{"holes closed", {{64, 0, 30}, {128, 30, 3}, {190, 33, 2}}},
                     {"many of one slot",
                      {{100, 1, 1}, {102, 3, 1}, {104, 5, 1}, {106, 7, 1}, {108, 9, 1}, {110, 11, 1}, {112, 13, 1}}},
                     {"random", {}},
                     {"random once more", {}}},
                    [](int32_t slots) {
                      std::vector<Move> moves;
                      for (int32_t i = 0; i < 8; i++) {
                        moves.push_back({2 * slots + i * slots / 8, i * (slots / 8 + 3), slots / 8});
                      }
                      return moves;
                    });
}

// What is parked comes back to other slots.
std::vector<Case> park_cases() {
  auto cases = move_cases({{"a span and back", {{0, 64, 64}}},
                           {"one slot", {{190, 3, 1}}},
                           {"onto itself", {{64, 64, 100}}},
                           {"two that change places", {{0, 101, 37}, {101, 0, 37}}},
                           {"three of odd lengths", {{64, 1, 21}, {3, 70, 50}, {188, 130, 3}}}},
                          [](int32_t slots) {
                            return std::vector<Move>{{64, 2 * slots, slots}};
                          });
  for (Case& one : cases) one.parked = true;
  return cases;
}

// Attention

struct HeadCounts {
  int32_t all, kv;
};

std::vector<Case> attention_cases(bool decode) {
  std::vector<Case> cases;
  const auto add = [&](Case one) {
    one.tolerance = one.kv == KvType::bf16 ? kBf16AttentionTolerance : kAttentionTolerance;
    if (one.name.empty()) one.name = head_name(one);
    double positions = 0;  // that tokens look at
    for (const auto& [position, count] : one.rows) {
      positions += double(count) * position + double(count) * (count + 1) / 2;
      one.bytes += (position + count) * kv_token_bytes(one);
    }
    one.bytes += tokens_of(one) * 1.0 * one.heads * one.head_dim * (4 + 2);
    one.operations = 4 * positions * one.heads * one.head_dim;
    cases.push_back(std::move(one));
  };
  const std::vector<Stretch> few = decode ? std::vector<Stretch>{{0, 1}, {1, 1}, {63, 1}, {64, 1}}
                                          : std::vector<Stretch>{{0, 37}, {62, 3}, {64, 17}};
  // Both sides of each border: of tiles of 64 and splits of 256.
  const std::vector<Stretch> borders =
      decode ? std::vector<Stretch>{{254, 1}, {255, 1}, {256, 1}, {257, 1}, {511, 1}, {512, 1}, {600, 1}}
             : std::vector<Stretch>{{200, 70}, {0, 129}, {250, 16}, {511, 2}};
  for (const KvType kv : kKvTypes) {
    for (const auto& [head_dim, group] : kHeadShapes) {
      if (kv == KvType::f32 && head_dim % 64 != 0 && group % 2 == 0) continue;  // other cases have either
      const int32_t kv_heads = group > 4 ? 1 : 2;
      add({.kv = kv, .heads = kv_heads * group, .kv_heads = kv_heads, .head_dim = head_dim, .rows = few});
    }
    // Quick for its tiles: the mutants of what keeps tiles and splits apart are tried with such.
    add({.name = "one head over several splits, " + std::string(name_of(kv)),
         .kv = kv,
         .heads = 1,
         .kv_heads = 1,
         .head_dim = 32,
         .rows = {borders.back()}});
    add({.name = "tile and split borders, " + std::string(name_of(kv)),
         .kv = kv,
         .heads = 3,
         .kv_heads = 1,
         .head_dim = 64,
         .rows = borders});
    for (const int32_t head_dim : {128, 256}) {
      if (kv == KvType::f32 && head_dim == 256) continue;  // only the other type's rings are shorter for it
      add({.name = "tile and split borders, head_dim " + std::to_string(head_dim) + ", " + std::string(name_of(kv)),
           .kv = kv,
           .heads = 4,
           .kv_heads = 1,
           .head_dim = head_dim,
           .rows = {borders.back(), borders.front()}});
    }
  }
  add({.name = "more heads to a KV head than a tile of lanes has, bf16",
       .kv = KvType::bf16,
       .heads = 71,
       .kv_heads = 1,
       .head_dim = 64,
       .rows = {few.front(), few.back()}});
  if (decode) {
    std::vector<Stretch> rows(9, Stretch{0, 1});
    rows[4] = {300, 1};
    add({.name = "more blocks than run at once, bf16",
         .use = Use::real,
         .kv = KvType::bf16,
         .heads = 256,
         .kv_heads = 256,
         .head_dim = 96,
         .rows = rows});
  }
  for (const ModelShape& model : kModels) {
    const auto real = [&](Use use, int32_t rows, Stretch stretch) {
      const std::string what = decode ? count_of(rows, "row") + " of " + to_string(stretch.position + stretch.count)
                                      : count_of(stretch.count, "token") + " at " + to_string(stretch.position);
      add({.name = std::string(model.name) + " bf16, " + what,
           .use = use,
           .kv = KvType::bf16,
           .heads = model.heads,
           .kv_heads = model.kv_heads,
           .head_dim = model.head_dim,
           .rows = std::vector<Stretch>(size_t(rows), stretch)});
    };
    if (decode) {
      real(Use::real, 4, {999, 1});
      for (const int32_t rows : {1, 8, 64}) {
        for (const int32_t length : {512, 2048}) real(Use::bench, rows, {length - 1, 1});
      }
      real(Use::bench, 1, {16383, 1});
    } else {
      real(Use::real, 1, {300, 100});
      real(Use::bench, 1, {0, 512});
      real(Use::bench, 1, {0, 2048});
      real(Use::bench, 1, {4096, 512});
    }
  }
  const auto sweep = [&](const std::string& line, const char* against, int32_t x, HeadCounts heads, int32_t rows,
                         Stretch stretch) {
    add({.name = line,
         .kv = KvType::bf16,
         .heads = heads.all,
         .kv_heads = heads.kv,
         .head_dim = 64,
         .rows = std::vector<Stretch>(size_t(rows), stretch)});
    put(cases.back(), line, against, x);
  };
  constexpr int32_t kContext = 1024, kRows = 16, kChunk = 64, kMostContext = 8192;
  for (const ModelShape& model : kSweptHeads) {
    const HeadCounts heads = {model.heads, model.kv_heads};
    const std::string name = std::string(model.name) + " bf16";
    for (int32_t context = 64; decode && context <= kMostContext; context *= 2) {
      sweep(name + ", 16 rows", "positions", context, heads, kRows, {context - 1, 1});
    }
    for (int32_t rows = 1; decode && rows <= 64; rows *= 2) {
      sweep(name + ", 1024 positions", "rows", rows, heads, rows, {kContext - 1, 1});
    }
    for (int32_t tokens = 16; !decode && tokens <= 512; tokens *= 2) {
      sweep(name + ", chunk behind 1024 positions", "tokens", tokens, heads, 1, {kContext, tokens});
    }
    for (int32_t before = 0; !decode && before < kMostContext; before += std::max(before, 4 * kChunk)) {
      sweep(name + ", chunk of 64 tokens", "positions", before, heads, 1, {before, kChunk});
    }
  }
  for (const int32_t group : {1, 2, 4, 8}) {
    const HeadCounts heads = {4 * group, 4};
    if (decode) {
      sweep("4 KV heads of 64 bf16, 16 rows of 1024", "heads per KV head", group, heads, kRows, {kContext - 1, 1});
    } else {
      sweep("4 KV heads of 64 bf16, 64 tokens at 1024", "heads per KV head", group, heads, 1, {kContext, kChunk});
    }
  }
  return cases;
}

// Sampling

std::vector<Case> sample_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::string name, Use use, int32_t rows, int32_t vocabulary, Sampling sampling, bool any) {
    cases.push_back({.name = std::move(name),
                     .use = use,
                     .tolerance = kLogprobTolerance,
                     .tokens = rows,
                     .outputs = vocabulary,
                     .sampling = std::move(sampling),
                     .any_sampling = any,
                     .bytes = 4.0 * rows * vocabulary});
  };
  struct Rule {
    const char* name;
    Sampling sampling;
  };
  const Rule rules[] = {
      {"greedy", {}},
      {"temperature", {.temperature = 1}},
      {"top-k 40", {.temperature = 0.8f, .top_k = 40}},
      {"top-p 0.95", {.temperature = 0.8f, .top_p = 0.95f}},
      {"min-p 0.05", {.temperature = 1.2f, .min_p = 0.05f}},
      {"20 log-probabilities", {.logprobs = 20}},
      {"penalties", {.repetition_penalty = 1.3f, .presence_penalty = 0.7f, .frequency_penalty = 0.25f}},
      {"all of them",
       {.temperature = 0.9f,
        .top_k = 100,
        .top_p = 0.9f,
        .min_p = 0.01f,
        .repetition_penalty = 1.1f,
        .presence_penalty = 0.1f,
        .frequency_penalty = 0.1f,
        .logprobs = 5}},
  };
  for (const auto& [name, sampling] : rules) add(name, Use::quick, 2, 1000, sampling, false);
  // More than a block has threads, and some tokens twice.
  Sampling biased = {.temperature = 1};
  for (int32_t i = 0; i < 1700; i++) biased.bias.push_back({i * 7 % 1500, 0.5f * float(i % 5 - 2)});
  add("1700 biases", Use::quick, 1, 1500, biased, false);
  for (const int32_t vocabulary : {1, 2, 15, 64, 65, 1025}) {
    add("any rules, vocabulary " + to_string(vocabulary), Use::quick, 3, vocabulary, {}, true);
  }
  add("any rules, vocabulary 9000", Use::real, 16, 9000, {}, true);
  for (const auto& [name, sampling] : rules) {
    add("qwen-0.5b " + std::string(name) + ", 4 rows", Use::real, 4, kQwen.vocabulary, sampling, false);
    for (const int32_t rows : {1, 16, 64}) {
      add("llama-8b " + std::string(name) + ", " + count_of(rows, "row"), Use::bench, rows, kLlama.vocabulary, sampling,
          false);
    }
    if (std::string(name) != "greedy" && std::string(name) != "top-p 0.95") continue;
    for (int32_t rows = 1; rows <= 64; rows *= 4) {
      add("", Use::sweep, rows, kSmol.vocabulary, sampling, false);
      put(cases.back(), "smollm2-135m " + std::string(name), "rows", rows);
    }
  }
  return cases;
}

std::vector<Case> row_compact_cases() {
  return {{.name = "4 rows", .tolerance = kLogprobTolerance, .tokens = 4, .outputs = 100},
          {.name = "llama-8b, 16 rows",
           .use = Use::real,
           .tolerance = kLogprobTolerance,
           .tokens = 16,
           .outputs = kLlama.vocabulary}};
}

}  // namespace

std::vector<OpCases> all_cases() {
  return {{"kv_embed", embed_cases()},
          {"kv_pad", pad_cases()},
          {"kv_compact", compact_cases()},
          {"kv_park", park_cases()},
          {"row_compact", row_compact_cases()},
          {"embedding", embedding_cases()},
          {"rms_norm", row_cases(kNormTolerance)},
          {"convert", row_cases(0)},
          {"matmul", product_cases(Product::plain)},
          {"kv_append", append_cases()},
          {"attention_decode", attention_cases(true)},
          {"attention_prefill", attention_cases(false)},
          {"matmul_add", product_cases(Product::add)},
          {"matmul_swiglu", product_cases(Product::swiglu)},
          {"select_sampled", select_cases()},
          {"sample", sample_cases()}};
}

double bytes_of(WeightType type) { return type == WeightType::f32 ? 4 : type == WeightType::bf16 ? 2 : 1; }
double bytes_of(KvType type) { return type == KvType::f32 ? 4 : 2; }

const char* name_of(WeightType type) {
  return type == WeightType::f32 ? "f32" : type == WeightType::bf16 ? "bf16" : "int8";
}

const char* name_of(KvType type) { return type == KvType::f32 ? "f32" : "bf16"; }

const char* name_of(Use use) {
  return use == Use::quick ? "quick" : use == Use::real ? "real" : use == Use::bench ? "bench" : "sweep";
}

}  // namespace baton::ops
