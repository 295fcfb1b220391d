#pragma once

#include <napi.h>

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/plan.h"
#include "core/tensor_file.h"

// Reading JavaScript's values. Whatever is not as expected throws INVALID_ARGUMENT that names it.
namespace baton {

constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr int32_t kMostThreads = 256;

// `name` says in messages where the value comes from.
double read_number(Napi::Value value, const std::string& name);
int32_t read_integer(Napi::Value value, const std::string& name, int32_t least = 0, int32_t most = kMost);
bool read_boolean(Napi::Value value, const std::string& name);
std::string read_text(Napi::Value value, const std::string& name);

// A view of a typed array, valid until JavaScript runs again: a buffer can be detached by anything.
template <typename T>
std::span<T> read_array(Napi::Value value, const char* name);

// A plan, copied out of JavaScript's arrays: what happens to those during the step (they are filled for the next one,
// transferred, detached) does not reach it. Kept and read into again, so that a step allocates nothing.
class PlanArguments {
 public:
  void read(Napi::Value plan);
  StepPlan view() const { return {moves_, row_moves_, {starts_.data(), starts_.size()}, runs_, tokens_}; }

 private:
  std::vector<Move> moves_;
  std::vector<RowMove> row_moves_;
  std::vector<RowStart> starts_;
  std::vector<Run> runs_;
  std::vector<int32_t> tokens_;
};

// Room for a step's answers, until they are copied into JavaScript's arrays on the JS thread.
class ResultArguments {
 public:
  explicit ResultArguments(int32_t rows);

  // Checks the room in `result` and prepares for a step over `runs`.
  void begin(Napi::Value result, std::span<const Run> runs);
  // Copies what the step wrote for the rows of `runs`.
  void write(Napi::Value result, std::span<const Run> runs) const;
  StepResult view() { return {sampled_, logprobs_, top_tokens_, top_logprobs_}; }

 private:
  int32_t rows_;
  std::vector<int32_t> sampled_;
  std::vector<float> logprobs_;
  std::vector<int32_t> top_tokens_;
  std::vector<float> top_logprobs_;
};

struct DeviceArguments {
  std::string device;
  std::string isa;       // of the processor
  int32_t threads;       // of the processor
  bool graphs;           // of a GPU
  bool check_launches;   // of a GPU
  std::string cublaslt;  // of a GPU
  BackendOptions backend;
};

// What says where and how to compute: the part of `NativeLoad` that is not about files.
DeviceArguments read_device(Napi::Object options);
std::vector<std::string> read_files(Napi::Object options);
std::vector<TensorEntry> read_tensors(Napi::Object options);

ModelConfig read_config(Napi::Value config);
TensorType read_tensor_type(Napi::Value value, const std::string& name);
WeightType read_weight_type(Napi::Value value, const std::string& name);

int64_t slot_bytes(const BackendOptions& options);  // keys and values of one token, all layers

const char* name(WeightType type);
const char* name(KvType type);

}  // namespace baton
