#include "binding/kernels.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/backends.h"
#include "binding/errors.h"
#include "core/tensor.h"
#include "cpu/ceiling.h"

namespace baton {

namespace {

void require_equal(const char* what, int64_t expected, int64_t received) {
  REQUIRE(expected == received, "INVALID_ARGUMENT",
          std::string(what) + ": expected " + std::to_string(expected) + ", got " + std::to_string(received));
}

void require_most(const char* what, int64_t most, int64_t received) {
  REQUIRE(received <= most, "INVALID_ARGUMENT",
          std::string(what) + ": expected at most " + std::to_string(most) + ", got " + std::to_string(received));
}

// A backend and what was made in it, by number. Each op runs on the calling thread and returns when it is done:
// there is no engine here that it could delay. Shapes are checked here, for the backend takes them on trust.
class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Device(const Napi::CallbackInfo& info);

 private:
  using Info = Napi::CallbackInfo;

  // What JavaScript calls: the method, while the device is open, its Error as a JavaScript exception.
  template <auto method>
  Napi::Value call(const Info& info) {
    return guard(info.Env(), [&]() -> Napi::Value {
      REQUIRE(backend_, "CLOSED", "the device is closed");
      if constexpr (std::is_void_v<decltype((this->*method)(info))>) {
        (this->*method)(info);
        backend_->sync();
        return info.Env().Undefined();
      } else {
        return (this->*method)(info);
      }
    });
  }

  Napi::Value close(const Info&);

  Napi::Value matrix(const Info&);   // values, stored type, outputs, inputs, type → number
  Napi::Value vector(const Info&);   // values → number
  Napi::Value rows(const Info&);     // count, width → number
  Napi::Value operand(const Info&);  // capacity, width, type → number
  void write(const Info&);           // rows, count, values
  void read(const Info&);            // values, rows, count
  void read_operand(const Info&);    // values, operand

  // In the ops each Rows is two arguments: its number and how many of its rows.
  void begin(const Info&);
  void embedding(const Info&);
  void rms_norm(const Info&);
  void convert(const Info&);
  void matmul(const Info&);
  void matmul_add(const Info&);
  void kv_append(const Info&);
  void attention(const Info&);
  void matmul_swiglu(const Info&);
  void select_sampled(const Info&);
  void sample(const Info&);

  template <typename T>
  const T& item(const std::vector<T>& items, Napi::Value number, const char* what) const {
    return items[size_t(read_integer(number, what, 0, int32_t(items.size()) - 1))];
  }
  Rows rows_at(const Info& info, size_t i) const;
  Matrix& matrix_at(const Info& info, size_t i) const { return *item(matrices_, info[i], "matrix"); }
  Operand& operand_at(const Info& info, size_t i) const { return *item(operands_, info[i], "operand"); }
  const Vector* vector_at(const Info& info, size_t i) const;  // null for null
  int32_t layer_at(const Info& info, size_t i) const;
  void require_operand(const Operand& out, int32_t width, int32_t count) const;
  void require_product(const Operand& x, const Matrix& w, bool gated) const;
  void require_product(Rows out, const Operand& x, const Matrix& w) const;

  BackendOptions options_;
  std::unique_ptr<Backend> backend_;  // before what lies in its memory
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<std::unique_ptr<Vector>> vectors_;
  std::vector<std::unique_ptr<Operand>> operands_;
  std::vector<Rows> rows_;
  PlanArguments plan_;  // the backend reads it until the next begin()
  std::optional<ResultArguments> result_;
  int32_t plan_tokens_ = 0;
  int32_t plan_sampled_ = 0;
};

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(env, "Device",
                     {
                         InstanceMethod<&Device::close>("close"),
                         InstanceMethod<&Device::call<&Device::matrix>>("matrix"),
                         InstanceMethod<&Device::call<&Device::vector>>("vector"),
                         InstanceMethod<&Device::call<&Device::rows>>("rows"),
                         InstanceMethod<&Device::call<&Device::operand>>("operand"),
                         InstanceMethod<&Device::call<&Device::write>>("write"),
                         InstanceMethod<&Device::call<&Device::read>>("read"),
                         InstanceMethod<&Device::call<&Device::read_operand>>("readOperand"),
                         InstanceMethod<&Device::call<&Device::begin>>("begin"),
                         InstanceMethod<&Device::call<&Device::embedding>>("embedding"),
                         InstanceMethod<&Device::call<&Device::rms_norm>>("rmsNorm"),
                         InstanceMethod<&Device::call<&Device::convert>>("convert"),
                         InstanceMethod<&Device::call<&Device::matmul>>("matmul"),
                         InstanceMethod<&Device::call<&Device::matmul_add>>("matmulAdd"),
                         InstanceMethod<&Device::call<&Device::kv_append>>("kvAppend"),
                         InstanceMethod<&Device::call<&Device::attention>>("attention"),
                         InstanceMethod<&Device::call<&Device::matmul_swiglu>>("matmulSwiglu"),
                         InstanceMethod<&Device::call<&Device::select_sampled>>("selectSampled"),
                         InstanceMethod<&Device::call<&Device::sample>>("sample"),
                     });
}

