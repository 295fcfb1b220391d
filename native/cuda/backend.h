#pragma once

#include <memory>
#include <string>

#include "core/backend.h"

namespace baton::cuda {

// Products of so many tokens or more may be a library's. With fewer, reading the weights takes longer than computing:
// 2 operations per token and weight of 2 bytes, and an H100 computes some 240 (800 TFLOP/s bf16) in the time in which
// it reads a byte (3.35 TB/s). There our own are to reach the memory's bandwidth, and libraries are known to reach half
// of it. Arithmetic, not a measurement: `ops bench` measures both at every size.
constexpr int32_t kLibraryTokens = 256;

struct CudaOptions {
  int32_t device = 0;
  bool graphs = true;           // replay recorded decode steps
  bool check_launches = false;  // wait after every launch, so that an error names its operation
  // cuBLASLt for products of bf16 in steps that are not recorded: the library's path, or "auto": what the loader finds;
  // empty: none. With it the law of numerics does not hold between steps of fewer and of more tokens than these.
  std::string cublaslt = "";
  int32_t cublaslt_tokens = kLibraryTokens;
};

// The forward pass on a GPU (or, built against the emulator, on its processor): DEVICE_UNAVAILABLE, OUT_OF_MEMORY.
std::unique_ptr<Backend> make_backend(const BackendOptions& options, const CudaOptions& cuda);

// Of a backend made with CudaOptions::cublaslt: what the library calls itself, and how many tokens it takes from now on
// (for benches, which compare).
const std::string& cublaslt_name(const Backend& backend);
void set_cublaslt_tokens(Backend& backend, int32_t tokens);

}  // namespace baton::cuda
