// Stands in for NVIDIA's libcublasLt in tests: the functions that cuda/cublaslt.cpp looks for, on the emulator's
// streams and memory. A product is a plain loop. Whatever the real one does not promise to accept is refused: types,
// attributes and sizes of them, objects that are gone, matrices that do not fit together or are not wholly in device
// memory at multiples of 256 bytes, an algorithm that was found for another problem.
//
// Built once more for each flaw: FLAW_OLD (of version 11), FLAW_PARTIAL (without cublasLtMatmul), FLAW_DEAD (does not
// start), FLAW_CLUELESS (knows no algorithm), FLAW_FAILING (no product succeeds).

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <vector>

#include "emulator/sanitizer.h"
#include "emulator/stream_work.h"

#if defined(FLAW_PARTIAL)
#define cublasLtMatmul cublasLtMatmulByAnotherName
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace baton::emulator {

namespace {

using Status = int;
constexpr Status kSuccess = 0, kNotInitialized = 1, kInvalidValue = 7, kExecutionFailed = 13, kNotSupported = 15;
constexpr int kF32 = 0, kBf16 = 14, kComputeF32 = 68;
constexpr int kNoTranspose = 0, kTranspose = 1;
constexpr int kTransposeFirst = 3, kTransposeSecond = 4;  // of a description
constexpr int kMostWorkspace = 1;                         // of a preference
constexpr size_t kAlignment = 256;
constexpr uint64_t kWorkspaceBytes = 1 << 20;  // that every product writes to

struct Context {};
struct Description {
  int transpose_first = kNoTranspose, transpose_second = kNoTranspose;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;  // of columns, in elements

  bool operator==(const Layout&) const = default;
  size_t element_bytes() const { return type == kF32 ? 4 : 2; }
  size_t bytes() const { return (size_t(stride) * (columns - 1) + rows) * element_bytes(); }
};
struct Preference {
  uint64_t workspace_bytes = 0;
};
struct Heuristic {
  std::array<uint64_t, 8> algorithm;
  size_t workspace_bytes;
  Status status;
  float waves;
  int reserved[4];
};

thread_local const char* complaint = "nothing is wrong";  // what the last refusal was about

Status refuse(Status status, const char* why) {
  complaint = why;
  return status;
}

// Of what a caller cannot be told: the class gives objects back in destructors.
[[noreturn]] void fault(const char* what) {
  std::fprintf(stderr, "cublasLt: %s\n", what);
  std::abort();
}

// All objects of one kind.
template <typename Kind>
class Objects {
 public:
  Status create(void** handle, const Kind& object) {
    if (handle == nullptr) return refuse(kInvalidValue, "there is no place for a new object's handle");
    const std::lock_guard lock(mutex_);
    *handle = *objects_.insert(new Kind(object)).first;
    return kSuccess;
  }
  Status destroy(void* handle) {
    const std::lock_guard lock(mutex_);
    if (objects_.erase(static_cast<Kind*>(handle)) == 0) fault("destroys what is not there, or of another kind");
    delete static_cast<Kind*>(handle);
    return kSuccess;
  }
  // Null if there is none such.
  Kind* find(void* handle) {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(static_cast<Kind*>(handle));
    return found == objects_.end() ? nullptr : *found;
  }
  bool empty() {
    const std::lock_guard lock(mutex_);
    return objects_.empty();
  }

 private:
  std::mutex mutex_;
  std::set<Kind*> objects_;
};

Objects<Context> contexts;
Objects<Description> descriptions;
Objects<Layout> layouts;
Objects<Preference> preferences;

template <typename Value>
Status set(Value& value, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof value) return refuse(kInvalidValue, "an attribute has another size");
  std::memcpy(&value, from, sizeof value);
  return kSuccess;
}

// d = alpha op(a) op(b) + beta c, by columns; op(a) [m, k], op(b) [k, n].
struct Problem {
  Description description;
  Layout a, b, c, d;
  uint64_t m, n, k;

  std::array<uint64_t, 8> digest() const {
    const auto transposes = uint64_t(description.transpose_first * 2 + description.transpose_second);
    return {0xba70, m, n, k, transposes, uint64_t(a.stride), uint64_t(b.stride), uint64_t(d.stride)};
  }
};

Status read_problem(Problem& problem, void* context, void* description, void* a, void* b, void* c, void* d) {
  if (contexts.find(context) == nullptr) return refuse(kNotInitialized, "there is no such handle");
  const Description* how = descriptions.find(description);
  const Layout* all[] = {layouts.find(a), layouts.find(b), layouts.find(c), layouts.find(d)};
  if (how == nullptr || std::find(std::begin(all), std::end(all), nullptr) != std::end(all)) {
    return refuse(kInvalidValue, "a description or a layout is not there");
  }
  problem = {*how, *all[0], *all[1], *all[2], *all[3], 0, 0, 0};
  const auto& [first, second] = std::pair(problem.a, problem.b);
  const bool first_turned = how->transpose_first == kTranspose, second_turned = how->transpose_second == kTranspose;
  problem.m = first_turned ? first.columns : first.rows;
  problem.k = first_turned ? first.rows : first.columns;
  problem.n = second_turned ? second.rows : second.columns;
  if (problem.k != (second_turned ? second.columns : second.rows)) return refuse(kInvalidValue, "a and b do not fit");
  if (problem.d.rows != problem.m || problem.d.columns != problem.n) return refuse(kInvalidValue, "d does not fit");
  if (problem.c.rows != problem.m || problem.c.columns != problem.n) return refuse(kInvalidValue, "c does not fit");
  if (first.type != kBf16 || second.type != kBf16 || problem.c.type != kF32 || problem.d.type != kF32) {
    return refuse(kNotSupported, "expected bf16 times bf16 to floats");
  }
  return kSuccess;
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0; }

// op(x) [count, k] of x's columns, or of its rows, as floats.
std::vector<float> read_vectors(const uint16_t* x, const Layout& layout, bool columns) {
  const uint64_t count = columns ? layout.columns : layout.rows, k = columns ? layout.rows : layout.columns;
  std::vector<float> values(count * k);
  for (uint64_t v = 0; v < count; v++) {
    for (uint64_t i = 0; i < k; i++) {
      const size_t at = columns ? v * size_t(layout.stride) + i : i * size_t(layout.stride) + v;
      const uint32_t bits = uint32_t(x[at]) << 16;
      std::memcpy(&values[v * k + i], &bits, sizeof bits);
    }
  }
  return values;
}

// Of what a queued product touches, the race check is told of the matrices and the workspace, and of nothing else: its
// own variables may lie where the host's did.
void multiply(const Problem& problem, void* workspace, float alpha, const uint16_t* a, const uint16_t* b, float beta,
              const float* c, float* d) {
  std::memset(workspace, 0xff, kWorkspaceBytes);
  const auto left = read_vectors(a, problem.a, problem.description.transpose_first == kTranspose);
  const auto right = read_vectors(b, problem.b, problem.description.transpose_second == kNoTranspose);
  for (uint64_t column = 0; column < problem.n; column++) {
    for (uint64_t row = 0; row < problem.m; row++) {
      double sum = 0;
      for (uint64_t i = 0; i < problem.k; i++) {
        sum += double(left[row * problem.k + i]) * double(right[column * problem.k + i]);
      }
      sum *= alpha;
      if (beta != 0) sum += double(beta) * double(c[column * size_t(problem.c.stride) + row]);
      d[column * size_t(problem.d.stride) + row] = float(sum);
    }
  }
  const size_t a_bytes = problem.a.bytes(), b_bytes = problem.b.bytes(), d_bytes = problem.d.bytes();
  const size_t c_bytes = beta != 0 ? problem.c.bytes() : 0;
  show_accesses();
  note_write(workspace, kWorkspaceBytes);
  note_read(a, a_bytes);
  note_read(b, b_bytes);
  note_read(c, c_bytes);
  note_write(d, d_bytes);
  hide_accesses();
}

}  // namespace

}  // namespace baton::emulator