Device::Device(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guard(info.Env(), [&] {
    REQUIRE(info[0].IsObject(), "INVALID_ARGUMENT", "options: expected an object");
    const DeviceArguments arguments = read_device(info[0].As<Napi::Object>());
    options_ = arguments.backend;
    result_.emplace(options_.rows);
    MadeBackend made = make_backend(arguments);
    Napi::Object object = Value();
    object.Set("isa", made.isa);
    object.Set("threads", made.threads);
    backend_ = std::move(made.backend);
    return Napi::Value();
  });
}

Rows Device::rows_at(const Info& info, size_t i) const {
  const Rows& rows = item(rows_, info[i], "rows");
  return rows.first(read_integer(info[i + 1], "rows.count", 0, rows.count));
}

const Vector* Device::vector_at(const Info& info, size_t i) const {
  return info[i].IsNull() ? nullptr : item(vectors_, info[i], "vector").get();
}

int32_t Device::layer_at(const Info& info, size_t i) const {
  return read_integer(info[i], "layer", 0, options_.config.layers - 1);
}

void Device::require_operand(const Operand& out, int32_t width, int32_t count) const {
  require_equal("operand width", width, out.width);
  require_most("rows in the operand", out.capacity, count);
}

void Device::require_product(const Operand& x, const Matrix& w, bool gated) const {
  REQUIRE(w.gated == gated, "INVALID_ARGUMENT",
          std::string("matrix: expected one that is ") + (gated ? "" : "not ") + "gated");
  require_equal("operand width", w.inputs, x.width);
  REQUIRE(x.type == w.type, "INVALID_ARGUMENT",
          std::string("operand type: expected the matrix's ") + name(w.type) + ", got " + name(x.type));
}

void Device::require_product(Rows out, const Operand& x, const Matrix& w) const {
  require_product(x, w, false);
  require_equal("out width", w.outputs, out.width);
  require_equal("out rows", x.count, out.count);
}

Napi::Value Device::close(const Info& info) {
  matrices_.clear();
  vectors_.clear();
  operands_.clear();
  rows_.clear();
  backend_.reset();
  return info.Env().Undefined();
}

Napi::Value Device::matrix(const Info& info) {
  const TensorType stored = read_tensor_type(info[1], "stored type");
  const int32_t outputs = read_integer(info[2], "outputs", 1), inputs = read_integer(info[3], "inputs", 1);
  const WeightType type = read_weight_type(info[4], "type");
  const auto values = stored == TensorType::f32 ? std::as_bytes(read_array<float>(info[0], "values"))
                                                : std::as_bytes(read_array<uint16_t>(info[0], "values"));
  require_equal("values", int64_t(outputs) * inputs, int64_t(values.size()) / (stored == TensorType::f32 ? 4 : 2));
  const TensorView view{values.data(), stored, outputs, inputs};
  if (read_boolean(info[5], "gated")) {
    REQUIRE(outputs % 2 == 0, "INVALID_ARGUMENT", "outputs: expected an even number, got " + std::to_string(outputs));
    const TensorView gate{values.data(), stored, outputs / 2, inputs};
    const TensorView up{values.data() + values.size() / 2, stored, outputs / 2, inputs};
    matrices_.push_back(backend_->gated_matrix(gate, up, type));
  } else {
    matrices_.push_back(backend_->matrix({&view, 1}, type));
  }
  return Napi::Number::New(info.Env(), double(matrices_.size() - 1));
}

Napi::Value Device::vector(const Info& info) {
  const std::span<const float> values = read_array<float>(info[0], "values");
  REQUIRE(!values.empty() && values.size() <= size_t(kMost), "INVALID_ARGUMENT", "values: expected one or more");
  const TensorView view{std::as_bytes(values).data(), TensorType::f32, 1, int32_t(values.size())};
  vectors_.push_back(backend_->vector({&view, 1}));
  return Napi::Number::New(info.Env(), double(vectors_.size() - 1));
}

