#include "cuda/staging.h"

#include <algorithm>
#include <utility>

namespace baton::cuda {

namespace {

constexpr size_t kAlignment = 16;
constexpr size_t kLeastPiece = size_t(64) << 10;

}  // namespace

std::byte* Staging::take_bytes(size_t bytes) {
  const size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (pieces_.empty() || pieces_.back().bytes() - used_ < size) {
    const size_t twice = pieces_.empty() ? kLeastPiece : 2 * pieces_.back().bytes();
    pieces_.emplace_back(std::max(twice, size), "plans");
    used_ = 0;
  }
  std::byte* data = pieces_.back().data() + used_;
  used_ += size;
  return data;
}

void Staging::clear() {
  if (pieces_.size() > 1) pieces_.erase(pieces_.begin(), pieces_.end() - 1);
  used_ = 0;
}

}  // namespace baton::cuda
