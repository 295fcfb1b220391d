#include "cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include "core/error.h"

namespace baton::cpu {

namespace {

constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kPiece = 16 * kHugePage;

// The number in a file that holds nothing else, or `otherwise` ("max", no such file).
size_t number_in(const char* path, size_t otherwise) {
  std::ifstream file(path);
  size_t value = 0;
  return file >> value ? value : otherwise;
}

std::string megabytes(size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

size_t free_memory() {
  size_t available = SIZE_MAX;
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("MemAvailable:")) available = std::stoull(line.substr(13)) << 10;
  }
  const size_t limit = number_in("/sys/fs/cgroup/memory.max", SIZE_MAX);
  const size_t used = number_in("/sys/fs/cgroup/memory.current", 0);
  return limit == SIZE_MAX ? available : std::min(available, limit - std::min(limit, used));
}

Memory::Memory(size_t bytes, const char* what, bool reserve_only) : bytes_(bytes) {
  if (bytes == 0) return;
  if (!reserve_only && bytes >= kHugePage) {
    const size_t left = free_memory();
    REQUIRE(bytes <= left, "OUT_OF_MEMORY",
            std::string(what) + ": needs " + megabytes(bytes) + ", but only " + megabytes(left) + " are free");
  }
  // Room to begin on a huge page's border; what is cut off is given back.
  const size_t whole = bytes >= kHugePage ? bytes + kHugePage : bytes;
  void* mapped = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(mapped != MAP_FAILED, "OUT_OF_MEMORY", std::string(what) + ": the system refused " + megabytes(bytes));
  data_ = static_cast<std::byte*>(mapped);
  if (whole == bytes) return;
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(mapped) % kHugePage) % kHugePage;
  if (before > 0) munmap(data_, before);
  data_ += before;
  constexpr size_t kPage = 4096;
  const size_t kept = (bytes + kPage - 1) / kPage * kPage;
  const size_t after = whole - before - std::min(kept, whole - before);
  if (after > 0) munmap(data_ + kept, after);
#if defined(MADV_HUGEPAGE)
  madvise(data_, bytes, MADV_HUGEPAGE);  // a wish; pages of the ordinary size do as well
#endif
}

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

std::byte* MemoryPool::take(size_t bytes, const char* what) {
  constexpr size_t kLine = 64;
  const size_t size = (bytes + kLine - 1) / kLine * kLine;
  if (pieces_.empty() || pieces_.back().bytes() - used_ < size) {
    pieces_.emplace_back(std::max(size, kPiece), what);
    used_ = 0;
  }
  std::byte* taken = pieces_.back().data() + used_;
  used_ += size;
  return taken;
}

}  // namespace baton::cpu