Napi::Value Device::rows(const Info& info) {
  rows_.push_back(backend_->rows(read_integer(info[0], "count", 1), read_integer(info[1], "width", 1)));
  return Napi::Number::New(info.Env(), double(rows_.size() - 1));
}

Napi::Value Device::operand(const Info& info) {
  operands_.push_back(backend_->operand(read_integer(info[0], "capacity", 1), read_integer(info[1], "width", 1),
                                        read_weight_type(info[2], "type")));
  return Napi::Number::New(info.Env(), double(operands_.size() - 1));
}

void Device::write(const Info& info) {
  const Rows to = rows_at(info, 0);
  const std::span<const float> values = read_array<float>(info[2], "values");
  require_equal("values", int64_t(to.count) * to.width, int64_t(values.size()));
  backend_->write(to, values);
}

void Device::read(const Info& info) {
  const Rows from = rows_at(info, 1);
  const std::span<float> values = read_array<float>(info[0], "values");
  require_equal("values", int64_t(from.count) * from.width, int64_t(values.size()));
  backend_->read(values, from);
}

void Device::read_operand(const Info& info) {
  const Operand& from = operand_at(info, 1);
  const std::span<float> values = read_array<float>(info[0], "values");
  require_equal("values", int64_t(from.count) * from.width, int64_t(values.size()));
  backend_->read(values, from);
}

void Device::begin(const Info& info) {
  plan_tokens_ = plan_sampled_ = 0;
  plan_.read(info[0]);
  const StepPlan plan = plan_.view();
  check(plan, {options_.slots, options_.host_slots, options_.rows, options_.step_tokens, options_.context,
               options_.config.vocabulary});
  backend_->begin(plan, result_->view());
  plan_tokens_ = int32_t(plan.tokens.size());
  for (const Run& run : plan.runs) plan_sampled_ += run.row != -1;
}

void Device::embedding(const Info& info) {
  const Rows out = rows_at(info, 0);
  const Matrix& table = matrix_at(info, 2);
  require_equal("out rows", plan_tokens_, out.count);
  require_equal("out width", table.inputs, out.width);
  REQUIRE(!table.gated, "INVALID_ARGUMENT", "table: expected a matrix that is not gated");
  require_equal("table outputs", options_.config.vocabulary, table.outputs);
  backend_->embedding(out, table);
}

void Device::rms_norm(const Info& info) {
  Operand& out = operand_at(info, 0);
  const Rows x = rows_at(info, 1);
  const Vector* weight = vector_at(info, 3);
  REQUIRE(weight, "INVALID_ARGUMENT", "weight: expected a vector, got null");
  require_equal("weight size", x.width, weight->size);
  require_operand(out, x.width, x.count);
  backend_->rms_norm(out, x, *weight, float(read_number(info[4], "eps")));
}

void Device::convert(const Info& info) {
  Operand& out = operand_at(info, 0);
  const Rows x = rows_at(info, 1);
  require_operand(out, x.width, x.count);
  backend_->convert(out, x);
}

void Device::matmul(const Info& info) {
  const Rows out = rows_at(info, 0);
  const Operand& x = operand_at(info, 2);
  const Matrix& w = matrix_at(info, 3);
  const Vector* bias = vector_at(info, 4);
  require_product(out, x, w);
  if (bias) require_equal("bias size", w.outputs, bias->size);
  backend_->matmul(out, x, w, bias);
}

void Device::matmul_add(const Info& info) {
  const Rows out = rows_at(info, 0);
  const Operand& x = operand_at(info, 2);
  const Matrix& w = matrix_at(info, 3);
  require_product(out, x, w);
  backend_->matmul_add(out, x, w);
}

void Device::kv_append(const Info& info) {
  const Rows qkv = rows_at(info, 0);
  const int32_t layer = layer_at(info, 2);
  const Vector *q_norm = vector_at(info, 3), *k_norm = vector_at(info, 4);
  require_equal("qkv rows", plan_tokens_, qkv.count);
  require_equal("qkv width", options_.config.qkv_width(), qkv.width);
  if (q_norm) require_equal("qNorm size", options_.config.head_dim, q_norm->size);
  if (k_norm) require_equal("kNorm size", options_.config.head_dim, k_norm->size);
  backend_->kv_append(qkv, layer, q_norm, k_norm);
}

void Device::attention(const Info& info) {
  Operand& out = operand_at(info, 0);
  const Rows qkv = rows_at(info, 1);
  const int32_t layer = layer_at(info, 3);
  require_equal("qkv rows", plan_tokens_, qkv.count);
  require_operand(out, options_.config.q_width(), qkv.count);
  require_equal("qkv width", options_.config.qkv_width(), qkv.width);
  backend_->attention(out, qkv, layer);
}

