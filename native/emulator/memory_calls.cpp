#include <cstring>
#include <vector>

#include "emulator/calls.h"
#include "emulator/emulator.h"
#include "emulator/memory.h"

// The runtime interface: memory and copies.
namespace baton::emulator {

namespace {

// Copies of rows. Without a pitch: one row.
struct Rows {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch;
  size_t width;
  size_t height;
};

size_t extent(size_t pitch, size_t width, size_t height) { return pitch * (height - 1) + width; }

Task copy_task(const Rows& rows) {
  return [rows] {
    for (size_t row = 0; row < rows.height; row++) {
      char* to = static_cast<char*>(rows.to) + row * rows.to_pitch;
      const char* from = static_cast<const char*>(rows.from) + row * rows.from_pitch;
      std::memmove(to, from, rows.width);
      show_accesses();
      note_read(from, rows.width);
      note_write(to, rows.width);
      hide_accesses();
    }
    return true;
  };
}

// From memory that is not pinned: a copy of it, taken now.
Task copy_task_of_snapshot(const Rows& rows) {
  std::vector<char> snapshot(rows.width * rows.height);
  for (size_t row = 0; row < rows.height; row++) {
    std::memcpy(snapshot.data() + row * rows.width, static_cast<const char*>(rows.from) + row * rows.from_pitch,
                rows.width);
  }
  return [rows, snapshot = std::move(snapshot)] {
    Rows from_snapshot = rows;
    from_snapshot.from = snapshot.data();
    from_snapshot.from_pitch = rows.width;
    return copy_task(from_snapshot)();
  };
}

bool kind_fits(cudaMemcpyKind kind, Memory::Place to, Memory::Place from) {
  const bool to_device = to == Memory::Place::device;
  const bool from_device = from == Memory::Place::device;
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

void copy(const Rows& rows, cudaMemcpyKind kind, cudaStream_t stream, bool synchronous) {
  if (synchronous) require_no_capture();
  require_device();
  if (rows.width == 0 || rows.height == 0) return;
  require(rows.height == 1 || (rows.to_pitch >= rows.width && rows.from_pitch >= rows.width),
          cudaErrorInvalidPitchValue);
  const Memory::Place to = memory().place(rows.to, extent(rows.to_pitch, rows.width, rows.height));
  const Memory::Place from = memory().place(rows.from, extent(rows.from_pitch, rows.width, rows.height));
  require(to != Memory::Place::nowhere && from != Memory::Place::nowhere && kind_fits(kind, to, from),
          cudaErrorInvalidValue);
  const bool pageable = to == Memory::Place::host || from == Memory::Place::host;
  if (pageable && !synchronous) {
    const std::lock_guard lock(queues().mutex);
    const std::shared_ptr<Capture> capture = find_stream(stream)->capture;
    if (capture != nullptr) {
      capture->invalid = true;
      throw Failure{cudaErrorStreamCaptureUnsupported};
    }
  }
  const bool takes_snapshot = from == Memory::Place::host && to == Memory::Place::device;
  add(stream, takes_snapshot ? copy_task_of_snapshot(rows) : copy_task(rows));
  // Between places in device memory, and from memory that is not pinned, not even a synchronous copy waits.
  const bool waits =
      synchronous ? from == Memory::Place::pinned || to != Memory::Place::device : pageable && !takes_snapshot;
  if (waits) wait_for(stream);
}

void set(void* to, int value, size_t bytes, cudaStream_t stream) {
  require_device();
  if (bytes == 0) return;
  const Memory::Place place = memory().place(to, bytes);
  require(place == Memory::Place::device || place == Memory::Place::pinned, cudaErrorInvalidValue);
  add(stream, [to, value, bytes] {
    std::memset(to, value, bytes);
    show_accesses();
    note_write(to, bytes);
    hide_accesses();
    return true;
  });
}

// As cudaMalloc wants it: nothing is allocated for nothing.
void* allocate(size_t bytes, bool pinned) {
  require_device(Purpose::allocating);
  if (bytes == 0) return nullptr;
  void* data = pinned ? memory().allocate_pinned(bytes) : memory().allocate(bytes, current_device());
  require(data != nullptr, cudaErrorMemoryAllocation);
  return data;
}

}  // namespace

}  // namespace baton::emulator

using namespace baton::emulator;

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call([&] {
    require_no_capture();
    *pointer = allocate(bytes, false);
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes, unsigned) {
  return call([&] { *pointer = allocate(bytes, true); });
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  return cudaMallocHost(pointer, bytes, flags);
}

// What still runs may use the memory, on a lost device too.
cudaError_t cudaFree(void* pointer) {
  return call([&] {
    if (pointer == nullptr) return;
    require_no_capture();
    queues().run(nullptr, 0, current_device());
    require(memory().free(pointer), cudaErrorInvalidValue);
    require_no_error(current_device());
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return call([&] {
    if (pointer == nullptr) return;
    for (int device = 0; device < options().devices; device++) queues().run(nullptr, 0, device);
    require(memory().free_pinned(pointer), cudaErrorInvalidValue);
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return call([&] { copy({to, bytes, from, bytes, bytes, 1}, kind, nullptr, true); });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return call([&] { copy({to, bytes, from, bytes, bytes, 1}, kind, stream, false); });
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  return call([&] { copy({to, to_pitch, from, from_pitch, width, height}, kind, nullptr, true); });
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return call([&] { copy({to, to_pitch, from, from_pitch, width, height}, kind, stream, false); });
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return call([&] {
    require_no_capture();
    set(to, value, bytes, nullptr);
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return call([&] { set(to, value, bytes, stream); });
}
