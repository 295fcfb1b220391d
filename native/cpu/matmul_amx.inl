// Matrix products on AMX: two blocks of 16 rows (a pair) against pairs of weight tiles. Sums of bf16 run over k in tile
// order, also where k is cut and they go on later, so a row's bits do not depend on how many rows are with it. f32
// weights use AVX-512.

// Tiles 0, 1: sums of the first block; 2, 3: of the second; 4, 5: the blocks; 6, 7: the weights.
LANE_OP void configure_product_tiles(int first_rows, int second_rows) {
  const int f = first_rows, s = second_rows;
  configure_tiles({f, f, s, s, f, s, 16, 16});
}

// Rows of two blocks, and bytes of their sums with one panel: 32 floats or int32 each.
constexpr int kPair = 2 * kBlock;
constexpr int kSumRowBytes = kPanel * 4;
constexpr int kPairSumBytes = kPair * kSumRowBytes;

// Of a pair of blocks and a panel's outputs, ready to be scaled and stored.
struct Finished {
  const std::byte* sums;
  float* out;
  std::byte* packed[2];  // instead, by block
  const float* x_scales;
  const float* w_scales;
  const float* bias;
  int rows;
};

enum class Finish { store, bias, add, gate, pack_gated };

template <WeightType kType, Finish kHow>
LANE_OP void finish_row(const Finished& all, int64_t out_stride, int row) {
  const std::byte* sums = all.sums + row * kSumRowBytes;
  float* out = all.out + row * out_stride;
  const F16 scale = kType == WeightType::int8 ? set1(all.x_scales[row]) : zero();
  F16 values[2];
  for (int half = 0; half < 2; half++) {
    if constexpr (kType == WeightType::int8) {
      const F16 exact = load_int32(reinterpret_cast<const int32_t*>(sums) + half * 16);
      values[half] = mul(exact, mul(scale, load(all.w_scales + half * 16)));
    } else {
      values[half] = load(reinterpret_cast<const float*>(sums) + half * 16);
    }
    if (kHow == Finish::bias) values[half] = add(values[half], load(all.bias + half * 16));
    if (kHow == Finish::add) values[half] = add(load(out + half * 16), values[half]);
    if (kHow < Finish::gate) store(out + half * 16, values[half]);
  }
  if (kHow == Finish::gate) store(out, gate(values[0], values[1]));
  if (kHow == Finish::pack_gated) {
    std::byte* to = all.packed[row / kBlock] + row % kBlock * 64;
    store_bf16(reinterpret_cast<uint16_t*>(to), gate(values[0], values[1]));
  }
}

// A matrix's last panel, where it is not whole: once more through whole rows.
template <WeightType kType, bool kGated>
static void finish_part(const MatmulTask& task, const Finished& all, int columns) {
  alignas(64) float whole[kPair * kPanel];
  Finished aside = all;
  aside.out = whole;
  for (int m = 0; m < all.rows; m++) {
    finish_row<kType, kGated ? Finish::gate : Finish::store>(aside, kPanel, m);
    for (int o = 0; o < columns; o += 16) {
      float* out = all.out + m * task.out_stride + o;
      finish(load(whole + m * kPanel + o), out, columns - o, all.bias ? all.bias + o : nullptr, task.add);
    }
  }
}

// One or two blocks (kBlocks) against some tiles of a panel.
struct TileProduct {
  const std::byte* first;
  const std::byte* second;
  int64_t first_step, second_step;  // bytes of a tile
  const std::byte* w;
  int tiles;
  bool begun;       // go on from what is in sums
  std::byte* sums;  // [kPair, kPanel]
  // Weights to ask for meanwhile, into the second-level cache: at each tile so many lines.
  const std::byte* ahead;
  int ahead_lines;
};

