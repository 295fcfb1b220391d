#pragma once

#include <cstdint>

#include "core/plan.h"
#include "cuda/kernels.h"
#include "cuda/memory.h"
#include "cuda/staging.h"

namespace baton::cuda {

// A step's plan as kernels read it: arrays of integers side by side, filled by the host and uploaded in one copy. Where
// they lie depends on the numbers of tokens and sampled rows alone, so a recorded step finds its plan at the same
// place.
class StepArrays {
 public:
  StepArrays(int32_t most_tokens, int32_t most_rows);

  // Lays the arrays out, the host's side in `staging`.
  void begin(int32_t tokens, int32_t sampled, Staging& staging);

  // Host side, to be filled.
  int32_t* tokens() const { return at(0); }
  int32_t* positions() const { return at(1); }
  int32_t* slots() const { return at(2); }
  int32_t* drawn_rows() const { return at(3); }  // [tokens] the row of a kDrawn token
  int32_t* decode() const { return at(4); }      // [tokens] those that attend alone, by index
  AttentionRun* prefill() const { return reinterpret_cast<AttentionRun*>(at(5)); }  // [tokens / 2]
  int32_t* last() const { return at(6); }                                           // [sampled] index of the token
  int32_t* sampled_rows() const { return at(7); }                                   // [sampled] -1: of no row
  int32_t* sampled_positions() const { return at(8); }  // [sampled] of the token to be drawn
  int32_t* states() const { return at(9); }             // [rows]

  // The same in device memory.
  template <typename T>
  T* device(T* host) const {
    return reinterpret_cast<T*>(device_.data() + (reinterpret_cast<int32_t*>(host) - host_));
  }

  void upload(cudaStream_t stream) const;

 private:
  static constexpr int32_t kArrays = 10;

  int32_t* at(int32_t i) const { return host_ + offset_[i]; }

  int32_t rows_;
  int32_t* host_ = nullptr;
  DeviceArray<int32_t> device_;
  int64_t offset_[kArrays + 1] = {};  // the last: the end
};

}  // namespace baton::cuda
