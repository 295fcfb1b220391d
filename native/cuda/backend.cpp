#include "cuda/backend.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/attention_hopper.h"
#include "cuda/check.h"
#include "cuda/cublaslt.h"
#include "cuda/devices.h"
#include "cuda/kernels.h"
#include "cuda/matmul_hopper.h"
#include "cuda/memory.h"
#include "cuda/resources.h"
#include "cuda/sampler_state.h"
#include "cuda/staging.h"
#include "cuda/step_arrays.h"
#include "cuda/upload.h"

namespace baton::cuda {

namespace {

// Workspace of decode attention; rows that need more are taken in groups.
constexpr int64_t kWorkspaceFloats = int64_t(64) << 20;
// A recorded step serves every step whose rows and context round up to the same: powers of two up to this many rows,
// multiples of it beyond.
constexpr int32_t kFineRows = 64;
constexpr int32_t kLeastContext = 256;
constexpr size_t kMostMoves = 4096;    // of one launch
constexpr int32_t kRowsTogether = 64;  // weights are filled up with rows of zeros to multiples; see MatrixView
constexpr int32_t kGates = 8;          // side by side, before as many ups; see MatrixView

struct DeviceMatrix final : Matrix {
  MatrixView view;
};

// Room for the floats that become `operand`.
OperandView as_floats(float* values, OperandView operand) {
  const int64_t pitch = int64_t(operand.width) * int64_t(sizeof(float));
  return {values, nullptr, operand.rows, operand.width, pitch, WeightType::f32};
}

struct DeviceVector final : Vector {
  const float* values;
};

struct DeviceOperand final : Operand {
  void* values;
  float* scales;

  OperandView view(int32_t rows) const { return {values, scales, rows, width, pitch_bytes(width, type), type}; }
};

OperandView view_of(const Operand& operand) { return static_cast<const DeviceOperand&>(operand).view(operand.count); }

OperandView begin_operand(Operand& operand, int32_t rows) {
  assert(rows <= operand.capacity);
  operand.count = rows;
  return view_of(operand);
}

const MatrixView& view_of(const Matrix& matrix) { return static_cast<const DeviceMatrix&>(matrix).view; }

const float* values_of(const Vector* vector) {
  return vector == nullptr ? nullptr : static_cast<const DeviceVector*>(vector)->values;
}

float* floats_of(Rows rows) { return static_cast<float*>(rows.data); }

double median(std::vector<double>& values) {
  const auto middle = values.begin() + ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

int32_t round_rows(int32_t rows) {
  if (rows > kFineRows) return (rows + kFineRows - 1) / kFineRows * kFineRows;
  return int32_t(std::bit_ceil(uint32_t(rows)));
}

}  // namespace

class CudaBackend final : public Backend {
 public:
  CudaBackend(const BackendOptions& options, const CudaOptions& cuda, const CudaDevice& device,
              std::unique_ptr<CublasLt> cublaslt);
  ~CudaBackend() override;

  const std::string& cublaslt_name() const { return cublaslt_->name(); }
  void set_cublaslt_tokens(int32_t tokens) { cuda_.cublaslt_tokens = tokens; }

  std::unique_ptr<Matrix> matrix(std::span<const TensorView> parts, WeightType type) override;
  std::unique_ptr<Matrix> gated_matrix(const TensorView& gate, const TensorView& up, WeightType type) override;
  std::unique_ptr<Vector> vector(std::span<const TensorView> parts) override;
  Rows rows(int32_t count, int32_t width) override;
  std::unique_ptr<Operand> operand(int32_t capacity, int32_t width, WeightType type) override;

  StepShape begin(const StepPlan& plan, const StepResult& result) override;
  void run(const std::function<void()>& forward) override;
  void end() override;
  bool take(bool wait) override;
  void embedding(Rows out, const Matrix& table) override;
  void rms_norm(Operand& out, Rows x, const Vector& weight, float eps) override;
  void convert(Operand& out, Rows x) override;
  void matmul(Rows out, const Operand& x, const Matrix& w, const Vector* bias) override;
  void matmul_add(Rows out, const Operand& x, const Matrix& w) override;
  void kv_append(Rows qkv, int32_t layer, const Vector* q_norm, const Vector* k_norm) override;
  void attention(Operand& out, Rows qkv, int32_t layer) override;
  void matmul_swiglu(Operand& out, const Operand& x, const Matrix& gate_up) override;
  void select_sampled(Rows out, Rows x, int32_t first) override;
  void sample(Rows logits, int32_t first) override;
  void sync() override;
  std::vector<double> seconds(const std::vector<std::function<void()>>& contenders, int32_t repeats) override;

