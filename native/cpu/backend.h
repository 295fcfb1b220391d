#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/kv_cache.h"
#include "cpu/memory.h"
#include "cpu/packing.h"
#include "cpu/sample.h"
#include "cpu/thread_pool.h"

namespace baton::cpu {

struct CpuOptions {
  std::string isa = "auto";
  int32_t threads = 0;  // 0: one per core this process may use
};

// The forward pass on this machine's processors. Activations are floats; every call returns when its work is done.
class CpuBackend final : public Backend {
 public:
  CpuBackend(const BackendOptions& options, const CpuOptions& cpu);

  Isa isa() const { return kernels_.isa; }
  int32_t threads() const { return pool_.size(); }

  std::unique_ptr<Matrix> matrix(std::span<const TensorView> parts, WeightType type) override;
  std::unique_ptr<Matrix> gated_matrix(const TensorView& gate, const TensorView& up, WeightType type) override;
  std::unique_ptr<Vector> vector(std::span<const TensorView> parts) override;
  Rows rows(int32_t count, int32_t width) override;
  std::unique_ptr<Operand> operand(int32_t capacity, int32_t width, WeightType type) override;

  void write(Rows to, std::span<const float> values) override;
  void read(std::span<float> values, Rows from) override;
  void read(std::span<float> values, const Operand& from) override;

  StepShape begin(const StepPlan& plan, const StepResult& result) override;
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
  void sync() override {}
  std::vector<double> seconds(const std::vector<std::function<void()>>& contenders, int32_t repeats) override;

 private:
  // Fills `out` row by row: make(row, scratch) returns the row's floats, `scratch` has room for one row.
  template <typename Make>
  void pack_rows(Operand& out, int32_t rows, const Make& make);

  BackendOptions options_;
  const Kernels& kernels_;
  ThreadPool pool_;
  KvCache cache_;
  Sampler sampler_;
  AttentionScratch attention_scratch_;
  std::vector<float> rope_table_;  // [context, head_dim] see fill_rope_table
  MemoryPool memory_;              // weights and activations
  std::byte* sums_;                // [threads, kSumsBytes] of products
  float* scratch_ = nullptr;       // what becomes an operand; as large as the largest of them
  size_t scratch_floats_ = 0;
  std::vector<std::vector<float>> row_scratch_;  // [threads][widest operand so far]

  // Of the running step.
  StepResult result_;
  std::vector<Run> runs_;
  std::vector<int32_t> tokens_;     // [T]
  std::vector<int32_t> positions_;  // [T]
  std::vector<int32_t> slots_;      // [T]
  std::vector<int32_t> sampled_;    // runs that are sampled, by index
  std::vector<int32_t> last_;       // [runs] index of each run's last token
};

std::unique_ptr<CpuBackend> make_backend(const BackendOptions& options, const CpuOptions& cpu);

}  // namespace baton::cpu
