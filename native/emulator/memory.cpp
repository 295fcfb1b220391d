#include "emulator/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "emulator/emulator.h"
#include "emulator/fault.h"
#include "emulator/sanitizer.h"

namespace baton::emulator {

namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kGap = 256;  // behind each allocation; nobody may write there
constexpr size_t kPageBytes = 4096;
constexpr size_t kRegionBytes = size_t(64) << 30;  // of addresses: enough that few are used twice
constexpr size_t kGrowth = size_t(1) << 20;

size_t round_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

}  // namespace

Memory& memory() {
  static Memory memory;
  return memory;
}

Memory::Memory() {
  void* region = mmap(nullptr, kRegionBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) throw std::bad_alloc();
  region_ = top_ = accessible_ = static_cast<char*>(region);
}

Memory::~Memory() {
  if (!device_.empty()) {
    std::fprintf(stderr, "emulator: %zu allocations of device memory were never freed\n", device_.size());
  }
  if (!pinned_.empty()) std::fprintf(stderr, "emulator: %zu pinned allocations were never freed\n", pinned_.size());
}

void* Memory::allocate(size_t bytes, int device) {
  const size_t size = round_up(std::max<size_t>(bytes, 1), kAlignment) + kGap;
  if (used(device) + size > options().memory_bytes) return nullptr;
  const std::lock_guard lock(mutex_);
  char* data = nullptr;
  if (size_t(region_ + kRegionBytes - top_) >= size) {
    data = top_;
    top_ += size;
    if (top_ > accessible_) {
      const size_t growth = round_up(size_t(top_ - accessible_), kGrowth);
      if (!protected_) mprotect(accessible_, growth, PROT_READ | PROT_WRITE);
      accessible_ += growth;
    }
  } else {
    const auto fits = [size](const auto& range) { return range.second >= size; };
    const auto range = std::find_if(free_.begin(), free_.end(), fits);
    if (range == free_.end()) return nullptr;
    data = range->first;
    if (range->second > size) free_[data + size] = range->second - size;
    free_.erase(data);
  }
  device_[data] = {bytes, device};
  if (protected_) protect(true);
  unpoison(data, size);
  std::memset(data, 0xff, size);
  poison(data + bytes, size - bytes);
  if (protected_) protect(false);
  return data;
}

bool Memory::free(void* pointer) {
  const std::lock_guard lock(mutex_);
  char* data = static_cast<char*>(pointer);
  const auto allocation = device_.find(data);
  if (allocation == device_.end()) return false;
  const size_t bytes = allocation->second.bytes;
  const size_t size = round_up(std::max<size_t>(bytes, 1), kAlignment) + kGap;
  if (protected_) protect(true);
  for (size_t i = bytes; i < size && !kAddressSanitizer; i++) {
    if (uint8_t(data[i]) == 0xff) continue;
    fault("somebody wrote " + std::to_string(i - bytes) + " bytes behind an allocation of " + std::to_string(bytes) +
          " bytes of device memory");
  }
  std::memset(data, 0xff, bytes);  // what is read after this is NaN again
  // Whole pages are given back to the system: they read as zeros, unless somebody must not read them at all.
  char* first_page = reinterpret_cast<char*>(round_up(uintptr_t(data), kPageBytes));
  char* last_page = reinterpret_cast<char*>(uintptr_t(data + size) / kPageBytes * kPageBytes);
  constexpr ptrdiff_t kLarge = ptrdiff_t(1) << 20;
  if (last_page - first_page >= kLarge) madvise(first_page, size_t(last_page - first_page), MADV_DONTNEED);
  poison(data, size);
  if (protected_) protect(false);
  device_.erase(allocation);

  auto range = free_.emplace(data, size).first;
  if (const auto next = std::next(range); next != free_.end() && range->first + range->second == next->first) {
    range->second += next->second;
    free_.erase(next);
  }
  if (range != free_.begin()) {
    if (const auto before = std::prev(range); before->first + before->second == range->first) {
      before->second += range->second;
      free_.erase(range);
    }
  }
  return true;
}

void* Memory::allocate_pinned(size_t bytes) {
  const std::lock_guard lock(mutex_);
  void* data = std::aligned_alloc(kPageBytes, round_up(std::max<size_t>(bytes, 1), kPageBytes));
  if (data == nullptr) return nullptr;
  std::memset(data, 0xff, bytes);
  poison(static_cast<char*>(data) + bytes, round_up(std::max<size_t>(bytes, 1), kPageBytes) - bytes);
  pinned_[static_cast<const char*>(data)] = {bytes, kHost};
  return data;
}

bool Memory::free_pinned(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto allocation = pinned_.find(static_cast<const char*>(pointer));
  if (allocation == pinned_.end()) return false;
  unpoison(pointer, round_up(std::max<size_t>(allocation->second.bytes, 1), kPageBytes));
  pinned_.erase(allocation);
  std::free(pointer);
  return true;
}

bool Memory::is_device(const void* pointer) const { return pointer >= region_ && pointer < region_ + kRegionBytes; }

Memory::Place Memory::place(const void* from, size_t bytes) const {
  const std::lock_guard lock(mutex_);
  const char* begin = static_cast<const char*>(from);
  const Allocations& allocations = is_device(from) ? device_ : pinned_;
  const auto after = allocations.upper_bound(begin);
  const bool known =
      after != allocations.begin() && begin + bytes <= std::prev(after)->first + std::prev(after)->second.bytes;
  if (is_device(from)) return known ? Place::device : Place::nowhere;
  return known ? Place::pinned : Place::host;
}

size_t Memory::used(int device) const {
  const std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& [data, allocation] : device_) {
    if (allocation.device == device) bytes += round_up(std::max<size_t>(allocation.bytes, 1), kAlignment) + kGap;
  }
  return bytes;
}

size_t Memory::count(bool pinned) const {
  const std::lock_guard lock(mutex_);
  return pinned ? pinned_.size() : device_.size();
}

void Memory::open() {
  const std::lock_guard lock(mutex_);
  if (open_++ == 0 && protected_) protect(true);
  protected_ = false;
}

void Memory::close() {
  const std::lock_guard lock(mutex_);
  if (--open_ > 0) return;
  if (options().isolated) protect(false);
  protected_ = options().isolated;
}

void Memory::protect(bool accessible) {
  if (accessible_ == region_) return;
  mprotect(region_, size_t(accessible_ - region_), accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace baton::emulator