  void write(Rows to, std::span<const float> values) override;
  void read(std::span<float> values, Rows from) override;
  void read(std::span<float> values, const Operand& from) override;

 private:
  // One row of a matrix as it is stored; of no part: zeros.
  struct SourceRow {
    const TensorView* part = nullptr;
    int32_t row = 0;
  };

  // The host's side of a step, from begin() until it is taken.
  struct Step {
    Staging staging;
    Drawn drawn;
    StepResult result;
    Event carried_out;
  };

  Step& step() { return steps_[current_]; }
  cudaStream_t stream() const;  // and makes the device this thread's current one
  void queued(const char* operation) const;
  // A device has one kernel for all products of a type, whatever their size: others would have other bits.
  bool uses_hopper(const Operand& x) const { return hopper_ && x.type != WeightType::f32; }
  // Unless CudaOptions ask for a library and the step is a large one.
  bool uses_cublaslt(const Operand& x) const {
    return cublaslt_ != nullptr && x.type == WeightType::bf16 && x.count >= cuda_.cublaslt_tokens && !repeatable_;
  }
  std::unique_ptr<Matrix> upload(std::span<const SourceRow> sources, int32_t inputs, WeightType type, bool gated);
  void move_slots(std::span<const Move> moves);
  void fill_arrays(const StepPlan& plan, StepShape shape);

  BackendOptions options_;
  CudaOptions cuda_;
  bool hopper_;
  Stream stream_;
  Upload upload_;
  MemoryPool memory_;
  DeviceArray<std::byte> keys_, values_;
  PinnedArray<std::byte> host_keys_, host_values_;  // of parked requests
  KvView kv_, host_kv_;
  DeviceArray<float> rope_table_;  // [context, head_dim]
  DeviceArray<float> workspace_;   // of decode attention
  int32_t workspace_tokens_;       // for so many at the longest context
  DeviceArray<Move> moves_;
  StepArrays arrays_;
  SamplerState sampler_;
  std::unique_ptr<CublasLt> cublaslt_;  // null unless asked for
  DeviceArray<float> scratch_;          // floats that become an operand: as many as the largest needs

  Step steps_[kStepsUnderway];  // they take turns
  size_t current_ = 0;          // the one begun last
  bool open_ = false;           // it has not ended
  std::deque<Step*> ended_;     // and not been taken

  // Of the step begun last.
  StepShape shape_ = {0, 0};
  int32_t context_ = 0;        // bounds the positions of its tokens
  int32_t decode_tokens_ = 0;  // runs of one token
  int32_t prefill_runs_ = 0;   // and of more
  int32_t prefill_longest_ = 0;
  bool repeatable_ = false;  // decode tokens only, all sampled: what graphs are recorded of

