#include "cuda/tensor_map.h"

#include <cuda_runtime.h>

#include "cuda/check.h"

namespace baton::cuda {

CUtensorMap tensor_map(const void* values, int64_t rows, int64_t pitch, int box_rows) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = {};
    CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
    CUDA_CHECK(found == cudaDriverEntryPointSuccess ? cudaSuccess : cudaErrorNotSupported);
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  constexpr cuuint32_t kBoxBytes = 128;  // of a row
  // Bytes, whatever the values are: the copy engine only moves them.
  const cuuint64_t size[] = {cuuint64_t(pitch), cuuint64_t(rows)};
  const cuuint64_t strides[] = {cuuint64_t(pitch)};
  const cuuint32_t box[] = {kBoxBytes, cuuint32_t(box_rows)};
  const cuuint32_t element_strides[] = {1, 1};
  CUtensorMap map;
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(values), size, strides, box,
                                 element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(cudaError_t(status), "cuTensorMapEncodeTiled");  // the driver's codes are among the runtime's
  return map;
}

}  // namespace baton::cuda
