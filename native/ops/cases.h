#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/plan.h"

namespace baton::ops {

enum class Use {
  quick,  // small enough for the emulator
  real,   // shapes of real models: tested and timed on real devices
  bench,  // timed only: the definition in double would take minutes, and `real` has the same code path
  sweep,  // timed only, and only when asked for: a point of a line
};

// What the step computes of one row: `count` tokens, the first of them at `position`.
struct Stretch {
  int32_t position, count;

  bool operator==(const Stretch&) const = default;
};

// One case of an op: what it is asked, how near the answer must come, and what it costs. An op looks at the fields of
// its own shape only; inputs are drawn anew by every run.
struct Case {
  std::string name = {};
  Use use = Use::quick;
  double tolerance = 0;  // 0: bit by bit. Of what, and why so much: see the constants in cases.cpp

  int32_t tokens = 0;   // rows of activations
  int32_t inputs = 0;   // values of one
  int32_t outputs = 0;  // values of an answer; the rows of a table
  WeightType type = WeightType::f32;

  KvType kv = KvType::f32;
  int32_t layers = 1;
  int32_t heads = 1;
  int32_t kv_heads = 1;
  int32_t head_dim = 32;
  bool normed = false;  // q and k, per head
  RopeScaling rope_scaling = {};
  std::vector<Stretch> rows = {};  // kv_append and attention; each row has a span of its own
  std::vector<Move> moves = {};    // of slots; kv_compact without any: random ones
  int32_t slots = 0;               // moves: of the arena
  bool parked = false;             // each move goes by way of host memory, in two steps

  Sampling sampling = {};
  bool any_sampling = false;  // every parameter at random instead

  // Of one call: what must be moved at least, and what must be computed.
  double bytes = 0;
  double operations = 0;

  // Of a sweep: cases that differ in one thing, and where among them this one is.
  std::string line = {};
  const char* against = "";
  double x = 0;
};

struct OpCases {
  std::string op;
  std::vector<Case> cases;
};

// Every op, in the order of a step.
std::vector<OpCases> all_cases();

double bytes_of(WeightType type);
double bytes_of(KvType type);
const char* name_of(WeightType type);
const char* name_of(KvType type);
const char* name_of(Use use);

}  // namespace baton::ops