  // Recorded steps, by tokens and context. A shape's first step runs as it is: that loads its kernels.
  std::map<std::pair<int32_t, int32_t>, Graph> graphs_;
};

namespace {

int64_t workspace_floats_per_token(const BackendOptions& options) {
  const ModelConfig& config = options.config;
  return std::max<int64_t>(1, attention_workspace_floats(1, config.heads, config.head_dim, options.context));
}

}  // namespace

CudaBackend::CudaBackend(const BackendOptions& options, const CudaOptions& cuda, const CudaDevice& device,
                         std::unique_ptr<CublasLt> cublaslt)
    : options_(options),
      cuda_(cuda),
      hopper_(hopper_supported(device.major, device.minor)),
      upload_(stream_),
      rope_table_(size_t(options.context) * size_t(options.config.head_dim), "rotary embedding"),
      workspace_tokens_(int32_t(std::clamp<int64_t>(kWorkspaceFloats / workspace_floats_per_token(options), 1,
                                                    std::min(options.rows, options.step_tokens)))),
      moves_(kMostMoves, "moves"),
      arrays_(options.step_tokens, options.rows),
      sampler_(options.rows, options.config.vocabulary, stream_),
      cublaslt_(std::move(cublaslt)) {
  const ModelConfig& config = options.config;
  workspace_ = DeviceArray<float>(size_t(workspace_floats_per_token(options)) * size_t(workspace_tokens_), "attention");

  const int32_t width = kv_width(config.head_dim);
  const auto cache = [&](auto& keys, auto& values, int64_t slots) {
    const size_t bytes = size_t(config.layers) * size_t(config.kv_heads) * size_t(slots) * size_t(width) *
                         (options.kv == KvType::f32 ? 4 : 2);
    keys = {bytes, "keys"};
    values = {bytes, "values"};
    return KvView{keys.data(),     values.data(),   options.kv, config.layers,
                  config.kv_heads, config.head_dim, width,      slots};
  };
  kv_ = cache(keys_, values_, int64_t(options.slots) + kTile);  // a tile more: for the surplus of a rounded-up step
  host_kv_ = cache(host_keys_, host_values_, options.host_slots);

  std::vector<float> table(rope_table_.count());
  fill_rope_table(config, table.data(), options.context);
  CUDA_CHECK(cudaMemcpyAsync(rope_table_.data(), table.data(), rope_table_.bytes(), cudaMemcpyHostToDevice, stream_));
  // survives: what comes from pageable memory has been staged when the call returns
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(cuda_.device);
  // survives: to free memory waits for the device
  cudaStreamSynchronize(stream_);  // nothing may be running when memory goes
}

cudaStream_t CudaBackend::stream() const {
  CUDA_CHECK(cudaSetDevice(cuda_.device));
  return stream_;
}

// After each operation: with check_launches its errors are found before the next one starts.
void CudaBackend::queued(const char* operation) const {
  // survives: it names the operation of an error, and there is none
  if (cuda_.check_launches) check(cudaStreamSynchronize(stream_), operation);
}

// Load

std::unique_ptr<Matrix> CudaBackend::upload(std::span<const SourceRow> sources, int32_t inputs, WeightType type,
                                            bool gated) {
  auto matrix = std::make_unique<DeviceMatrix>();
  const int64_t stored = (int64_t(sources.size()) + kRowsTogether - 1) / kRowsTogether * kRowsTogether;
  const int64_t pitch = pitch_bytes(inputs, type);
  void* values = memory_.take(size_t(stored * pitch), "weights");
  float* scales = nullptr;
  matrix->outputs = int32_t(sources.size());
  matrix->inputs = inputs;
  matrix->gated = gated;
  matrix->type = type;
  matrix->bytes = size_t(stored * pitch);
  std::vector<float> row(static_cast<size_t>(inputs));
  std::vector<float> row_scales(size_t(stored), 0);
  const cudaStream_t on = stream();
  upload_.rows(values, int64_t(sources.size()), pitch, [&](int64_t i, std::byte* bytes) {
    const SourceRow& source = sources[size_t(i)];
    if (source.part == nullptr) return;
    read_row(*source.part, source.row, row.data());
    if (type == WeightType::f32) {
      memcpy(bytes, row.data(), row.size() * sizeof(float));
    } else if (type == WeightType::bf16) {
      const auto to = reinterpret_cast<uint16_t*>(bytes);
      for (size_t k = 0; k < row.size(); k++) to[k] = float_to_bf16(row[k]);
    } else {
      row_scales[size_t(i)] = quantise_row(row.data(), inputs, reinterpret_cast<int8_t*>(bytes));
    }
  });
  if (type == WeightType::int8) {
    scales = static_cast<float*>(memory_.take(row_scales.size() * sizeof(float), "weights"));
    matrix->bytes += row_scales.size() * sizeof(float);
    CUDA_CHECK(
        cudaMemcpyAsync(scales, row_scales.data(), row_scales.size() * sizeof(float), cudaMemcpyHostToDevice, on));
  }
  // survives: what comes from pageable memory has been staged when the call returns
  CUDA_CHECK(cudaStreamSynchronize(on));
  matrix->view = {values, scales, matrix->outputs, inputs, pitch, type, gated};
  return matrix;
}

std::unique_ptr<Matrix> CudaBackend::matrix(std::span<const TensorView> parts, WeightType type) {
  std::vector<SourceRow> sources;
  for (const TensorView& part : parts) {
    for (int32_t row = 0; row < part.rows; row++) sources.push_back({&part, row});
  }
  return upload(sources, parts.front().columns, type, false);
}

std::unique_ptr<Matrix> CudaBackend::gated_matrix(const TensorView& gate, const TensorView& up, WeightType type) {
  std::vector<SourceRow> sources;
  for (int32_t begin = 0; begin < gate.rows; begin += kGates) {
    for (const TensorView* part : {&gate, &up}) {
      for (int32_t row = begin; row < begin + kGates; row++) {
        sources.push_back(row < gate.rows ? SourceRow{part, row} : SourceRow{});
      }
    }
  }
  auto matrix = upload(sources, gate.columns, type, true);
  matrix->outputs = 2 * gate.rows;
  return matrix;
}

std::unique_ptr<Vector> CudaBackend::vector(std::span<const TensorView> parts) {
  std::vector<float> values;
  for (const TensorView& part : parts) {
    values.resize(values.size() + size_t(part.columns));
    read_row(part, 0, values.data() + values.size() - size_t(part.columns));
  }
  auto vector = std::make_unique<DeviceVector>();
  vector->size = int32_t(values.size());
  const size_t bytes = values.size() * sizeof(float);
  CUDA_CHECK(cudaSetDevice(cuda_.device));
  void* data = memory_.take(bytes, "weights");
  CUDA_CHECK(cudaMemcpyAsync(data, values.data(), bytes, cudaMemcpyHostToDevice, stream()));
  vector->values = static_cast<const float*>(data);
  return vector;
}

Rows CudaBackend::rows(int32_t count, int32_t width) {
  CUDA_CHECK(cudaSetDevice(cuda_.device));
  return {memory_.take(size_t(count) * size_t(width) * sizeof(float), "activations"), count, width};
}

std::unique_ptr<Operand> CudaBackend::operand(int32_t capacity, int32_t width, WeightType type) {
  CUDA_CHECK(cudaSetDevice(cuda_.device));
  auto operand = std::make_unique<DeviceOperand>();
  operand->capacity = capacity;
  operand->width = width;
  operand->type = type;
  operand->values = memory_.take(size_t(capacity) * size_t(pitch_bytes(width, type)), "activations");
  operand->scales = nullptr;
  size_t floats = 0;
  if (type == WeightType::int8) {
    operand->scales = static_cast<float*>(memory_.take(size_t(capacity) * sizeof(float), "activations"));
    floats = size_t(capacity) * size_t(width);
  } else if (type == WeightType::bf16 && cublaslt_ != nullptr) {  // gates and ups
    floats = size_t(capacity) * 2 * size_t((width + kGates - 1) / kGates * kGates);
  }
  if (floats > scratch_.count()) scratch_ = DeviceArray<float>(floats, "activations");
  return operand;
}

// Step

StepShape CudaBackend::begin(const StepPlan& plan, const StepResult& result) {
  const cudaStream_t on = stream();
  assert(ended_.size() < kStepsUnderway);
  if (open_) {
    CUDA_CHECK(cudaEventRecord(step().carried_out, on));  // it was given up, and what it staged may still be read
  } else {
    current_ = (current_ + 1) % kStepsUnderway;
  }
  open_ = true;
  // survives: who takes its steps has waited; benches give theirs up
  CUDA_CHECK(cudaEventSynchronize(step().carried_out));
  step().staging.clear();
  step().drawn.rows.clear();
  step().result = result;
  move_slots(plan.moves);
  for (const RowMove& move : plan.row_moves) sampler_.move(move);
  for (const RowStart& start : plan.starts) sampler_.start(start, step().staging);

  shape_ = {int32_t(plan.tokens.size()), 0};
  context_ = 0;
  for (const Run& run : plan.runs) {
    shape_.sampled += run.row != -1;
    context_ = std::max(context_, run.position + run.count);
  }
  repeatable_ = cuda_.graphs && shape_.tokens > 0 && shape_.tokens == int32_t(plan.runs.size()) &&
                shape_.tokens == shape_.sampled;
  if (repeatable_) {
    const int32_t most = std::min(options_.rows, options_.step_tokens);
    shape_.tokens = shape_.sampled = std::min(round_rows(shape_.tokens), most);
    context_ = std::min(std::max(int32_t(std::bit_ceil(uint32_t(context_))), kLeastContext), options_.context);
  }
  fill_arrays(plan, shape_);
  arrays_.upload(on);
  const bool fed_back = std::find(plan.tokens.begin(), plan.tokens.end(), kDrawn) != plan.tokens.end();
  if (fed_back) {
    launch_feed_back(arrays_.device(arrays_.tokens()), arrays_.device(arrays_.drawn_rows()), shape_.tokens,
                     sampler_.view(arrays_.device(arrays_.states())), on);
  }
  queued("begin");
  return shape_;
}

void CudaBackend::move_slots(std::span<const Move> moves) {
  const cudaStream_t on = stream();
  const int32_t host = options_.slots;  // the first slot in host memory
  enum Kind { compact, pad, park, unpark };
  for (const Kind kind : {compact, pad, park, unpark}) {  // in any order: none reads what another writes
    std::vector<Move> chosen;
    int32_t longest = 0;
    const auto queue = [&] {
      const auto count = int32_t(chosen.size());
      if (count == 0) return;
      step().staging.upload<Move>(moves_.data(), chosen, on);
      if (kind == compact) launch_kv_compact(kv_, kv_, moves_.data(), count, longest, on);
      if (kind == pad) launch_kv_pad(kv_, moves_.data(), count, on);
      if (kind == park) launch_kv_compact(host_kv_, kv_, moves_.data(), count, longest, on);
      if (kind == unpark) launch_kv_compact(kv_, host_kv_, moves_.data(), count, longest, on);
      chosen.clear();
    };
    for (const Move& move : moves) {
      const bool overlapping = std::abs(move.from - move.to) < move.count;
      const Kind its_kind = move.to >= host ? park : move.from >= host ? unpark : overlapping ? pad : compact;
      if (its_kind != kind) continue;
      chosen.push_back(
          {kind == unpark ? move.from - host : move.from, kind == park ? move.to - host : move.to, move.count});
      longest = std::max(longest, move.count);
      if (chosen.size() == kMostMoves) queue();
    }
    queue();
  }
}

void CudaBackend::fill_arrays(const StepPlan& plan, StepShape shape) {
  arrays_.begin(shape.tokens, shape.sampled, step().staging);
  std::copy(plan.tokens.begin(), plan.tokens.end(), arrays_.tokens());
  decode_tokens_ = prefill_runs_ = prefill_longest_ = 0;
  int32_t token = 0;
  int32_t sampled = 0;
  const auto add = [&](const Run& run) {
    if (run.count == 1) {
      arrays_.decode()[decode_tokens_++] = token;
    } else {
      arrays_.prefill()[prefill_runs_++] = {token, run.count};
      prefill_longest_ = std::max(prefill_longest_, run.count);
    }
    for (int32_t i = 0; i < run.count; i++, token++) {
      arrays_.positions()[token] = run.position + i;
      arrays_.slots()[token] = run.offset + run.masked + run.position + i;
      arrays_.drawn_rows()[token] = run.row;
    }
  };
  for (const Run& run : plan.runs) {
    add(run);
    if (run.row == -1) continue;
    arrays_.last()[sampled] = token - 1;
    arrays_.sampled_rows()[sampled] = run.row;
    arrays_.sampled_positions()[sampled++] = run.position + run.count;
    step().drawn.rows.push_back(run.row);
  }
  for (int32_t surplus = 0; token < shape.tokens; surplus++) {
    arrays_.tokens()[token] = 0;
    add({-1, options_.slots + surplus, 0, 0, 1});  // each a slot of its own behind the arena
    arrays_.last()[sampled] = token - 1;
    arrays_.sampled_rows()[sampled] = -1;
    arrays_.sampled_positions()[sampled++] = 1;
  }
  sampler_.fill(arrays_.states());
}

void CudaBackend::run(const std::function<void()>& forward) {
  if (!repeatable_) return forward();
  const auto [graph, first] = graphs_.try_emplace({shape_.tokens, context_});
  if (first) return forward();
  if (!graph->second) graph->second = Graph::record(stream(), forward);
  graph->second.launch(stream());
}

void CudaBackend::embedding(Rows out, const Matrix& table) {
  launch_embedding(floats_of(out), view_of(table), arrays_.device(arrays_.tokens()), out.count, stream());
  queued("embedding");
}

void CudaBackend::rms_norm(Operand& out, Rows x, const Vector& weight, float eps) {
  launch_rms_norm(begin_operand(out, x.count), floats_of(x), values_of(&weight), eps, stream());
  queued("rms_norm");
}

void CudaBackend::convert(Operand& out, Rows x) {
  launch_convert(begin_operand(out, x.count), floats_of(x), stream());
  queued("convert");
}

void CudaBackend::matmul(Rows out, const Operand& x, const Matrix& w, const Vector* bias) {
  if (bias == nullptr && uses_cublaslt(x)) {
    cublaslt_->matmul(floats_of(out), view_of(x), view_of(w), stream());
  } else {
    const auto launch = uses_hopper(x) ? launch_matmul_hopper : launch_matmul;
    launch(floats_of(out), view_of(x), view_of(w), values_of(bias), stream());
  }
  queued("matmul");
}

void CudaBackend::matmul_add(Rows out, const Operand& x, const Matrix& w) {
  if (uses_cublaslt(x)) {
    cublaslt_->matmul_add(floats_of(out), view_of(x), view_of(w), stream());
  } else {
    const auto launch = uses_hopper(x) ? launch_matmul_add_hopper : launch_matmul_add;
    launch(floats_of(out), view_of(x), view_of(w), stream());
  }
  queued("matmul_add");
}

void CudaBackend::matmul_swiglu(Operand& out, const Operand& x, const Matrix& gate_up) {
  const OperandView to = begin_operand(out, x.count);
  const bool whole_rows = out.type == WeightType::int8;  // a row's scale needs all of it
  if (uses_cublaslt(x) && !whole_rows) {
    const MatrixView& w = view_of(gate_up);
    cublaslt_->matmul(scratch_.data(), view_of(x), w, stream());
    launch_swiglu(to, scratch_.data(), w.outputs, stream());
  } else {
    const auto launch = uses_hopper(x) ? launch_matmul_swiglu_hopper : launch_matmul_swiglu;
    launch(whole_rows ? as_floats(scratch_.data(), to) : to, view_of(x), view_of(gate_up), stream());
    if (whole_rows) launch_convert(to, scratch_.data(), stream());
  }
  queued("matmul_swiglu");
}

void CudaBackend::kv_append(Rows qkv, int32_t layer, const Vector* q_norm, const Vector* k_norm) {
  const TokenView tokens = {arrays_.device(arrays_.positions()), arrays_.device(arrays_.slots()), qkv.count};
  launch_kv_append(kv_, floats_of(qkv), tokens, layer, options_.config.heads, values_of(q_norm), values_of(k_norm),
                   options_.config.rms_eps, rope_table_.data(), stream());
  queued("kv_append");
}

void CudaBackend::attention(Operand& out, Rows qkv, int32_t layer) {
  const OperandView to = begin_operand(out, qkv.count);
  const bool whole_rows = out.type == WeightType::int8;  // a row's scale needs all of its heads
  const AttentionView view = {
      .out = whole_rows ? as_floats(scratch_.data(), to) : to,
      .q = floats_of(qkv),
      .q_stride = qkv.width,
      .kv = kv_,
      .layer = layer,
      .heads = options_.config.heads,
      .tokens = {arrays_.device(arrays_.positions()), arrays_.device(arrays_.slots()), qkv.count},
  };
  const auto launch_decode = hopper_ ? launch_attention_decode_hopper : launch_attention_decode;
  const auto launch_prefill = hopper_ ? launch_attention_prefill_hopper : launch_attention_prefill;
  for (int32_t begin = 0; begin < decode_tokens_; begin += workspace_tokens_) {
    launch_decode(view, arrays_.device(arrays_.decode()) + begin, std::min(workspace_tokens_, decode_tokens_ - begin),
                  context_, workspace_.data(), stream());
  }
  launch_prefill(view, arrays_.device(arrays_.prefill()), prefill_runs_, prefill_longest_, stream());
  if (whole_rows) launch_convert(to, scratch_.data(), stream());
  queued("attention");
}

void CudaBackend::select_sampled(Rows out, Rows x, int32_t first) {
  launch_select_sampled(floats_of(out), floats_of(x), arrays_.device(arrays_.last()) + first, out.count, x.width,
                        stream());
  queued("select_sampled");
}

void CudaBackend::sample(Rows logits, int32_t first) {
  launch_sample(sampler_.sampled(), floats_of(logits), logits.count, options_.config.vocabulary,
                arrays_.device(arrays_.sampled_rows()) + first, arrays_.device(arrays_.sampled_positions()) + first,
                sampler_.view(arrays_.device(arrays_.states())), stream());
  queued("sample");
}

void CudaBackend::end() {
  const cudaStream_t on = stream();
  sampler_.fetch(step().drawn);
  CUDA_CHECK(cudaEventRecord(step().carried_out, on));
  ended_.push_back(&step());
  open_ = false;
}

bool CudaBackend::take(bool wait) {
  assert(!ended_.empty());
  Step& oldest = *ended_.front();
  if (!wait && cudaEventQuery(oldest.carried_out) == cudaErrorNotReady) return false;
  ended_.pop_front();
  check(cudaEventSynchronize(oldest.carried_out), "step");
  sampler_.write(oldest.drawn, oldest.result);
  return true;
}

void CudaBackend::sync() {
  // survives: who reads anything, or takes a step, waits too
  check(cudaStreamSynchronize(stream()), "sync");
}

std::vector<double> CudaBackend::seconds(const std::vector<std::function<void()>>& contenders, int32_t repeats) {
  const cudaStream_t on = stream();
  std::vector<Graph> graphs;
  for (const auto& calls : contenders) {
    calls();
    sync();
    graphs.push_back(Graph::record(on, calls));
  }
  const Event begin(cudaEventDefault), end(cudaEventDefault);
  std::vector<std::vector<double>> times(graphs.size());
  for (int32_t i = 0; i <= repeats; i++) {
    for (size_t contender = 0; contender < graphs.size(); contender++) {
      CUDA_CHECK(cudaEventRecord(begin, on));
      graphs[contender].launch(on);
      CUDA_CHECK(cudaEventRecord(end, on));
      CUDA_CHECK(cudaEventSynchronize(end));
      float milliseconds = 0;
      CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
      if (i > 0) times[contender].push_back(milliseconds / 1e3);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& own : times) medians.push_back(median(own));
  return medians;
}

// Host access

void CudaBackend::write(Rows to, std::span<const float> values) {
  CUDA_CHECK(cudaMemcpyAsync(to.data, values.data(), values.size_bytes(), cudaMemcpyHostToDevice, stream()));
  // survives: what comes from pageable memory has been staged when the call returns
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

void CudaBackend::read(std::span<float> values, Rows from) {
  CUDA_CHECK(cudaMemcpyAsync(values.data(), from.data, values.size_bytes(), cudaMemcpyDeviceToHost, stream()));
  // survives: what goes to pageable memory is there when the call returns
  CUDA_CHECK(cudaStreamSynchronize(stream_));
}

void CudaBackend::read(std::span<float> values, const Operand& from) {
  const OperandView view = view_of(from);
  std::vector<std::byte> bytes(size_t(view.rows) * size_t(view.pitch));
  std::vector<float> scales(view.scales == nullptr ? 0 : size_t(view.rows));
  CUDA_CHECK(cudaMemcpyAsync(bytes.data(), view.values, bytes.size(), cudaMemcpyDeviceToHost, stream()));
  CUDA_CHECK(
      cudaMemcpyAsync(scales.data(), view.scales, scales.size() * sizeof(float), cudaMemcpyDeviceToHost, stream_));
  // survives: what goes to pageable memory is there when the call returns
  CUDA_CHECK(cudaStreamSynchronize(stream_));
  for (int32_t row = 0; row < view.rows; row++) {
    const std::byte* values_of_row = bytes.data() + row * view.pitch;
    for (int32_t i = 0; i < view.width; i++) {
      float& value = values[size_t(row) * size_t(view.width) + size_t(i)];
      if (view.type == WeightType::f32) {
        memcpy(&value, values_of_row + i * 4, 4);
      } else if (view.type == WeightType::bf16) {
        uint16_t bits;
        memcpy(&bits, values_of_row + i * 2, 2);
        value = bf16_to_float(bits);
      } else {
        value = float(int8_t(values_of_row[i])) * scales[size_t(row)];
      }
    }
  }
}

std::unique_ptr<Backend> make_backend(const BackendOptions& options, const CudaOptions& cuda) {
  const CudaDevice device = require_device(cuda.device);
  CUDA_CHECK(cudaSetDevice(cuda.device));
  std::unique_ptr<CublasLt> cublaslt = cuda.cublaslt.empty() ? nullptr : CublasLt::open(cuda.cublaslt);
  return std::make_unique<CudaBackend>(options, cuda, device, std::move(cublaslt));
}

const std::string& cublaslt_name(const Backend& backend) {
  return static_cast<const CudaBackend&>(backend).cublaslt_name();
}

void set_cublaslt_tokens(Backend& backend, int32_t tokens) {
  static_cast<CudaBackend&>(backend).set_cublaslt_tokens(tokens);
}

}  // namespace baton::cuda
