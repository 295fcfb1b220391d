#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <array>
#include <cassert>
#include <cstddef>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/memory.h"

namespace baton::cuda {

namespace {

// The library's binary interface, the same from version 11.0 to 13: names and values of cublasLt.h and library_types.h.
using Status = int;                 // cublasStatus_t
using Handle = void*;               // cublasLtHandle_t
using Description = void*;          // cublasLtMatmulDesc_t
using Layout = void*;               // cublasLtMatrixLayout_t
using Preference = void*;           // cublasLtMatmulPreference_t
constexpr int kF32 = 0;             // CUDA_R_32F
constexpr int kBf16 = 14;           // CUDA_R_16BF
constexpr int kComputeF32 = 68;     // CUBLAS_COMPUTE_32F
constexpr int kTranspose = 1;       // CUBLAS_OP_T; the default is 0, CUBLAS_OP_N
constexpr int kTransposeFirst = 3;  // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int kMostWorkspace = 1;   // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
struct Algorithm {                  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct Heuristic {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace_bytes;
  Status status;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Heuristic) == 96);

struct Functions {
  size_t (*version)();
  const char* (*status_string)(Status);
  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  Status (*description_create)(Description*, int compute_type, int scale_type);
  Status (*description_set)(Description, int attribute, const void* value, size_t bytes);
  Status (*description_destroy)(Description);
  Status (*layout_create)(Layout*, int type, uint64_t rows, uint64_t columns, int64_t column_stride);
  Status (*layout_destroy)(Layout);
  Status (*preference_create)(Preference*);
  Status (*preference_set)(Preference, int attribute, const void* value, size_t bytes);
  Status (*preference_destroy)(Preference);
  Status (*heuristics)(Handle, Description, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Heuristic*,
                       int* found);
  Status (*matmul)(Handle, Description, const void* alpha, const void* a, Layout, const void* b, Layout,
                   const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace,
                   size_t workspace_bytes, cudaStream_t);
};

// The name of the first function that the library lacks, or null.
const char* find_functions(void* library, Functions& functions) {
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr && missing == nullptr) missing = name;
  };
  find(functions.version, "cublasLtGetVersion");
  find(functions.status_string, "cublasLtGetStatusString");
  find(functions.create, "cublasLtCreate");
  find(functions.destroy, "cublasLtDestroy");
  find(functions.description_create, "cublasLtMatmulDescCreate");
  find(functions.description_set, "cublasLtMatmulDescSetAttribute");
  find(functions.description_destroy, "cublasLtMatmulDescDestroy");
  find(functions.layout_create, "cublasLtMatrixLayoutCreate");
  find(functions.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(functions.preference_create, "cublasLtMatmulPreferenceCreate");
  find(functions.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(functions.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(functions.heuristics, "cublasLtMatmulAlgoGetHeuristic");
  find(functions.matmul, "cublasLtMatmul");
  return missing;
}

// An object of the library, given back at the end.
class Owned {
 public:
  explicit Owned(Status (*destroy)(void*)) : destroy_(destroy) {}
  ~Owned() {
    if (object_ != nullptr) destroy_(object_);
  }
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)), destroy_(other.destroy_) {}
  Owned& operator=(Owned&&) = delete;

  void** to_fill() { return &object_; }
  operator void*() const { return object_; }

 private:
  void* object_ = nullptr;
  Status (*destroy_)(void*);
};

constexpr size_t kWorkspaceBytes = 32 << 20;  // what the library's makers advise for compute capability 9.0
constexpr uintptr_t kAlignment = 256;         // of all pointers: what the library assumes unless it is told otherwise
constexpr size_t kLeastVersion = 120000;      // 12.0
constexpr std::array kLibraries = {"libcublasLt.so.13", "libcublasLt.so.12"};

[[noreturn]] void refuse(const std::string& reason) { throw Error("DEVICE_UNAVAILABLE", "cuBLASLt: " + reason); }

[[maybe_unused]] bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0; }

}  // namespace

struct CublasLt::Opened {
  // How one shape is computed.
  struct Product {
    Owned description, w, x, out;
    Algorithm algorithm;
  };

  std::string name;
  Functions functions;
  Owned handle;
  DeviceArray<std::byte> workspace;
  std::map<std::tuple<int32_t, int32_t, int32_t>, Product> products;  // by rows, outputs, inputs

  void check(Status status, const char* what) const {
    REQUIRE(status == 0, "INTERNAL", name + ": " + what + ": " + functions.status_string(status));
  }
  const Product& product(const OperandView& x, const MatrixView& w);
};

