// Products of tiles that are in registers, into four sums as in tile_product.

template <WeightType kType>
static int64_t peak_tiles(int64_t rounds) {
  alignas(64) std::byte tile[kTileBytes];
  memset(tile, 0x3c, sizeof tile);
  configure_tiles({16, 16, 16, 16, 16, 16, 16, 16});
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, tile, 64);
  _tile_loadd(5, tile, 64);
  _tile_loadd(6, tile, 64);
  _tile_loadd(7, tile, 64);
  for (int64_t i = 0; i < rounds; i++) {
    if constexpr (kType == WeightType::bf16) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    } else {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  }
  _tile_release();
  return rounds * 4 * kTileOutputs * kBlock * k_per_tile(kType) * 2;
}

static PeakKernels amx_peak_kernels() {
  return {peak_floats, peak_tiles<WeightType::bf16>, peak_tiles<WeightType::int8>};
}
