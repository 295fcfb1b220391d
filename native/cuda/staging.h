#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "cuda/check.h"
#include "cuda/memory.h"

namespace baton::cuda {

// Pinned memory through which small things go to the device: the host does not wait for what is queued before them, as
// it would with pageable memory.
class Staging {
 public:
  // Room for `count` values, until clear().
  template <typename T>
  T* take(size_t count) {
    return reinterpret_cast<T*>(take_bytes(count * sizeof(T)));
  }

  // Queues a copy to `to`; `values` may go.
  template <typename T>
  void upload(T* to, std::span<const T> values, cudaStream_t stream) {
    if (values.empty()) return;
    T* from = take<T>(values.size());
    memcpy(from, values.data(), values.size_bytes());
    CUDA_CHECK(cudaMemcpyAsync(to, from, values.size_bytes(), cudaMemcpyHostToDevice, stream));
  }

  // Only when the device has read everything.
  void clear();

 private:
  std::byte* take_bytes(size_t bytes);

  std::vector<PinnedArray<std::byte>> pieces_;  // each larger than the one before; the last is filled
  size_t used_ = 0;                             // of the last piece
};

}  // namespace baton::cuda
