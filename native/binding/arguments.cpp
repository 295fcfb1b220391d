#include "binding/arguments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace baton {

namespace {

constexpr int32_t kMostRows = 1 << 16;
constexpr int32_t kMostStepTokens = 1 << 20;
constexpr int64_t kMostKvBytes = int64_t(1) << 46;  // half of what a process can address

const char* kind_of(Napi::Value value) {
  if (value.IsEmpty()) return "nothing";
  if (value.IsTypedArray()) return "another typed array";
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return value.IsArray() ? "an array" : "an object";
  }
}

[[noreturn]] void fail(const std::string& name, const std::string& expected, const std::string& received) {
  throw Error("INVALID_ARGUMENT", name + ": expected " + expected + ", got " + received);
}

Napi::Object read_object(Napi::Value value, const std::string& name) {
  if (!value.IsObject()) fail(name, "an object", kind_of(value));
  return value.As<Napi::Object>();
}

Napi::Array read_list(Napi::Value value, const std::string& name) {
  if (!value.IsArray()) fail(name, "an array", kind_of(value));
  return value.As<Napi::Array>();
}

template <typename T>
constexpr napi_typedarray_type kTypedArray = napi_int32_array;
template <>
constexpr napi_typedarray_type kTypedArray<float> = napi_float32_array;
template <>
constexpr napi_typedarray_type kTypedArray<uint16_t> = napi_uint16_array;

template <typename T>
const char* array_name() {
  if constexpr (std::is_same_v<T, float>) return "a Float32Array";
  if constexpr (std::is_same_v<T, uint16_t>) return "a Uint16Array";
  return "an Int32Array";
}

// Copies the first `count` records of a plan's array `name`, each made of int32 fields.
template <typename Record>
void read_records(std::vector<Record>& records, Napi::Object plan, const char* name, const char* count_name) {
  constexpr size_t kFields = sizeof(Record) / sizeof(int32_t);
  const size_t count = size_t(read_integer(plan.Get(count_name), count_name));
  const std::span<const int32_t> array = read_array<int32_t>(plan.Get(name), name);
  if (array.size() / kFields < count) {
    fail(name, std::to_string(count * kFields) + " numbers or more for " + count_name + " " + std::to_string(count),
         std::to_string(array.size()));
  }
  records.resize(count);
  if (count > 0) std::memcpy(records.data(), array.data(), count * sizeof(Record));
}

// Any array-like of integers; typed arrays are copied whole.
void read_integers(std::vector<int32_t>& integers, Napi::Value value, const std::string& name) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array) {
    const std::span<const int32_t> array = read_array<int32_t>(value, name.c_str());
    integers.assign(array.begin(), array.end());
    return;
  }
  const Napi::Object array = read_object(value, name);
  const uint32_t length = uint32_t(read_integer(array.Get("length"), name + ".length"));
  integers.clear();  // and not resized first: `length` may be a lie of any size
  for (uint32_t i = 0; i < length; i++) {
    const Napi::HandleScope scope(value.Env());
    integers.push_back(read_integer(array.Get(i), name, std::numeric_limits<int32_t>::min()));
  }
}

void read_sampling(Sampling& sampling, Napi::Value value, const std::string& name) {
  const Napi::Object object = read_object(value, name);
  const auto number = [&](const char* field) { return float(read_number(object.Get(field), name + "." + field)); };
  const auto integer = [&](const char* field) { return read_integer(object.Get(field), name + "." + field); };
  sampling.temperature = number("temperature");
  sampling.top_k = integer("topK");
  sampling.top_p = number("topP");
  sampling.min_p = number("minP");
  sampling.repetition_penalty = number("repetitionPenalty");
  sampling.presence_penalty = number("presencePenalty");
  sampling.frequency_penalty = number("frequencyPenalty");
  const double seed = read_number(object.Get("seed"), name + ".seed");
  if (!(seed >= 0 && seed <= 0x1.fffffffffffffp52 && seed == std::trunc(seed))) {
    fail(name + ".seed", "an integer from 0 to 2^53 - 1", std::to_string(seed));
  }
  sampling.seed = uint64_t(seed);
  sampling.logprobs = integer("logprobs");
  sampling.min_tokens = integer("minTokens");
  read_integers(sampling.stop_tokens, object.Get("stopTokens"), name + ".stopTokens");
  std::vector<int32_t> tokens;
  read_integers(tokens, object.Get("biasTokens"), name + ".biasTokens");
  const std::span<const float> values = read_array<float>(object.Get("biasValues"), "biasValues");
  if (values.size() != tokens.size()) {
    fail(name + ".biasValues", "as many values as biasTokens, " + std::to_string(tokens.size()),
         std::to_string(values.size()));
  }
  sampling.bias.clear();
  for (size_t i = 0; i < tokens.size(); i++) sampling.bias.emplace_back(tokens[i], values[i]);
}

