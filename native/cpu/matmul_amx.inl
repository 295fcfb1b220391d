// Matrix products on AMX: blocks of 16 rows against pairs of weight tiles, two blocks at a time. Sums of bf16 run over k
// in tile order, so a row's bits do not depend on how many rows are with it. f32 weights use AVX-512.

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0, 1: sums of the first block; 2, 3: of the second; 4, 5: the blocks; 6, 7: the weights.
LANE_OP void configure_tiles(int first_rows, int second_rows) {
  TileShapes shapes;
  for (int i = 0; i < 8; i++) {
    shapes.row_bytes[i] = 64;
    shapes.rows[i] = uint8_t(i == 6 || i == 7 ? 16 : i == 2 || i == 3 || i == 5 ? second_rows : first_rows);
  }
  asm volatile("" ::"r"(&shapes) : "memory");  // g++ 12 does not know that the instruction reads memory
  _tile_loadconfig(&shapes);
}

// Sums of one or two blocks (kBlocks) against the panel; sums: [32, 32] floats or int32. kFirst: the panel is not in the
// cache yet, so its weights are asked for ahead of their use.
template <WeightType kType, int kBlocks, bool kFirst>
static inline void multiply_tiles(const MatmulTask& task, const std::byte* first, int64_t first_step,
                                  const std::byte* second, int64_t second_step, void* sums) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kBlocks == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const std::byte* w = task.w;
  asm volatile("" ::: "memory");  // as above: what _tile_loadd reads must be written by now
  for (int t = 0; t < task.tiles; t++, w += 2 * kTileBytes, first += first_step, second += second_step) {
    if constexpr (kFirst) {
      for (int line = 0; line < 2 * kTileBytes; line += 64) _mm_prefetch(w + kTilePrefetchBytes + line, _MM_HINT_T0);
    }
    _tile_loadd(4, first, 64);
    _tile_loadd(6, w, 64);
    if constexpr (kType == WeightType::bf16) {
      _tile_dpbf16ps(0, 4, 6);
    } else {
      _tile_dpbssd(0, 4, 6);
    }
    _tile_loadd(7, w + kTileBytes, 64);
    if constexpr (kType == WeightType::bf16) {
      _tile_dpbf16ps(1, 4, 7);
    } else {
      _tile_dpbssd(1, 4, 7);
    }
    if constexpr (kBlocks == 2) {
      _tile_loadd(5, second, 64);
      if constexpr (kType == WeightType::bf16) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      } else {
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    }
  }
  std::byte* to = static_cast<std::byte*>(sums);
  _tile_stored(0, to, 128);
  _tile_stored(1, to + 64, 128);
  if constexpr (kBlocks == 2) {
    _tile_stored(2, to + 16 * 128, 128);
    _tile_stored(3, to + 16 * 128 + 64, 128);
  }
  asm volatile("" ::: "memory");
}

template <WeightType kType>
static void finish_rows(const MatmulTask& task, const void* sums, int begin, int rows) {
  for (int m = 0; m < rows; m++) {
    for (int half = 0; half < 2; half++) {
      const int o = half * 16;
      F16 values;
      if constexpr (kType == WeightType::bf16) {
        values = load(static_cast<const float*>(sums) + m * 32 + o);
      } else {
        const F16 exact = load_int32(static_cast<const int32_t*>(sums) + m * 32 + o);
        values = mul(exact, mul(set1(task.x_scales[begin + m]), load(task.w_scales + o)));
      }
      float* out = task.out + (begin + m) * task.out_stride + o;
      finish(values, out, task.columns - o, task.bias ? task.bias + o : nullptr, task.add);
    }
  }
}

template <WeightType kType>
static void tile_product(const MatmulTask& task) {
  // A tile product takes as long for one row as for sixteen; sums of int8 are exact, so few rows may go another way.
  if (kType == WeightType::int8 && task.rows <= kFewRows) return product<WeightType::int8>(task);
  alignas(64) int32_t sums[32 * 32];  // or floats
  const int64_t block_bytes = int64_t(kTileBytes) * task.tiles;
  for (int begin = 0; begin < task.rows; begin += 2 * kBlock) {
    const std::byte* first = task.x + begin / kBlock * block_bytes;
    const std::byte* second = first + block_bytes;
    const int rows = std::min(2 * kBlock, task.rows - begin);
    const int first_rows = std::min(kBlock, rows);
    const int second_rows = rows - first_rows;
    if (begin == 0 || rows < 2 * kBlock) configure_tiles(first_rows, std::max(1, second_rows));
    if (begin > 0 && second_rows > 0) {
      multiply_tiles<kType, 2, false>(task, first, first_rows * 64, second, second_rows * 64, sums);
    } else if (begin > 0) {
      multiply_tiles<kType, 1, false>(task, first, first_rows * 64, second, 0, sums);
    } else if (second_rows > 0) {
      multiply_tiles<kType, 2, true>(task, first, first_rows * 64, second, second_rows * 64, sums);
    } else {
      multiply_tiles<kType, 1, true>(task, first, first_rows * 64, second, 0, sums);
    }
    finish_rows<kType>(task, sums, begin, rows);
  }
  _tile_release();  // a live tile state makes every switch of threads save 8 KiB
}

static void pack_bf16(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float*) {
  uint16_t* to = reinterpret_cast<uint16_t*>(block) + row * 32;
  const int padded = (width + 31) / 32 * 32;
  for (int k = 0; k < padded; k += 16) {
    store_bf16(to + int64_t(k / 32) * rows * 32 + k % 32, load_first(x + k, std::clamp(width - k, 0, 16), zero()));
  }
}

static MatmulKernels amx_matmul_kernels() {
  return {
      {Activation::f32, pack_floats<WeightType::f32>, product<WeightType::f32>},
      {Activation::bf16, pack_bf16, tile_product<WeightType::bf16>},
      {Activation::int8, pack_int8, tile_product<WeightType::int8>},
  };
}
