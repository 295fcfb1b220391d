// AMX's tile registers.

struct TileRows {
  int rows[8];
};

// Eight tiles of so many rows of 64 bytes each.
LANE_OP void configure_tiles(TileRows tiles) {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } shapes;
  for (int i = 0; i < 8; i++) {
    shapes.row_bytes[i] = 64;
    shapes.rows[i] = uint8_t(tiles.rows[i]);
  }
  asm volatile("" ::"r"(&shapes) : "memory");  // g++ 12 does not know that the instruction reads memory
  _tile_loadconfig(&shapes);
}