using namespace baton::emulator;

EXPORT size_t cublasLtGetVersion() {
#if defined(FLAW_OLD)
  return 111103;
#else
  return 130001;
#endif
}

EXPORT const char* cublasLtGetStatusString(Status) { return complaint; }

EXPORT Status cublasLtCreate(void** handle) {
#if defined(FLAW_DEAD)
  (void)handle;
  return refuse(kNotInitialized, "this library is dead");
#else
  return contexts.create(handle, {});
#endif
}

EXPORT Status cublasLtDestroy(void* handle) {
  contexts.destroy(handle);
  if (contexts.empty() && !(descriptions.empty() && layouts.empty() && preferences.empty())) {
    fault("somebody forgot to destroy descriptions, layouts or preferences");
  }
  return kSuccess;
}

EXPORT Status cublasLtMatmulDescCreate(void** handle, int compute_type, int scale_type) {
  if (compute_type != kComputeF32 || scale_type != kF32) return refuse(kNotSupported, "expected to compute in float");
  return descriptions.create(handle, {});
}

EXPORT Status cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
  Description* description = descriptions.find(handle);
  if (description == nullptr) return refuse(kInvalidValue, "there is no such description");
  if (attribute != kTransposeFirst && attribute != kTransposeSecond) {
    return refuse(kInvalidValue, "an unknown attribute of a description");
  }
  int transpose = -1;
  if (const Status status = set(transpose, value, bytes); status != kSuccess) return status;
  if (transpose != kNoTranspose && transpose != kTranspose) return refuse(kInvalidValue, "an unknown transposition");
  (attribute == kTransposeFirst ? description->transpose_first : description->transpose_second) = transpose;
  return kSuccess;
}