void Device::matmul_swiglu(const Info& info) {
  Operand& out = operand_at(info, 0);
  const Operand& x = operand_at(info, 1);
  const Matrix& w = matrix_at(info, 2);
  require_product(x, w, true);
  require_operand(out, w.outputs / 2, x.count);
  backend_->matmul_swiglu(out, x, w);
}

void Device::select_sampled(const Info& info) {
  const Rows out = rows_at(info, 0), x = rows_at(info, 2);
  const int32_t first = read_integer(info[4], "first");
  require_equal("x rows", plan_tokens_, x.count);
  require_equal("out width", x.width, out.width);
  require_most("first + out rows", plan_sampled_, int64_t(first) + out.count);
  backend_->select_sampled(out, x, first);
}

void Device::sample(const Info& info) {
  const Rows logits = rows_at(info, 1);
  const int32_t first = read_integer(info[3], "first");
  require_equal("logits width", options_.config.vocabulary, logits.width);
  require_most("first + logits rows", plan_sampled_, int64_t(first) + logits.count);
  std::vector<Run> runs;  // those sampled now
  for (const Run& run : plan_.view().runs) {
    if (run.row != -1) runs.push_back(run);
  }
  runs.erase(runs.begin(), runs.begin() + first);
  runs.resize(size_t(logits.count));
  result_->begin(info[0], runs);
  backend_->sample(logits, first);
  backend_->end();
  backend_->take(true);
  result_->write(info[0], runs);
}

Napi::Value to_bf16(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const std::span<const float> values = read_array<float>(info[0], "values");
    Napi::Uint16Array bits = Napi::Uint16Array::New(info.Env(), values.size());
    for (size_t i = 0; i < values.size(); i++) bits[i] = float_to_bf16(values[i]);
    return bits;
  });
}

Napi::Value to_float(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const std::span<const uint16_t> bits = read_array<uint16_t>(info[0], "bits");
    const TensorType type = read_tensor_type(info[1], "type");
    REQUIRE(type != TensorType::f32, "INVALID_ARGUMENT", "type: expected 'bf16' or 'f16', got 'f32'");
    Napi::Float32Array values = Napi::Float32Array::New(info.Env(), bits.size());
    for (size_t i = 0; i < bits.size(); i++) {
      values[i] = type == TensorType::bf16 ? bf16_to_float(bits[i]) : f16_to_float(bits[i]);
    }
    return values;
  });
}

Napi::Value rope_table(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const ModelConfig config = read_config(info[0]);
    const int32_t context = read_integer(info[1], "context", 1, config.context);
    Napi::Float32Array table = Napi::Float32Array::New(info.Env(), size_t(context) * size_t(config.head_dim));
    fill_rope_table(config, table.Data(), context);
    return table;
  });
}

Napi::Value read_seconds(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const double bytes = read_number(info[0], "bytes");
    REQUIRE(bytes >= 1 && bytes <= 0x1p40, "INVALID_ARGUMENT",
            "bytes: expected 1 to 2^40, got " + std::to_string(bytes));
    const int32_t threads = read_integer(info[1], "threads", 1, kMostThreads);
    const int32_t repeats = read_integer(info[2], "repeats", 1);
    return Napi::Number::New(info.Env(), cpu::read_seconds(int64_t(bytes), threads, repeats));
  });
}

Napi::Value peak_operations(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const cpu::Isa isa = cpu::parse_isa(read_text(info[0], "isa"));
    const bool int8 = read_boolean(info[1], "int8");
    const int32_t threads = read_integer(info[2], "threads", 1, kMostThreads);
    return Napi::Number::New(info.Env(),
                             cpu::peak_operations_per_second(isa, int8 ? WeightType::int8 : WeightType::bf16, threads));
  });
}

}  // namespace

Napi::Object define_kernels(Napi::Env env) {
  Napi::Object kernels = Napi::Object::New(env);
  kernels.Set("Device", Device::define(env));
  kernels.Set("toBf16", Napi::Function::New<to_bf16>(env, "toBf16"));
  kernels.Set("toFloat", Napi::Function::New<to_float>(env, "toFloat"));
  kernels.Set("ropeTable", Napi::Function::New<rope_table>(env, "ropeTable"));
  kernels.Set("readSeconds", Napi::Function::New<read_seconds>(env, "readSeconds"));
  kernels.Set("peakOperations", Napi::Function::New<peak_operations>(env, "peakOperations"));
  return kernels;
}

}  // namespace baton
