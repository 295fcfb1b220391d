#include "emulator/tile_map.h"

#include <cstring>

#include "emulator/include/cuda.h"

namespace baton::emulator {

namespace {

constexpr uint64_t kMark = 0x70616d20656c6974;

uint32_t element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
  }
  return 0;
}

}  // namespace

TileMap decode(const CUtensorMap* map, const Where& where) {
  if (uintptr_t(map) % alignof(CUtensorMap) != 0) fault("the tile map is not at a multiple of 64 bytes", where);
  TileMap decoded;
  std::memcpy(&decoded, map, sizeof decoded);
  if (decoded.mark != kMark) fault("this is no map made by cuTensorMapEncodeTiled", where);
  return decoded;
}

}  // namespace baton::emulator

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* dimensions, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  using baton::emulator::TileMap;
  constexpr uint64_t kMostElements = uint64_t(1) << 32, kMostPitch = uint64_t(1) << 40;
  const uint32_t bytes = baton::emulator::element_bytes(type);
  if (rank != 2 || bytes == 0 || swizzle != CU_TENSOR_MAP_SWIZZLE_128B) return CUDA_ERROR_INVALID_VALUE;
  if (uintptr_t(map) % alignof(CUtensorMap) != 0 || address == nullptr || uintptr_t(address) % 16 != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (strides[0] % 16 != 0 || strides[0] >= kMostPitch || strides[0] < dimensions[0] * bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (int i = 0; i < 2; i++) {
    if (dimensions[i] == 0 || dimensions[i] > kMostElements || box[i] == 0 || box[i] > 256)
      return CUDA_ERROR_INVALID_VALUE;
    if (element_strides[i] != 1) return CUDA_ERROR_INVALID_VALUE;
  }
  if (box[0] * bytes != TileMap::kBoxRowBytes) return CUDA_ERROR_INVALID_VALUE;
  const TileMap made = {baton::emulator::kMark,
                        static_cast<const unsigned char*>(address),
                        dimensions[1],
                        dimensions[0] * bytes,
                        strides[0],
                        bytes,
                        box[1]};
  static_assert(sizeof made <= sizeof *map);
  *map = {};
  std::memcpy(map, &made, sizeof made);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  if (found != nullptr) *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
