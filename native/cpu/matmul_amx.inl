// Matrix products on AMX: blocks of 16 rows against pairs of weight tiles, two blocks at a time. Sums of bf16 run over
// k in tile order, so a row's bits do not depend on how many rows are with it. f32 weights use AVX-512.

// Tiles 0, 1: sums of the first block; 2, 3: of the second; 4, 5: the blocks; 6, 7: the weights.
LANE_OP void configure_product_tiles(int first_rows, int second_rows) {
  const int f = first_rows, s = second_rows;
  configure_tiles({f, f, s, s, f, s, 16, 16});
}

// Weights are asked for so far ahead, into the second-level cache, by the first rows that meet them. Two threads read
// 28 GB/s so instead of 22 in a loop of nothing else, at any distance from 2 to 32 KiB, and less into the first level;
// steps of 16 to 48 tokens took 0.91 to 0.98 of the time (135M and 0.5B models, 2-core Xeon, 2026-11).
constexpr int kAheadBytes = 4096;

// Sums of one or two blocks (kBlocks) against the panel; sums: [32, 32] floats or int32.
template <WeightType kType, int kBlocks, bool kFirst>
static inline void multiply_tiles(const MatmulTask& task, const std::byte* first, int64_t first_step,
                                  const std::byte* second, int64_t second_step, std::byte* sums) {
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
      for (int line = 0; line < 2 * kTileBytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(w + kAheadBytes + line), _MM_HINT_T1);
      }
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
  _tile_stored(0, sums, 128);
  _tile_stored(1, sums + 64, 128);
  if constexpr (kBlocks == 2) {
    _tile_stored(2, sums + 16 * 128, 128);
    _tile_stored(3, sums + 16 * 128 + 64, 128);
  }
  asm volatile("" ::: "memory");
}

enum class Finish { store, bias, add, gate };

// Scaled, then stored in one of these ways: what becomes of `rows` rows of sums from row `begin` of the task on.
template <WeightType kType, Finish kHow>
static inline void finish_whole(const MatmulTask& task, const std::byte* sums, int begin, int rows) {
  F16 scales[2], bias[2];
  for (int half = 0; half < 2; half++) {
    if (kType == WeightType::int8) scales[half] = load(task.w_scales + half * 16);
    if (kHow == Finish::bias) bias[half] = load(task.bias + half * 16);
  }
  float* out = task.out + begin * task.out_stride;
  for (int m = 0; m < rows; m++, out += task.out_stride, sums += 128) {
    const F16 scale = kType == WeightType::int8 ? set1(task.x_scales[begin + m]) : zero();
    F16 values[2];
    for (int half = 0; half < 2; half++) {
      if constexpr (kType == WeightType::int8) {
        values[half] = mul(load_int32(reinterpret_cast<const int32_t*>(sums) + half * 16), mul(scale, scales[half]));
      } else {
        values[half] = load(reinterpret_cast<const float*>(sums) + half * 16);
      }
      if (kHow == Finish::bias) values[half] = add(values[half], bias[half]);
      if (kHow == Finish::add) values[half] = add(load(out + half * 16), values[half]);
      if (kHow != Finish::gate) store(out + half * 16, values[half]);
    }
    if (kHow == Finish::gate) store(out, gate(values[0], values[1]));
  }
}

template <WeightType kType, bool kGated>
static void finish_rows(const MatmulTask& task, const std::byte* sums, int begin, int rows) {
  if (task.columns == (kGated ? kTileOutputs : kPanel)) {
    if (kGated) return finish_whole<kType, Finish::gate>(task, sums, begin, rows);
    if (task.bias != nullptr) return finish_whole<kType, Finish::bias>(task, sums, begin, rows);
    if (task.add) return finish_whole<kType, Finish::add>(task, sums, begin, rows);
    return finish_whole<kType, Finish::store>(task, sums, begin, rows);
  }
  // The last panel of a matrix, once more through whole rows.
  alignas(64) float whole[2 * kBlock * kPanel];
  MatmulTask aside = task;
  aside.out = whole;
  aside.out_stride = kPanel;
  if (task.x_scales != nullptr) aside.x_scales = task.x_scales + begin;
  finish_whole<kType, kGated ? Finish::gate : Finish::store>(aside, sums, 0, rows);
  for (int m = 0; m < rows; m++) {
    for (int o = 0; o < task.columns; o += 16) {
      float* out = task.out + (begin + m) * task.out_stride + o;
      finish(load(whole + m * kPanel + o), out, task.columns - o, task.bias ? task.bias + o : nullptr, task.add);
    }
  }
}

template <WeightType kType, bool kGated>
static void tile_product(const MatmulTask& task) {
  // A tile product takes as long for one row as for sixteen; sums of int8 are exact, so few rows may go another way.
  if (kType == WeightType::int8 && task.rows <= kFewRows) {
    return kGated ? gated<WeightType::int8>(task) : product<WeightType::int8>(task);
  }
  constexpr int kPair = 2 * kBlock;
  // Two places for sums: while the matrix unit fills one, the other is finished.
  alignas(64) std::byte sums[2][kPair * 128];  // rows of 32 floats or int32
  const int64_t block_bytes = int64_t(kTileBytes) * task.tiles;
  for (int begin = 0; begin < task.rows; begin += kPair) {
    const std::byte* first = task.x + begin / kBlock * block_bytes;
    const std::byte* second = first + block_bytes;
    std::byte* to = sums[begin / kPair % 2];
    const int rows = std::min(kPair, task.rows - begin);
    const int first_rows = std::min(kBlock, rows);
    const int second_rows = rows - first_rows;
    if (begin == 0 || rows < kPair) configure_product_tiles(first_rows, std::max(1, second_rows));
    const auto multiply = second_rows == 0
                              ? (begin == 0 ? multiply_tiles<kType, 1, true> : multiply_tiles<kType, 1, false>)
                              : (begin == 0 ? multiply_tiles<kType, 2, true> : multiply_tiles<kType, 2, false>);
    multiply(task, first, first_rows * 64, second, second_rows * 64, to);
    if (begin > 0) finish_rows<kType, kGated>(task, sums[begin / kPair % 2 ^ 1], begin - kPair, kPair);
  }
  const int last = (task.rows - 1) / kPair * kPair;
  finish_rows<kType, kGated>(task, sums[last / kPair % 2], last, task.rows - last);
  _tile_release();  // a live tile state makes every switch of threads save 8 KiB
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
      {Activation::f32, pack_floats<WeightType::f32>, product<WeightType::f32>, gated<WeightType::f32>},
      {Activation::bf16, pack_bf16, tile_product<WeightType::bf16, false>, tile_product<WeightType::bf16, true>},
      {Activation::int8, pack_int8, tile_product<WeightType::int8, false>, tile_product<WeightType::int8, true>},
  };
}