KvType read_kv_type(Napi::Value value, const std::string& name) {
  const std::string text = read_text(value, name);
  if (text == "f32") return KvType::f32;
  if (text == "bf16") return KvType::bf16;
  fail(name, "'f32' or 'bf16'", "'" + text + "'");
}

RopeScaling read_rope_scaling(Napi::Value value) {
  RopeScaling scaling;
  if (value.IsNull() || value.IsUndefined()) return scaling;
  const Napi::Object object = read_object(value, "config.ropeScaling");
  const auto number = [&](const char* field) {
    return read_number(object.Get(field), std::string("config.ropeScaling.") + field);
  };
  const std::string kind = read_text(object.Get("kind"), "config.ropeScaling.kind");
  scaling.factor = number("factor");
  if (kind == "linear") {
    scaling.kind = RopeScaling::Kind::linear;
  } else if (kind == "llama3") {
    scaling.kind = RopeScaling::Kind::llama3;
    scaling.low_frequency_factor = number("lowFrequencyFactor");
    scaling.high_frequency_factor = number("highFrequencyFactor");
    scaling.original_context = number("originalContext");
  } else {
    fail("config.ropeScaling.kind", "'linear' or 'llama3'", "'" + kind + "'");
  }
  return scaling;
}

// A byte offset or a dimension: any integer a double holds exactly. Negative ones are for the file's check to refuse.
int64_t read_offset(Napi::Value value, const std::string& name) {
  const double number = read_number(value, name);
  if (!(std::abs(number) <= 0x1p53 && number == std::trunc(number))) fail(name, "an integer", std::to_string(number));
  return int64_t(number);
}

// The four arrays of a StepResult, in its order, each checked for `rows`.
StepResult read_result(Napi::Value value, int32_t rows) {
  const Napi::Object result = read_object(value, "result");
  const auto require = [](const char* name, size_t size, size_t least) {
    if (size < least) fail(name, std::to_string(least) + " numbers or more", std::to_string(size));
  };
  // Properties first and views after: a getter may do anything to the other arrays' buffers.
  const Napi::Value sampled = result.Get("sampled"), logprobs = result.Get("logprobs");
  const Napi::Value top_tokens = result.Get("topTokens"), top_logprobs = result.Get("topLogprobs");
  const StepResult arrays{read_array<int32_t>(sampled, "sampled"), read_array<float>(logprobs, "logprobs"),
                          read_array<int32_t>(top_tokens, "topTokens"), read_array<float>(top_logprobs, "topLogprobs")};
  const size_t count = size_t(rows);
  require("sampled", arrays.sampled.size(), count);
  require("logprobs", arrays.logprobs.size(), count);
  require("topTokens", arrays.top_tokens.size(), count * kTopLogprobs);
  require("topLogprobs", arrays.top_logprobs.size(), count * kTopLogprobs);
  return arrays;
}

}  // namespace

double read_number(Napi::Value value, const std::string& name) {
  if (!value.IsNumber()) fail(name, "a number", kind_of(value));
  return value.As<Napi::Number>().DoubleValue();
}

int32_t read_integer(Napi::Value value, const std::string& name, int32_t least, int32_t most) {
  const double number = read_number(value, name);
  if (!(number >= least && number <= most && number == std::trunc(number))) {
    fail(name, "an integer from " + std::to_string(least) + " to " + std::to_string(most), std::to_string(number));
  }
  return int32_t(number);
}

bool read_boolean(Napi::Value value, const std::string& name) {
  if (!value.IsBoolean()) fail(name, "a boolean", kind_of(value));
  return value.As<Napi::Boolean>().Value();
}

std::string read_text(Napi::Value value, const std::string& name) {
  if (!value.IsString()) fail(name, "a string", kind_of(value));
  return value.As<Napi::String>().Utf8Value();
}