EXPORT Status cublasLtMatmulDescDestroy(void* handle) { return descriptions.destroy(handle); }

EXPORT Status cublasLtMatrixLayoutCreate(void** handle, int type, uint64_t rows, uint64_t columns, int64_t stride) {
  if (type != kBf16 && type != kF32) return refuse(kNotSupported, "an unknown type of elements");
  if (rows == 0 || columns == 0 || stride < int64_t(rows)) return refuse(kInvalidValue, "columns overlap, or are none");
  return layouts.create(handle, {type, rows, columns, stride});
}

EXPORT Status cublasLtMatrixLayoutDestroy(void* handle) { return layouts.destroy(handle); }

EXPORT Status cublasLtMatmulPreferenceCreate(void** handle) { return preferences.create(handle, {}); }

EXPORT Status cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
  Preference* preference = preferences.find(handle);
  if (preference == nullptr) return refuse(kInvalidValue, "there is no such preference");
  if (attribute != kMostWorkspace) return refuse(kInvalidValue, "an unknown attribute of a preference");
  return set(preference->workspace_bytes, value, bytes);
}

EXPORT Status cublasLtMatmulPreferenceDestroy(void* handle) { return preferences.destroy(handle); }

EXPORT Status cublasLtMatmulAlgoGetHeuristic(void* context, void* description, void* a, void* b, void* c, void* d,
                                             void* preference, int wanted, Heuristic* results, int* found) {
  Problem problem;
  const Status status = read_problem(problem, context, description, a, b, c, d);
  if (status != kSuccess) return status;
  const Preference* limits = preferences.find(preference);
  if (limits == nullptr || wanted < 1 || results == nullptr || found == nullptr) {
    return refuse(kInvalidValue, "a question without preference, or without room for an answer");
  }
  *found = 0;
#if !defined(FLAW_CLUELESS)
  if (limits->workspace_bytes < kWorkspaceBytes) return kSuccess;
  *results = {problem.digest(), kWorkspaceBytes, kSuccess, 1, {}};
  *found = 1;
#endif
  return kSuccess;
}

EXPORT Status cublasLtMatmul(void* context, void* description, const float* alpha, const uint16_t* a, void* a_layout,
                             const uint16_t* b, void* b_layout, const float* beta, const float* c, void* c_layout,
                             float* d, void* d_layout, const std::array<uint64_t, 8>* algorithm, void* workspace,
                             size_t workspace_bytes, cudaStream_t stream) {
  Problem problem;
  const Status status = read_problem(problem, context, description, a_layout, b_layout, c_layout, d_layout);
  if (status != kSuccess) return status;
#if defined(FLAW_FAILING)
  return refuse(kExecutionFailed, "this library fails");
#endif
  if (stream == nullptr) return refuse(kInvalidValue, "expected a stream of the backend's own");
  const StreamWork& work = *reinterpret_cast<const StreamWork*>(stream);
  if (algorithm == nullptr || *algorithm != problem.digest()) {
    return refuse(kInvalidValue, "the algorithm was found for another problem");
  }
  if (alpha == nullptr || beta == nullptr || work.on_device(alpha, 4) || work.on_device(beta, 4)) {
    return refuse(kInvalidValue, "alpha and beta are the host's");
  }
  if (c == d && problem.c != problem.d) return refuse(kInvalidValue, "c is d, but in another layout");
  if (!aligned(a) || !aligned(b) || !aligned(c) || !aligned(d) || !aligned(workspace)) {
    return refuse(kInvalidValue, "a matrix, or the workspace, is not at a multiple of 256 bytes");
  }
  if (!work.on_device(a, problem.a.bytes()) || !work.on_device(b, problem.b.bytes()) ||
      !work.on_device(c, problem.c.bytes()) || !work.on_device(d, problem.d.bytes())) {
    return refuse(kInvalidValue, "a matrix is not wholly in device memory");
  }
  if (workspace_bytes < kWorkspaceBytes || !work.on_device(workspace, workspace_bytes)) {
    return refuse(kInvalidValue, "the workspace is too small, or not in device memory");
  }
  const cudaError_t queued = work.queue(stream, [=, alpha = *alpha, beta = *beta] {
    multiply(problem, workspace, alpha, a, b, beta, c, d);
    return true;
  });
  return queued == cudaSuccess ? kSuccess : refuse(kExecutionFailed, "the stream takes no work");
}
