#include "cuda/upload.h"

#include <algorithm>
#include <cstring>

namespace baton::cuda {

namespace {

constexpr int64_t kBufferBytes = int64_t(8) << 20;

}  // namespace

Upload::Upload(cudaStream_t stream) : stream_(stream) {}

void Upload::rows(void* to, int64_t count, int64_t pitch,
                  const std::function<void(int64_t row, std::byte* bytes)>& fill) {
  const int64_t fitting = std::max<int64_t>(1, kBufferBytes / pitch);
  for (int64_t begin = 0; begin < count; begin += fitting) {
    Buffer& buffer = buffers_[next_];
    next_ = 1 - next_;
    const int64_t rows = std::min(fitting, count - begin);
    const size_t bytes = size_t(rows * pitch);
    CUDA_CHECK(cudaEventSynchronize(buffer.free));
    if (buffer.bytes.bytes() < bytes) buffer.bytes = PinnedArray<std::byte>(bytes, "weights on their way");
    memset(buffer.bytes.data(), 0, bytes);
    for (int64_t row = 0; row < rows; row++) fill(begin + row, buffer.bytes.data() + row * pitch);
    CUDA_CHECK(cudaMemcpyAsync(static_cast<std::byte*>(to) + begin * pitch, buffer.bytes.data(), bytes,
                               cudaMemcpyHostToDevice, stream_));
    CUDA_CHECK(cudaEventRecord(buffer.free, stream_));
  }
}

}  // namespace baton::cuda