template <typename T>
std::span<T> read_array(Napi::Value value, const char* name) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  const napi_status status =
      value.IsEmpty() ? napi_invalid_arg
                      : napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr);
  if (status != napi_ok || type != kTypedArray<T>) fail(name, array_name<T>(), kind_of(value));
  return {static_cast<T*>(data), data == nullptr ? 0 : length};  // a detached one is empty
}

template std::span<int32_t> read_array<int32_t>(Napi::Value, const char*);
template std::span<float> read_array<float>(Napi::Value, const char*);
template std::span<uint16_t> read_array<uint16_t>(Napi::Value, const char*);

void PlanArguments::read(Napi::Value value) {
  const Napi::Object plan = read_object(value, "plan");
  read_records(moves_, plan, "moves", "moveCount");
  read_records(row_moves_, plan, "rowMoves", "rowMoveCount");
  read_records(runs_, plan, "runs", "runCount");
  read_records(tokens_, plan, "tokens", "tokenCount");
  const Napi::Array starts = read_list(plan.Get("starts"), "starts");
  starts_.resize(starts.Length());
  for (uint32_t i = 0; i < starts_.size(); i++) {
    const Napi::HandleScope scope(value.Env());
    const std::string name = "starts[" + std::to_string(i) + "]";
    const Napi::Object start = read_object(starts.Get(i), name);
    starts_[i].row = read_integer(start.Get("row"), name + ".row");
    read_sampling(starts_[i].sampling, start.Get("sampling"), name + ".sampling");
    read_integers(starts_[i].tokens, start.Get("tokens"), name + ".tokens");
    starts_[i].prompt_length = read_integer(start.Get("promptLength"), name + ".promptLength");
  }
}

ResultArguments::ResultArguments(int32_t rows)
    : rows_(rows),
      sampled_(size_t(rows)),
      logprobs_(size_t(rows)),
      top_tokens_(size_t(rows) * kTopLogprobs),
      top_logprobs_(size_t(rows) * kTopLogprobs) {}

void ResultArguments::begin(Napi::Value result, std::span<const Run> runs) {
  read_result(result, rows_);
  for (const Run& run : runs) {
    if (run.row < 0 || run.row >= rows_) continue;  // not yet checked
    const size_t first = size_t(run.row) * kTopLogprobs;
    sampled_[size_t(run.row)] = -1;
    logprobs_[size_t(run.row)] = -INFINITY;
    std::fill_n(top_tokens_.begin() + ptrdiff_t(first), kTopLogprobs, -1);
    std::fill_n(top_logprobs_.begin() + ptrdiff_t(first), kTopLogprobs, -INFINITY);
  }
}

void ResultArguments::write(Napi::Value result, std::span<const Run> runs) const {
  const StepResult to = read_result(result, rows_);
  for (const Run& run : runs) {
    if (run.row < 0) continue;
    const size_t row = size_t(run.row), first = row * kTopLogprobs;
    to.sampled[row] = sampled_[row];
    to.logprobs[row] = logprobs_[row];
    std::copy_n(top_tokens_.data() + first, kTopLogprobs, to.top_tokens.data() + first);
    std::copy_n(top_logprobs_.data() + first, kTopLogprobs, to.top_logprobs.data() + first);
  }
}

DeviceArguments read_device(Napi::Object options) {
  const auto integer = [&](const char* name, int32_t least, int32_t most) {
    return read_integer(options.Get(name), name, least, most);
  };
  DeviceArguments arguments{read_text(options.Get("device"), "device"),
                            read_text(options.Get("isa"), "isa"),
                            integer("threads", 0, kMostThreads),
                            read_boolean(options.Get("graphs"), "graphs"),
                            read_boolean(options.Get("checkLaunches"), "checkLaunches"),
                            read_text(options.Get("cublasLt"), "cublasLt"),
                            {}};
  BackendOptions& backend = arguments.backend;
  backend.config = read_config(options.Get("config"));
  backend.weights = read_weight_type(options.Get("weights"), "weights");
  backend.kv = read_kv_type(options.Get("kv"), "kv");
  const auto tiles = [&](const char* name, int32_t least, int32_t most) {
    const int32_t slots = integer(name, least, most);
    if (slots % kTile != 0) fail(name, "a multiple of " + std::to_string(kTile), std::to_string(slots));
    return slots;
  };
  backend.slots = tiles("slots", kTile, kMost);
  backend.host_slots = tiles("hostSlots", 0, kMost - backend.slots);
  const int64_t slot = slot_bytes(backend);
  const int64_t slots = int64_t(backend.slots) + backend.host_slots;
  REQUIRE(slot <= kMostKvBytes / slots, "OUT_OF_MEMORY",
          "slots: " + std::to_string(slots) + " of " + std::to_string(slot) + " bytes are more than any machine has");
  backend.rows = integer("rows", 1, kMostRows);
  backend.step_tokens = integer("stepTokens", 1, kMostStepTokens);
  backend.context = integer("context", 1, backend.config.context);
  return arguments;
}

