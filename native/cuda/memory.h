#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace baton::cuda {

// Where memory is taken from, and how it is given back.
struct DeviceSource {
  static void* take(size_t bytes, const char* what);  // throws OUT_OF_MEMORY: what for, bytes asked, bytes free
  static void give(void* data) noexcept;
};
struct PinnedSource {  // host memory that the device copies from and to while the host goes on
  static void* take(size_t bytes, const char* what);
  static void give(void* data) noexcept;
};

// An array of T in memory of one kind; not initialised.
template <typename T, typename Source>
class Array {
 public:
  Array() = default;
  Array(size_t count, const char* what)
      : data_(count == 0 ? nullptr : static_cast<T*>(Source::take(count * sizeof(T), what))), count_(count) {}
  ~Array() { Source::give(data_); }
  Array(Array&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }

  T* data() const { return data_; }
  size_t count() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

template <typename T>
using DeviceArray = Array<T, DeviceSource>;
template <typename T>
using PinnedArray = Array<T, PinnedSource>;

// Device memory for many things that live equally long, side by side in large pieces: no allocation costs a page of two
// megabytes for a bias.
class MemoryPool {
 public:
  // Zeroed, at a multiple of 256 bytes, until the pool ends.
  void* take(size_t bytes, const char* what);

 private:
  std::vector<DeviceArray<std::byte>> pieces_;
  size_t used_ = 0;  // of the last piece
};

}  // namespace baton::cuda
