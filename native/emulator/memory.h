#pragma once

#include <cstddef>
#include <map>
#include <mutex>

// Device memory and pinned host memory. Every byte of an allocation is 0xff at first, a NaN in any float type.
namespace baton::emulator {

struct Allocation {
  size_t bytes;
  int device;  // kHost: pinned
};

class Memory {
 public:
  static constexpr int kHost = -1;

  Memory();
  ~Memory();  // reports what was never freed

  // Null where the device has no more room.
  void* allocate(size_t bytes, int device);
  void* allocate_pinned(size_t bytes);
  // False for what was not allocated, or is freed already.
  bool free(void* pointer);
  bool free_pinned(void* pointer);

  // Whether these bytes lie in one allocation. Outside of any they are the host's own.
  enum class Place { device, pinned, host, nowhere };
  Place place(const void* from, size_t bytes) const;

  size_t used(int device) const;
  size_t count(bool pinned) const;

  // Device memory can be touched between open and close, which nest; before and after only if not isolated.
  void open();
  void close();

 private:
  using Allocations = std::map<const char*, Allocation>;
  const Allocations::value_type* find(const void* pointer) const;
  bool is_device(const void* pointer) const;
  void protect(bool accessible);

  mutable std::mutex mutex_;
  Allocations device_, pinned_;
  std::map<char*, size_t> free_;  // ranges given back; used again only when there is nothing else
  char* region_ = nullptr;
  char* top_ = nullptr;         // of what was ever allocated
  char* accessible_ = nullptr;  // end of the pages that were ever needed
  int open_ = 0;
  bool protected_ = false;
};

Memory& memory();

}  // namespace baton::emulator