std::vector<std::string> read_files(Napi::Object options) {
  const Napi::Array files = read_list(options.Get("files"), "files");
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < files.Length(); i++) {
    const std::string name = "files[" + std::to_string(i) + "]";
    paths.push_back(read_text(files.Get(i), name));
    if (paths.back().find(char(0)) != std::string::npos) fail(name, "a path", "one with a null character");
  }
  return paths;
}

std::vector<TensorEntry> read_tensors(Napi::Object options) {
  const Napi::Array tensors = read_list(options.Get("tensors"), "tensors");
  std::vector<TensorEntry> entries;
  for (uint32_t i = 0; i < tensors.Length(); i++) {
    const Napi::HandleScope scope(options.Env());
    const std::string name = "tensors[" + std::to_string(i) + "]";
    const Napi::Object tensor = read_object(tensors.Get(i), name);
    const Napi::Array shape = read_list(tensor.Get("shape"), name + ".shape");
    TensorEntry entry{
        read_text(tensor.Get("name"), name + ".name"),     read_integer(tensor.Get("file"), name + ".file"),
        read_text(tensor.Get("type"), name + ".type"),     {},
        read_offset(tensor.Get("begin"), name + ".begin"), read_offset(tensor.Get("end"), name + ".end")};
    for (uint32_t j = 0; j < shape.Length(); j++) entry.shape.push_back(read_offset(shape.Get(j), name + ".shape"));
    entries.push_back(std::move(entry));
  }
  return entries;
}

ModelConfig read_config(Napi::Value value) {
  const Napi::Object object = read_object(value, "config");
  const auto integer = [&](const char* name) {
    return read_integer(object.Get(name), std::string("config.") + name, std::numeric_limits<int32_t>::min());
  };
  const auto number = [&](const char* name) { return read_number(object.Get(name), std::string("config.") + name); };
  const auto boolean = [&](const char* name) { return read_boolean(object.Get(name), std::string("config.") + name); };
  ModelConfig config;
  config.layers = integer("layers");
  config.hidden = integer("hidden");
  config.intermediate = integer("intermediate");
  config.heads = integer("heads");
  config.kv_heads = integer("kvHeads");
  config.head_dim = integer("headDim");
  config.vocabulary = integer("vocabulary");
  config.context = integer("context");
  config.rms_eps = float(number("rmsEps"));
  config.rope_theta = number("ropeTheta");
  config.rope_scaling = read_rope_scaling(object.Get("ropeScaling"));
  config.tied_embedding = boolean("tiedEmbedding");
  config.qkv_bias = boolean("qkvBias");
  config.qk_norm = boolean("qkNorm");
  config.check();
  return config;
}

TensorType read_tensor_type(Napi::Value value, const std::string& name) {
  const std::string text = read_text(value, name);
  if (text == "f32") return TensorType::f32;
  if (text == "bf16") return TensorType::bf16;
  if (text == "f16") return TensorType::f16;
  fail(name, "'f32', 'bf16' or 'f16'", "'" + text + "'");
}

WeightType read_weight_type(Napi::Value value, const std::string& name) {
  const std::string text = read_text(value, name);
  if (text == "f32") return WeightType::f32;
  if (text == "bf16") return WeightType::bf16;
  if (text == "int8") return WeightType::int8;
  fail(name, "'f32', 'bf16' or 'int8'", "'" + text + "'");
}

int64_t slot_bytes(const BackendOptions& options) {
  return int64_t(options.config.layers) * 2 * options.config.kv_width() * (options.kv == KvType::f32 ? 4 : 2);
}

const char* name(WeightType type) {
  return type == WeightType::f32 ? "f32" : type == WeightType::bf16 ? "bf16" : "int8";
}

const char* name(KvType type) { return type == KvType::f32 ? "f32" : "bf16"; }

}  // namespace baton
