#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"

namespace baton {

// One tensor of a model's files, as a file's header describes it. Not to be believed before TensorFiles has checked it.
struct TensorEntry {
  std::string name;
  int32_t file;      // index into the paths
  std::string type;  // safetensors' name
  std::vector<int64_t> shape;
  int64_t begin, end;  // bytes from the start of the file
};

// A file mapped read-only for as long as this lives.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws MODEL_NOT_FOUND, MODEL_FORMAT
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// A tensor's values in host memory, aligned for its type, for as long as this lives. Gives the pages it read back to
// the system at its end, so that a load never holds more of the files than it is reading.
class Tensor {
 public:
  Tensor(std::span<const std::byte> mapped, TensorType type, int32_t rows, int32_t columns);
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&&) = delete;
  ~Tensor();

  const TensorView& view() const { return view_; }

 private:
  std::span<const std::byte> mapped_;
  std::unique_ptr<std::byte[]> aligned_;  // a copy, only where the file leaves the values unaligned
  TensorView view_;
};

// The files of a model and where in them each tensor lies.
class TensorFiles {
 public:
  // Maps every file and checks every entry against them: throws MODEL_FORMAT that names the tensor.
  TensorFiles(const std::vector<std::string>& paths, const std::vector<TensorEntry>& entries);

  // A matrix [rows, columns]; a vector is a matrix of one row. Throws MODEL_FORMAT where it is missing or has another
  // shape.
  Tensor matrix(const std::string& name, int32_t rows, int32_t columns) const;
  Tensor vector(const std::string& name, int32_t size) const;

 private:
  Tensor find(const std::string& name, std::span<const int64_t> shape) const;

  std::vector<MappedFile> files_;
  std::unordered_map<std::string, TensorEntry> entries_;
};

}  // namespace baton
