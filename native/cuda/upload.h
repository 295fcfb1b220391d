#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "cuda/memory.h"
#include "cuda/resources.h"

namespace baton::cuda {

// Brings rows to the device through two pinned buffers: the host fills one while the other is on its way.
class Upload {
 public:
  explicit Upload(cudaStream_t stream);

  // Calls fill(row, bytes) for each row in order, `bytes` being `pitch` zeros. May return before the last have arrived.
  void rows(void* to, int64_t count, int64_t pitch, const std::function<void(int64_t row, std::byte* bytes)>& fill);

 private:
  struct Buffer {
    PinnedArray<std::byte> bytes;
    Event free;  // recorded behind the copy out of it
  };

  cudaStream_t stream_;
  Buffer buffers_[2];
  int32_t next_ = 0;
};

}  // namespace baton::cuda
