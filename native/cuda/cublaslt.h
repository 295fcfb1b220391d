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
  // Opens the library at `path`; for "auto" the newest of those known that the loader finds. For the current device.
  // Throws DEVICE_UNAVAILABLE with what is wrong with the library, and OUT_OF_MEMORY for its workspace.
  static std::unique_ptr<CublasLt> open(const std::string& path);

  ~CublasLt();

  const std::string& name() const;  // "libcublasLt.so.13 13.0.1"

  // With a[r, o] = sum_i x[r, i] w[o, i], of bf16:
  //   matmul       out[r, o] = a[r, o]         out [x.rows, w.outputs] floats
  //   matmul_add   out[r, o] += a[r, o]
  // All at multiples of 256 bytes. Either may allocate when it meets a shape for the first time, on the host only:
  // after that it can be recorded in a graph.
  void matmul(float* out, const OperandView& x, const MatrixView& w, cudaStream_t stream);
  void matmul_add(float* out, const OperandView& x, const MatrixView& w, cudaStream_t stream);

 private:
  struct Opened;
  explicit CublasLt(std::unique_ptr<Opened> opened);
  void multiply(float* out, float keep, const OperandView& x, const MatrixView& w, cudaStream_t stream);
  std::unique_ptr<Opened> opened_;
};

}  // namespace baton::cuda