// Finishes others' sums on the side, some rows after each tile, while the tile unit is at work.
template <WeightType kType, Finish kHow, int kBlocks>
static void multiply_tiles(const TileProduct& product, const Finished& others, int64_t out_stride) {
  std::byte* const sums = product.sums;
  std::byte* const second_sums = sums + kBlock * kSumRowBytes;
  asm volatile("" ::: "memory");  // g++ 12 does not know that _tile_loadd reads memory
  if (product.begun) {
    _tile_loadd(0, sums, kSumRowBytes);
    _tile_loadd(1, sums + 64, kSumRowBytes);
    if constexpr (kBlocks == 2) {
      _tile_loadd(2, second_sums, kSumRowBytes);
      _tile_loadd(3, second_sums + 64, kSumRowBytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kBlocks == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  const std::byte *first = product.first, *second = product.second, *w = product.w, *ahead = product.ahead;
  const int each = (others.rows + product.tiles - 1) / product.tiles;
  int finished = 0;
  for (int t = 0; t < product.tiles; t++, w += 2 * kTileBytes) {
    for (int line = 0; line < product.ahead_lines; line++, ahead += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
    }
    // Rows pass by the first-level cache, which is the weights': a step takes 80 cycles instead of 100 (18 tiles of k,
    // 512 rows, AMX Xeon, 2026-11).
    _tile_stream_loadd(4, first, 64);
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
      _tile_stream_loadd(5, second, 64);
      if constexpr (kType == WeightType::bf16) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      } else {
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    }
    first += product.first_step;
    second += product.second_step;
    for (const int end = std::min(others.rows, finished + each); finished < end; finished++) {
      finish_row<kType, kHow>(others, out_stride, finished);
    }
  }
  _tile_stored(0, sums, kSumRowBytes);
  _tile_stored(1, sums + 64, kSumRowBytes);
  if constexpr (kBlocks == 2) {
    _tile_stored(2, second_sums, kSumRowBytes);
    _tile_stored(3, second_sums + 64, kSumRowBytes);
  }
  asm volatile("" ::: "memory");
}

// Weights of so many tiles stay in the first-level cache while all rows go by.
constexpr int kStretchTiles = 20;
// Where rows are few and weights come from memory they are asked for so far ahead. Two threads read 28 GB/s so instead
// of 22 in a loop of nothing else, at any distance from 2 to 32 KiB, and less into the first level; steps of 16 to 48
// tokens took 0.91 to 0.98 of the time (135M and 0.5B models, 2-core Xeon, 2026-11).
constexpr int kAheadBytes = 4096;

template <WeightType kType, bool kGated, Finish kHow>
static void multiply_panels(const MatmulTask& task) {
  constexpr int kColumns = kGated ? kTileOutputs : kPanel;
  const int pairs = (task.rows + kPair - 1) / kPair;
  const int stretches = pairs == 1 ? 1 : (task.tiles + kStretchTiles - 1) / kStretchTiles;
  const int stretch = (task.tiles + stretches - 1) / stretches;
  const int64_t panel_bytes = int64_t(task.tiles) * 2 * kTileBytes;
  const int64_t block_bytes = int64_t(task.tiles) * kTileBytes;
  assert(stretches == 1 || int64_t(task.panels) * pairs * kPairSumBytes <= kSumsBytes);
  const int64_t packed_bytes = int64_t(task.packed_tiles) * kTileBytes;  // of a block
  // Where k is not cut, two places for sums: while one is filled, the other is finished.
  alignas(64) std::byte two[2 * kPairSumBytes];
  int turn = 0, configured = 0;
  Finished last = {};
  for (int begin = 0; begin < task.tiles; begin += stretch) {
    const int tiles = std::min(stretch, task.tiles - begin);
    const bool whole = begin + tiles == task.tiles;
    for (int panel = 0; panel < task.panels; panel++) {
      const std::byte* w = task.w + panel * panel_bytes + int64_t(begin) * 2 * kTileBytes;
      const std::byte* next = panel + 1 < task.panels ? w + panel_bytes
                              : whole                 ? task.w + task.panels * panel_bytes
                                                      : task.w + int64_t(begin + tiles) * 2 * kTileBytes;
      const int ahead_lines = (2 * kTileBytes / 64 + pairs - 1) / pairs;
      const int columns = std::min(kColumns, task.columns - panel * kColumns);
      for (int pair = 0; pair < pairs; pair++) {
        const int row = pair * kPair;
        const int rows = std::min(kPair, task.rows - row);
        const int first_rows = std::min(kBlock, rows), second_rows = rows - first_rows;
        if (rows != configured) configure_product_tiles(first_rows, std::max(1, second_rows));
        configured = rows;
        const std::byte* x = task.x + row / kBlock * block_bytes;
        std::byte* sums =
            stretches == 1 ? two + turn * kPairSumBytes : task.sums + (panel * pairs + pair) * int64_t(kPairSumBytes);
        turn ^= 1;
        const TileProduct product = {
            .first = x + int64_t(begin) * first_rows * 64,
            .second = x + block_bytes + int64_t(begin) * second_rows * 64,
            .first_step = first_rows * 64,
            .second_step = second_rows * 64,
            .w = w,
            .tiles = tiles,
            .begun = begin > 0,
            .sums = sums,
            .ahead = pairs == 1 ? w + kAheadBytes : next + int64_t(pair) * ahead_lines * 64 * tiles,
            .ahead_lines = ahead_lines,
        };
        (second_rows == 0 ? multiply_tiles<kType, kHow, 1> : multiply_tiles<kType, kHow, 2>)(product, last,
                                                                                             task.out_stride);
        last.rows = 0;
        if (!whole) continue;
        last = {
            .sums = sums,
            .out = nullptr,
            .packed = {},
            .x_scales = task.x_scales + (kType == WeightType::int8 ? row : 0),
            .w_scales = task.w_scales + (kType == WeightType::int8 ? panel * kPanel : 0),
            .bias = task.bias ? task.bias + panel * kColumns : nullptr,
            .rows = rows,
        };
        if constexpr (kHow == Finish::pack_gated) {
          const int column = task.packed_column + panel * kColumns;
          const int64_t tile = column / 32;
          std::byte* packed = task.packed + row / kBlock * packed_bytes + column % 32 * 2;
          last.packed[0] = packed + first_rows * tile * 64;
          last.packed[1] = packed + packed_bytes + second_rows * tile * 64;
        } else {
          last.out = task.out + row * task.out_stride + panel * kColumns;
          if (columns < kColumns) {
            finish_part<kType, kGated>(task, last, columns);
            last.rows = 0;
          }
        }
      }
    }
  }
  for (int m = 0; m < last.rows; m++) finish_row<kType, kHow>(last, task.out_stride, m);
  _tile_release();  // a live tile state makes every switch of threads save 8 KiB
}

template <WeightType kType, bool kGated>
static void tile_product(const MatmulTask& task) {
  // A tile product takes as long for one row as for sixteen; sums of int8 are exact, so few rows may go another way.
  if (kType == WeightType::int8 && task.rows <= kFewRows) {
    return kGated ? gated_panels<WeightType::int8>(task) : product_panels<WeightType::int8>(task);
  }
  if (kGated) {
    if constexpr (kType == WeightType::bf16) {
      if (task.packed != nullptr) return multiply_panels<kType, true, Finish::pack_gated>(task);
    }
    return multiply_panels<kType, true, Finish::gate>(task);
  }
  if (task.bias != nullptr) return multiply_panels<kType, false, Finish::bias>(task);
  if (task.add) return multiply_panels<kType, false, Finish::add>(task);
  multiply_panels<kType, false, Finish::store>(task);
}

static void pack_bf16(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float*) {
  uint16_t* to = reinterpret_cast<uint16_t*>(block) + row * 32;
  const int padded = (width + 31) / 32 * 32;
  int k = 0;
  for (; k + 32 <= width; k += 32) {
    store_bf16(to + int64_t(k) * rows, load(x + k));
    store_bf16(to + int64_t(k) * rows + 16, load(x + k + 16));
  }
  for (; k < padded; k += 16) {
    store_bf16(to + int64_t(k / 32) * rows * 32 + k % 32, load_first(x + k, std::clamp(width - k, 0, 16), zero()));
  }
}

static MatmulKernels amx_matmul_kernels() {
  return {
      {Activation::f32, pack_floats<WeightType::f32>, product_panels<WeightType::f32>, gated_panels<WeightType::f32>},
      {Activation::bf16, pack_bf16, tile_product<WeightType::bf16, false>, tile_product<WeightType::bf16, true>, true,
       true},
      {Activation::int8, pack_int8, tile_product<WeightType::int8, false>, tile_product<WeightType::int8, true>, true},
  };
}
