#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/plan.h"
#include "cuda/kernels.h"
#include "cuda/memory.h"
#include "cuda/staging.h"

namespace baton::cuda {

// What a step drew, on its way to the host.
struct Drawn {
  std::vector<int32_t> rows;
  std::vector<int32_t> likeliest;  // alternatives that each of them reports
  PinnedArray<int32_t> numbers;    // as SampledView has them
};

// What sampling knows of the rows, in device memory, and what it drew. A row's state stays where it is when the row
// moves: states_ says where that is.
class SamplerState {
 public:
  SamplerState(int32_t rows, int32_t vocabulary, cudaStream_t stream);

  void move(const RowMove& move);  // what was in `to` is over
  void start(const RowStart& start, Staging& staging);

  void fill(int32_t* states) const;  // [rows]
  SamplerView view(const int32_t* states) const;
  SampledView sampled() const;

  // Queues the copy of what was drawn for drawn.rows to the host; after the stream has come so far, write() hands it
  // out, whatever has become of the rows.
  void fetch(Drawn& drawn) const;
  void write(const Drawn& drawn, const StepResult& result) const;

 private:
  int32_t rows_;
  int32_t vocabulary_;
  cudaStream_t stream_;
  std::vector<int32_t> states_;      // [rows]
  std::vector<SamplingView> rules_;  // by state, as all below
  DeviceArray<SamplingView> device_rules_;
  DeviceArray<int32_t> stop_tokens_;                       // [rows, kMostStopTokens]
  DeviceArray<float> bias_;                                // [rows, vocabulary]
  DeviceArray<uint32_t> seen_;                             // [rows, vocabulary]
  DeviceArray<int32_t> drawn_;                             // [rows]
  DeviceArray<int32_t> start_tokens_, start_bias_tokens_;  // of the row being started
  DeviceArray<float> start_bias_values_;
  DeviceArray<int32_t> sampled_;  // by row: token, log-probability; tokens, log-probabilities of the likeliest
};

}  // namespace baton::cuda
