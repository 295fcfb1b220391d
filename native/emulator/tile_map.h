#pragma once

#include <cstdint>

#include "emulator/fault.h"

struct CUtensorMap;

namespace baton::emulator {

// What a CUtensorMap says.
struct TileMap {
  uint64_t mark;
  const unsigned char* values;
  uint64_t rows;
  uint64_t row_bytes;
  uint64_t pitch;
  uint32_t element_bytes;
  uint32_t box_rows;

  static constexpr uint32_t kBoxRowBytes = 128;
};

// A fault for what cuTensorMapEncodeTiled did not make.
TileMap decode(const CUtensorMap* map, const Where& where);

}  // namespace baton::emulator
