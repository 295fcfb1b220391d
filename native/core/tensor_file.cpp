#include "core/tensor_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "core/error.h"

namespace baton {

namespace {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

std::optional<TensorType> type_of(const std::string& name) {
  if (name == "F32") return TensorType::f32;
  if (name == "BF16") return TensorType::bf16;
  if (name == "F16") return TensorType::f16;
  return std::nullopt;
}

size_t size_of(TensorType type) { return type == TensorType::f32 ? 4 : 2; }

// Bytes of a tensor, or nothing where its shape is negative or their product overflows.
std::optional<int64_t> bytes_of(std::span<const int64_t> shape, size_t element) {
  int64_t bytes = int64_t(element);
  for (const int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size > 0 && bytes > std::numeric_limits<int64_t>::max() / size) return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

// Grows a range to whole pages and passes on an intention. Advice is only that: a refusal changes nothing.
void advise(std::span<const std::byte> bytes, int intention) {
  if (bytes.empty()) return;
  const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(bytes.data()) & ~(page - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size();
  madvise(reinterpret_cast<void*>(begin), end - begin, intention);
}

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

void check_entry(const TensorEntry& entry, const std::vector<MappedFile>& files) {
  const auto require = [&](bool holds, const std::string& message) {
    REQUIRE(holds, "MODEL_FORMAT", entry.name + ": " + message);
  };
  require(entry.file >= 0 && size_t(entry.file) < files.size(),
          "expected one of " + std::to_string(files.size()) + " files, got number " + std::to_string(entry.file));
  const int64_t size = int64_t(files[size_t(entry.file)].bytes().size());
  require(entry.begin >= 0 && entry.begin <= entry.end && entry.end <= size,
          "expected bytes within the file's " + std::to_string(size) + ", got " + std::to_string(entry.begin) + " to " +
              std::to_string(entry.end));
  const std::optional<TensorType> type = type_of(entry.type);
  if (!type) return;  // other types may lie in a file; they matter when one is asked for
  const std::optional<int64_t> bytes = bytes_of(entry.shape, size_of(*type));
  require(bytes == entry.end - entry.begin, "expected " + (bytes ? std::to_string(*bytes) : "too many") +
                                                " bytes for " + entry.type + " " + shape_text(entry.shape) + ", got " +
                                                std::to_string(entry.end - entry.begin));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const auto fail = [&](const char* code) -> void { throw Error(code, path + ": " + std::strerror(errno)); };
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.number < 0) fail("MODEL_NOT_FOUND");
  struct stat status;
  if (fstat(file.number, &status) != 0) fail("MODEL_NOT_FOUND");
  REQUIRE(S_ISREG(status.st_mode), "MODEL_FORMAT", path + ": expected a regular file");
  if (status.st_size == 0) return;  // nothing to map
  const size_t size = size_t(status.st_size);
  void* begin = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (begin == MAP_FAILED) {
    throw Error("OUT_OF_MEMORY",
                path + ": could not map " + std::to_string(size) + " bytes: " + std::string(std::strerror(errno)));
  }
  bytes_ = {static_cast<const std::byte*>(begin), size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Tensor::Tensor(std::span<const std::byte> mapped, TensorType type, int32_t rows, int32_t columns)
    : mapped_(mapped), view_{mapped.data(), type, rows, columns} {
  advise(mapped_, MADV_WILLNEED);
  if (reinterpret_cast<uintptr_t>(mapped.data()) % size_of(type) == 0) return;
  aligned_ = std::make_unique_for_overwrite<std::byte[]>(mapped.size());
  std::memcpy(aligned_.get(), mapped.data(), mapped.size());
  view_.data = aligned_.get();
}

Tensor::Tensor(Tensor&& other) noexcept
    : mapped_(std::exchange(other.mapped_, {})), aligned_(std::move(other.aligned_)), view_(other.view_) {}

Tensor::~Tensor() { advise(mapped_, MADV_DONTNEED); }

TensorFiles::TensorFiles(const std::vector<std::string>& paths, const std::vector<TensorEntry>& entries) {
  files_.reserve(paths.size());
  for (const std::string& path : paths) files_.emplace_back(path);
  entries_.reserve(entries.size());
  for (const TensorEntry& entry : entries) {
    check_entry(entry, files_);
    const bool first = entries_.try_emplace(entry.name, entry).second;
    REQUIRE(first, "MODEL_FORMAT", entry.name + ": expected one tensor of this name, got two");
  }
}

Tensor TensorFiles::matrix(const std::string& name, int32_t rows, int32_t columns) const {
  return find(name, std::array<int64_t, 2>{rows, columns});
}

Tensor TensorFiles::vector(const std::string& name, int32_t size) const {
  return find(name, std::array<int64_t, 1>{size});
}

Tensor TensorFiles::find(const std::string& name, std::span<const int64_t> shape) const {
  const auto found = entries_.find(name);
  REQUIRE(found != entries_.end(), "MODEL_FORMAT", name + ": expected a tensor " + shape_text(shape) + ", found none");
  const TensorEntry& entry = found->second;
  REQUIRE(std::equal(shape.begin(), shape.end(), entry.shape.begin(), entry.shape.end()), "MODEL_FORMAT",
          name + ": expected shape " + shape_text(shape) + ", got " + shape_text(entry.shape));
  const std::optional<TensorType> type = type_of(entry.type);
  REQUIRE(type, "MODEL_FORMAT", name + ": expected type F32, BF16 or F16, got " + entry.type);
  const size_t length = size_t(entry.end - entry.begin);
  const std::span<const std::byte> bytes = files_[size_t(entry.file)].bytes().subspan(size_t(entry.begin), length);
  return Tensor(bytes, *type, shape.size() == 1 ? 1 : int32_t(shape[0]), int32_t(shape.back()));
}

}  // namespace baton
