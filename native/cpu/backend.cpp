#include "cpu/backend.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace baton::cpu {

namespace {

// Values below which a loop over rows is not worth sharing: a few microseconds of work.
constexpr int64_t kSharedValues = 8192;
constexpr int32_t kRowsPerIndex = 4;

struct PackedVector final : Vector {
  std::vector<float> values;
};

const float* values_of(const Vector* vector) {
  return vector == nullptr ? nullptr : static_cast<const PackedVector*>(vector)->values.data();
}

float* row_of(Rows rows, int64_t row) { return static_cast<float*>(rows.data) + row * rows.width; }

// Calls body(row, thread) for every row, shared out when there is enough to do.
template <typename Body>
void for_rows(ThreadPool& pool, int32_t rows, int64_t width, const Body& body) {
  if (rows * width < kSharedValues) {
    for (int32_t row = 0; row < rows; row++) body(row, 0);
    return;
  }
  pool.run((rows + kRowsPerIndex - 1) / kRowsPerIndex, [&](int32_t index, int32_t thread) {
    const int32_t end = std::min(rows, (index + 1) * kRowsPerIndex);
    for (int32_t row = index * kRowsPerIndex; row < end; row++) body(row, thread);
  });
}

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options, const CpuOptions& cpu)
    : options_(options),
      kernels_(kernels(parse_isa(cpu.isa))),
      pool_(cpu.threads > 0 ? cpu.threads : cpu_device().cores),
      cache_({options.config.layers, options.config.kv_heads, options.config.head_dim,
              options.slots + options.host_slots, options.kv},  // all of it is host memory
             kernels_.attention.append_bf16),
      sampler_(options.rows, options.config.vocabulary, kernels_.sample),
      rope_table_(size_t(options.context) * size_t(options.config.head_dim)),
      sums_(memory_.take(size_t(pool_.size()) * kSumsBytes, "activations")),
      row_scratch_(size_t(pool_.size())) {
  fill_rope_table(options.config, rope_table_.data(), options.context);
  for (std::vector<int32_t>* list : {&tokens_, &positions_, &slots_}) list->reserve(size_t(options.step_tokens));
}

std::unique_ptr<Matrix> CpuBackend::matrix(std::span<const TensorView> parts, WeightType type) {
  return pack(parts, type, false, pool_, memory_);
}

std::unique_ptr<Matrix> CpuBackend::gated_matrix(const TensorView& gate, const TensorView& up, WeightType type) {
  const TensorView parts[] = {gate, up};
  return pack(parts, type, true, pool_, memory_);
}

std::unique_ptr<Vector> CpuBackend::vector(std::span<const TensorView> parts) {
  auto vector = std::make_unique<PackedVector>();
  for (const TensorView& part : parts) {
    std::vector<float> values(size_t(part.columns));
    read_row(part, 0, values.data());
    vector->values.insert(vector->values.end(), values.begin(), values.end());
  }
  vector->size = int32_t(vector->values.size());
  return vector;
}

Rows CpuBackend::rows(int32_t count, int32_t width) {
  std::byte* data = memory_.take(size_t(count) * size_t(width) * sizeof(float), "activations");
  return {data, count, width};
}

std::unique_ptr<Operand> CpuBackend::operand(int32_t capacity, int32_t width, WeightType type) {
  const size_t floats = size_t(capacity) * size_t(width);
  if (floats > scratch_floats_) {
    scratch_ = reinterpret_cast<float*>(memory_.take(floats * sizeof(float), "activations"));
    scratch_floats_ = floats;
  }
  return std::make_unique<PackedOperand>(capacity, width, type, kernels_, memory_);
}

void CpuBackend::write(Rows to, std::span<const float> values) { memcpy(to.data, values.data(), values.size_bytes()); }

void CpuBackend::read(std::span<float> values, Rows from) { memcpy(values.data(), from.data, values.size_bytes()); }

void CpuBackend::read(std::span<float> values, const Operand& from) {
  const auto& operand = static_cast<const PackedOperand&>(from);
  for (int32_t row = 0; row < operand.count; row++) operand.unpack(row, &values[size_t(row) * size_t(operand.width)]);
}

StepShape CpuBackend::begin(const StepPlan& plan, const StepResult& result) {
  result_ = result;
  cache_.apply(plan.moves, pool_);
  for (const RowMove& move : plan.row_moves) sampler_.move(move);
  for (const RowStart& start : plan.starts) sampler_.start(start);

  runs_.assign(plan.runs.begin(), plan.runs.end());
  tokens_.assign(plan.tokens.begin(), plan.tokens.end());
  positions_.clear();
  slots_.clear();
  sampled_.clear();
  last_.clear();
  for (const Run& run : runs_) {
    int32_t& first = tokens_[positions_.size()];
    if (first == kDrawn) first = sampler_.drawn(run.row);
    if (run.row >= 0) sampled_.push_back(int32_t(last_.size()));
    for (int32_t position = run.position; position < run.position + run.count; position++) {
      positions_.push_back(position);
      slots_.push_back(run.offset + run.masked + position);
    }
    last_.push_back(int32_t(positions_.size()) - 1);
  }
  return {int32_t(tokens_.size()), int32_t(sampled_.size())};
}

void CpuBackend::embedding(Rows out, const Matrix& table) {
  const auto& matrix = static_cast<const PackedMatrix&>(table);
  for_rows(pool_, out.count, out.width,
           [&](int32_t row, int32_t) { matrix.unpack(tokens_[size_t(row)], row_of(out, row)); });
}