// Our rows are the library's columns: x is its [inputs, rows], w its [inputs, outputs], and the product out^T = w x^T
// its [outputs, rows] = (first, transposed) (second).
const CublasLt::Opened::Product& CublasLt::Opened::product(const OperandView& x, const MatrixView& w) {
  const auto shape = std::tuple(x.rows, w.outputs, w.inputs);
  if (const auto known = products.find(shape); known != products.end()) return known->second;

  const Functions& f = functions;
  constexpr int64_t kBytes = element_bytes(WeightType::bf16);
  Product made = {
      Owned(f.description_destroy), Owned(f.layout_destroy), Owned(f.layout_destroy), Owned(f.layout_destroy), {}};
  check(f.description_create(made.description.to_fill(), kComputeF32, kF32), "cublasLtMatmulDescCreate");
  check(f.description_set(made.description, kTransposeFirst, &kTranspose, sizeof kTranspose),
        "cublasLtMatmulDescSetAttribute");
  check(f.layout_create(made.w.to_fill(), kBf16, uint64_t(w.inputs), uint64_t(w.outputs), w.pitch / kBytes),
        "cublasLtMatrixLayoutCreate");
  check(f.layout_create(made.x.to_fill(), kBf16, uint64_t(w.inputs), uint64_t(x.rows), x.pitch / kBytes),
        "cublasLtMatrixLayoutCreate");
  check(f.layout_create(made.out.to_fill(), kF32, uint64_t(w.outputs), uint64_t(x.rows), w.outputs),
        "cublasLtMatrixLayoutCreate");

  Owned preference(f.preference_destroy);
  check(f.preference_create(preference.to_fill()), "cublasLtMatmulPreferenceCreate");
  check(f.preference_set(preference, kMostWorkspace, &kWorkspaceBytes, sizeof kWorkspaceBytes),
        "cublasLtMatmulPreferenceSetAttribute");
  Heuristic best = {};
  int found = 0;
  check(f.heuristics(handle, made.description, made.w, made.x, made.out, made.out, preference, 1, &best, &found),
        "cublasLtMatmulAlgoGetHeuristic");
  REQUIRE(found == 1, "INTERNAL", name + ": no algorithm for this shape");
  made.algorithm = best.algorithm;
  return products.emplace(shape, std::move(made)).first->second;
}

CublasLt::CublasLt(std::unique_ptr<Opened> opened) : opened_(std::move(opened)) {}
CublasLt::~CublasLt() = default;

std::unique_ptr<CublasLt> CublasLt::open(const std::string& path) {
  const std::vector<std::string> paths =
      path == "auto" ? std::vector<std::string>(kLibraries.begin(), kLibraries.end()) : std::vector{path};
  void* library = nullptr;
  std::string found, reason;
  for (size_t i = 0; i < paths.size() && library == nullptr; i++) {
    found = paths[i];
    library = dlopen(found.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) reason += (i == 0 ? "" : "; ") + std::string(dlerror());
  }
  if (library == nullptr) refuse(reason);

  Functions functions = {};
  if (const char* missing = find_functions(library, functions)) {
    dlclose(library);
    refuse(found + ": expected a function " + missing);
  }
  const size_t version = functions.version();
  if (version < kLeastVersion) {
    dlclose(library);
    refuse(found + ": expected version " + std::to_string(kLeastVersion) + " or later, got " + std::to_string(version));
  }
  // From here on the library stays: unloading it is not among the things it can stand.
  const std::string numbers =
      std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
  Owned handle(functions.destroy);
  if (const Status status = functions.create(handle.to_fill()); status != 0) {
    refuse(found + ": cublasLtCreate: " + functions.status_string(status));
  }
  DeviceArray<std::byte> workspace(kWorkspaceBytes, "cuBLASLt's workspace");
  return std::unique_ptr<CublasLt>(new CublasLt(std::unique_ptr<Opened>(
      new Opened{found + " " + numbers, functions, std::move(handle), std::move(workspace), {}})));
}

const std::string& CublasLt::name() const { return opened_->name; }

void CublasLt::matmul(float* out, const OperandView& x, const MatrixView& w, cudaStream_t stream) {
  multiply(out, 0, x, w, stream);
}

void CublasLt::matmul_add(float* out, const OperandView& x, const MatrixView& w, cudaStream_t stream) {
  multiply(out, 1, x, w, stream);
}

// out = keep out + x w^T; where keep is 0, what out held is not read.
void CublasLt::multiply(float* out, float keep, const OperandView& x, const MatrixView& w, cudaStream_t stream) {
  assert(x.type == WeightType::bf16 && w.type == WeightType::bf16 && x.width == w.inputs);
  assert(aligned(out) && aligned(x.values) && aligned(w.values));
  if (x.rows == 0) return;
  const Opened& opened = *opened_;
  const Opened::Product& product = opened_->product(x, w);
  constexpr float kOne = 1;
  opened.check(opened.functions.matmul(opened.handle, product.description, &kOne, w.values, product.w, x.values,
                                       product.x, &keep, out, product.out, out, product.out, &product.algorithm,
                                       opened.workspace.data(), opened.workspace.bytes(), stream),
               "cublasLtMatmul");
}

}  // namespace baton::cuda
