#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace baton::cpu {

// Zeroed pages of this process's own, in 2 MiB pages where the system has them. Reserved memory takes no room until it
// is touched; other memory is refused (OUT_OF_MEMORY) when it does not fit in what is free now.
class Memory {
 public:
  Memory() = default;
  Memory(size_t bytes, const char* what, bool reserve_only = false);
  ~Memory();
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// Memory for many things that live equally long, side by side in large pieces, so that small ones too lie in huge
// pages.
class MemoryPool {
 public:
  // Zeroed, at the beginning of a cache line, until the pool ends.
  std::byte* take(size_t bytes, const char* what);

 private:
  std::vector<Memory> pieces_;
  size_t used_ = 0;  // of the last piece
};

// Bytes this process can still take: what the system has available, or what its control group still allows.
size_t free_memory();

}  // namespace baton::cpu
