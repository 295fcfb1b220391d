#include "cuda/memory.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "cuda/check.h"

namespace baton::cuda {

namespace {

constexpr size_t kAlignment = 256;  // what cudaMalloc keeps, and more than any access needs
constexpr size_t kPiece = size_t(4) << 20;

std::string megabytes(size_t bytes) { return std::to_string((bytes >> 20) + 1) + " MiB"; }

}  // namespace

void* DeviceSource::take(size_t bytes, const char* what) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    throw Error("OUT_OF_MEMORY", std::string(what) + ": asked the GPU for " + megabytes(bytes) + ", but only " +
                                     megabytes(free) + " of its " + megabytes(total) + " are free");
  }
  check(status, "cudaMalloc");
  return data;
}

void DeviceSource::give(void* data) noexcept {
  if (data != nullptr) cudaFree(data);  // an error here is one that was reported before
}

void* PinnedSource::take(size_t bytes, const char* what) {
  void* data = nullptr;
  const cudaError_t status = cudaMallocHost(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error("OUT_OF_MEMORY", std::string(what) + ": the system refused " + megabytes(bytes) + " of pinned memory");
  }
  check(status, "cudaMallocHost");
  return data;
}

void PinnedSource::give(void* data) noexcept {
  if (data != nullptr) cudaFreeHost(data);
}

void* MemoryPool::take(size_t bytes, const char* what) {
  const size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (pieces_.empty() || pieces_.back().bytes() - used_ < size) {
    DeviceArray<std::byte> piece(std::max(size, kPiece), what);
    CUDA_CHECK(cudaMemset(piece.data(), 0, piece.bytes()));
    CUDA_CHECK(cudaDeviceSynchronize());  // no other stream waits for the memset by itself
    pieces_.push_back(std::move(piece));
    used_ = 0;
  }
  std::byte* data = pieces_.back().data() + used_;
  used_ += size;
  return data;
}

}  // namespace baton::cuda