template <typename Make>
void CpuBackend::pack_rows(Operand& out, int32_t rows, const Make& make) {
  auto& operand = static_cast<PackedOperand&>(out);
  assert(rows <= operand.capacity);
  operand.count = rows;
  for (std::vector<float>& scratch : row_scratch_) scratch.resize(std::max(scratch.size(), size_t(operand.width)));
  for_rows(pool_, rows, operand.width,
           [&](int32_t row, int32_t thread) { operand.pack(row, make(row, row_scratch_[size_t(thread)].data())); });
}

void CpuBackend::rms_norm(Operand& out, Rows x, const Vector& weight, float eps) {
  pack_rows(out, x.count, [&](int32_t row, float* scratch) {
    kernels_.rms_norm(scratch, row_of(x, row), values_of(&weight), x.width, eps);
    return scratch;
  });
}

void CpuBackend::convert(Operand& out, Rows x) {
  pack_rows(out, x.count, [&](int32_t row, float*) { return row_of(x, row); });
}

void CpuBackend::matmul_swiglu(Operand& out, const Operand& x, const Matrix& gate_up) {
  auto& packed = static_cast<PackedOperand&>(out);
  const auto& w = static_cast<const PackedMatrix&>(gate_up);
  if (packed.kernels.packs_gated && packed.type == w.type) {
    packed.prepare(x.count);
    multiply(pool_, static_cast<const PackedOperand&>(x), w, nullptr, 0, nullptr, false, sums_, &packed);
    return;
  }
  const Rows activated = {scratch_, x.count, out.width};
  matmul(activated, x, gate_up, nullptr);
  convert(out, activated);
}

void CpuBackend::matmul(Rows out, const Operand& x, const Matrix& w, const Vector* bias) {
  multiply(pool_, static_cast<const PackedOperand&>(x), static_cast<const PackedMatrix&>(w), row_of(out, 0), out.width,
           values_of(bias), false, sums_);
}

void CpuBackend::matmul_add(Rows out, const Operand& x, const Matrix& w) {
  multiply(pool_, static_cast<const PackedOperand&>(x), static_cast<const PackedMatrix&>(w), row_of(out, 0), out.width,
           nullptr, true, sums_);
}

void CpuBackend::kv_append(Rows qkv, int32_t layer, const Vector* q_norm, const Vector* k_norm) {
  const ModelConfig& config = options_.config;
  const int32_t head_dim = config.head_dim;
  const int32_t turned = config.heads + config.kv_heads;  // q and k, one head after another
  for_rows(pool_, qkv.count, qkv.width, [&](int32_t token, int32_t) {
    float* q = row_of(qkv, token);
    const float* cosines = &rope_table_[size_t(positions_[size_t(token)]) * size_t(head_dim)];
    for (int32_t head = 0; head < turned; head++) {
      float* x = q + head * head_dim;
      const float* norm = values_of(head < config.heads ? q_norm : k_norm);
      if (norm != nullptr) kernels_.rms_norm(x, x, norm, head_dim, config.rms_eps);
      kernels_.rope(x, cosines, cosines + head_dim / 2, head_dim);
    }
    const float* k = q + config.q_width();
    const float* v = k + config.kv_width();
    for (int32_t head = 0; head < config.kv_heads; head++) {
      cache_.append(layer, head, slots_[size_t(token)], k + head * head_dim, v + head * head_dim);
    }
  });
}

void CpuBackend::attention(Operand& out, Rows qkv, int32_t layer) {
  const Rows attended = {scratch_, qkv.count, out.width};
  attention_scratch_.attention(cache_, kernels_.attention, pool_, runs_, layer, options_.config.heads, row_of(qkv, 0),
                               qkv.width, row_of(attended, 0), attended.width);
  convert(out, attended);
}

void CpuBackend::select_sampled(Rows out, Rows x, int32_t first) {
  for (int32_t i = 0; i < out.count; i++) {
    const int32_t token = last_[size_t(sampled_[size_t(first + i)])];
    memcpy(row_of(out, i), row_of(x, token), size_t(x.width) * sizeof(float));
  }
}

void CpuBackend::sample(Rows logits, int32_t first) {
  pool_.run(logits.count, [&](int32_t i) {
    const Run& run = runs_[size_t(sampled_[size_t(first + i)])];
    sampler_.sample(run.row, run.position + run.count, row_of(logits, i), result_);
  });
}

std::vector<double> CpuBackend::seconds(const std::vector<std::function<void()>>& contenders, int32_t repeats) {
  std::vector<std::vector<double>> times(contenders.size());
  for (int32_t i = 0; i <= repeats; i++) {
    for (size_t contender = 0; contender < contenders.size(); contender++) {
      const auto begin = std::chrono::steady_clock::now();
      contenders[contender]();
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      if (i > 0) times[contender].push_back(seconds.count());
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& own : times) {
    const auto middle = own.begin() + ptrdiff_t(own.size() / 2);
    std::nth_element(own.begin(), middle, own.end());
    medians.push_back(*middle);
  }
  return medians;
}

std::unique_ptr<CpuBackend> make_backend(const BackendOptions& options, const CpuOptions& cpu) {
  return std::make_unique<CpuBackend>(options, cpu);
}

}  // namespace baton::cpu
