#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "cuda/kernels.h"

namespace baton::cuda {

// cuBLASLt's matrix product, of the library found at run time: none of its headers is needed, and nothing here needs
// the library. The bar that our products are judged against, and an option for large ones; it does not obey the law of
// numerics, for the library chooses a kernel by the number of rows. Of one device and, for its workspace, one stream at
// a time; not for several threads.
class CublasLt {
 public:
  struct Search {
    std::unique_ptr<CublasLt> library;
    std::string reason;  // why there is none; empty where there is one
  };
  // Opens the library at `path`; if that is empty, the newest of those known that the loader finds. For the current
  // device. OUT_OF_MEMORY for its workspace; whatever else is wrong with the library is a reason.
  static Search open(const std::string& path);

  ~CublasLt();

  std::string name() const;  // "libcublasLt.so.13 13.0.1"

  // out[r, o] = sum_i x[r, i] w[o, i], bf16 to floats; out [x.rows, w.outputs]. All at multiples of 256 bytes. May
  // allocate when it meets a shape for the first time, on the host only: after that it can be recorded in a graph.
  void matmul(float* out, const OperandView& x, const MatrixView& w, cudaStream_t stream);

 private:
  struct Opened;
  explicit CublasLt(std::unique_ptr<Opened> opened);
  std::unique_ptr<Opened> opened_;
};

}  // namespace baton::cuda
