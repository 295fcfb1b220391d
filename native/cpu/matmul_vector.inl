// Matrix products in sixteen lanes: weights as vectors of 16 outputs, activations broadcast. bf16 weights meet
// activations rounded to bf16 and kept as floats, so that the broadcast is part of the multiply-add; int8 is exact.

// Writes (or adds) the sums of one row and 16 outputs of which `columns` exist.
LANE_OP void finish(F16 sums, float* out, int columns, const float* bias, bool add_to_out) {
  if (columns >= 16) {
    if (bias != nullptr) sums = add(sums, load(bias));
    if (add_to_out) sums = add(load(out), sums);
    store(out, sums);
  } else if (columns > 0) {
    if (bias != nullptr) sums = add(sums, load_first(bias, columns, zero()));
    if (add_to_out) sums = add(load_first(out, columns, zero()), sums);
    store_first(out, columns, sums);
  }
}

LANE_OP F16 gate(F16 g, F16 u) { return mul(mul(g, reciprocal(add(set1(1), exp(sub(zero(), g))))), u); }

template <WeightType kType>
constexpr int kGroup = kType == WeightType::f32    ? 1
                       : kType == WeightType::bf16 ? 2
                                                   : 4;  // k values per tile row

// kRows rows of one block times kVectors * 16 outputs, beginning at vector `first` of the panel.
template <WeightType kType, int kRows>
static inline void multiply_floats(const MatmulTask& task, const std::byte* x, int block_rows, float* out, int first) {
  constexpr int kValues = k_per_tile(kType);
  F16 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; m++) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) sums[m][v] = zero();
  }
  const float* row = reinterpret_cast<const float*>(x);
  const std::byte* w = task.w + first * kTileBytes;
  for (int t = 0; t < task.tiles; t++, w += 2 * kTileBytes, row += block_rows * kValues) {
    for (int r = 0; r < 16; r++) {
      __builtin_prefetch(w + kPrefetchBytes + r * 64);
      __builtin_prefetch(w + kPrefetchBytes + kTileBytes + r * 64);
      for (int half = 0; half < kGroup<kType>; half++) {
        F16 weights[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v++) {
          const std::byte* from = w + v * kTileBytes + r * 64;
          if constexpr (kType == WeightType::f32) {
            weights[v] = load(reinterpret_cast<const float*>(from));
          } else {
            const uint16_t* pairs = reinterpret_cast<const uint16_t*>(from);
            weights[v] = half == 0 ? load_even_bf16(pairs) : load_odd_bf16(pairs);
          }
        }
#pragma GCC unroll 8
        for (int m = 0; m < kRows; m++) {
          const F16 value = set1(row[m * kValues + r * kGroup<kType> + half]);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; v++) sums[m][v] = fma(value, weights[v], sums[m][v]);
        }
      }
    }
  }
  // A loop that is not unrolled takes an array from memory, where g++ for arm64 would keep it through the loop above.
  F16 done[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; m++) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; v++) done[m][v] = sums[m][v];
  }
  for (int m = 0; m < kRows; m++) {
    for (int v = 0; v < kVectors; v++) {
      const int o = (first + v) * 16;
      finish(done[m][v], out + m * task.out_stride + o, task.columns - o, task.bias ? task.bias + o : nullptr,
             task.add);
    }
  }
}

template <int kRows>
static inline void multiply_int8(const MatmulTask& task, const std::byte* x, int block_rows, float* out,
                                 const float* x_scales, int first) {
  I16 sums[kRows][kVectors];
  for (int m = 0; m < kRows; m++) {
    for (int v = 0; v < kVectors; v++) sums[m][v] = zero_int32();
  }
  const std::byte* w = task.w + first * kTileBytes;
  for (int t = 0; t < task.tiles; t++, w += 2 * kTileBytes, x += block_rows * 64) {
    for (int r = 0; r < 16; r++) {
      __builtin_prefetch(w + kPrefetchBytes + r * 64);
      __builtin_prefetch(w + kPrefetchBytes + kTileBytes + r * 64);
      I16 weights[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) weights[v] = load_bytes(w + v * kTileBytes + r * 64);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; m++) {
        const I16 quad = broadcast_quad(x + m * 64 + r * 4);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v++) sums[m][v] = add_products(sums[m][v], quad, weights[v]);
      }
    }
  }
  for (int m = 0; m < kRows; m++) {
    for (int v = 0; v < kVectors; v++) {
      const int o = (first + v) * 16;
      const F16 exact = to_float(without_shift(sums[m][v], task.w_sums + o));
      const F16 scaled = mul(exact, mul(set1(x_scales[m]), load(task.w_scales + o)));
      finish(scaled, out + m * task.out_stride + o, task.columns - o, task.bias ? task.bias + o : nullptr, task.add);
    }
  }
}

// `rows` rows from row `m` of a block, as many at a time as registers hold.
template <WeightType kType, int kRows>
static inline void multiply_rows(const MatmulTask& task, const std::byte* block, int block_rows, float* out,
                                 const float* x_scales, int m) {
  for (; m + kRows <= block_rows; m += kRows) {
    for (int first = 0; first < 2; first += kVectors) {
      float* to = out + m * task.out_stride;
      if constexpr (kType == WeightType::int8) {
        multiply_int8<kRows>(task, block + m * 64, block_rows, to, x_scales + m, first);
      } else {
        multiply_floats<kType, kRows>(task, block + m * k_per_tile(kType) * 4, block_rows, to, first);
      }
    }
  }
  if constexpr (kRows > 1) multiply_rows<kType, kRows / 2>(task, block, block_rows, out, x_scales, m);
}

template <WeightType kType>
static void product(const MatmulTask& task) {
  const int64_t row_bytes = k_per_tile(kType) * (kType == WeightType::int8 ? 1 : 4);
  for (int begin = 0; begin < task.rows; begin += kBlock) {
    const int rows = std::min(kBlock, task.rows - begin);
    const std::byte* block = task.x + begin * row_bytes * task.tiles;
    const float* scales = kType == WeightType::int8 ? task.x_scales + begin : nullptr;
    multiply_rows<kType, kRowsAtOnce>(task, block, rows, task.out + begin * task.out_stride, scales, 0);
  }
}

// A block's sums at a time, while they are in the cache.
template <WeightType kType>
static void gated(const MatmulTask& task) {
  const int64_t row_bytes = k_per_tile(kType) * (kType == WeightType::int8 ? 1 : 4);
  alignas(64) float sums[kBlock * kPanel];
  MatmulTask part = task;
  part.out = sums;
  part.out_stride = kPanel;
  part.columns = kPanel;
  for (int begin = 0; begin < task.rows; begin += kBlock) {
    part.x = task.x + begin * row_bytes * task.tiles;
    part.x_scales = kType == WeightType::int8 ? task.x_scales + begin : nullptr;
    part.rows = std::min(kBlock, task.rows - begin);
    product<kType>(part);
    for (int m = 0; m < part.rows; m++) {
      const F16 values = gate(load(sums + m * kPanel), load(sums + m * kPanel + 16));
      finish(values, task.out + (begin + m) * task.out_stride, task.columns, nullptr, false);
    }
  }
}

template <WeightType kType>
constexpr auto product_panels = each_panel<product<kType>, kPanel>;
template <WeightType kType>
constexpr auto gated_panels = each_panel<gated<kType>, kTileOutputs>;

template <WeightType kType>
static void pack_floats(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float*) {
  constexpr int kValues = k_per_tile(kType);
  float* to = reinterpret_cast<float*>(block) + row * kValues;
  for (int k = 0; k < width; k += 16) {
    F16 values = load_first(x + k, std::min(16, width - k), zero());
    if (kType == WeightType::bf16) values = round_bf16(values);
    store(to + int64_t(k / kValues) * rows * kValues + k % kValues, values);
  }
  if (kType == WeightType::bf16 && (width + 15) / 16 % 2 == 1) {
    store(to + int64_t(width / kValues) * rows * kValues + 16, zero());
  }
}

static void pack_int8(std::byte* block, int32_t rows, int32_t row, const float* x, int32_t width, float* scale) {
  // Two of each, since one would wait for itself. zeros: or NaN where x is not finite; then so is the scale, and
  // everything made of this row.
  F16 peaks[2] = {zero(), zero()};
  F16 zeros[2] = {zero(), zero()};
  const auto look = [&](int i, F16 values) {
    peaks[i] = max(absolute(values), peaks[i]);
    zeros[i] = fma(values, zero(), zeros[i]);
  };
  int k = 0;
  for (; k + 32 <= width; k += 32) {
    look(0, load(x + k));
    look(1, load(x + k + 16));
  }
  for (; k < width; k += 16) look(0, load_first(x + k, std::min(16, width - k), zero()));
  const float peak = largest(max(peaks[0], peaks[1]));
  const F16 inverse = set1(peak > 0 ? 127 / peak : 0);
  *scale = peak / 127 + sum(add(zeros[0], zeros[1]));
  int8_t* to = reinterpret_cast<int8_t*>(block) + row * 64;
  const int padded = (width + 63) / 64 * 64;
  for (k = 0; k + 64 <= width; k += 64) {
    for (int i = 0; i < 64; i += 16) store_int8(to + int64_t(k) * rows + i, mul(load(x + k + i), inverse));
  }
  for (; k < padded; k += 16) {
    const F16 values = load_first(x + k, std::clamp(width - k, 0, 16), zero());
    store_int8(to + int64_t(k / 64) * rows * 64 + k % 64, mul(values, inverse));
  }
}

[[maybe_unused]] static MatmulKernels matmul_kernels() {
  return {
      {Activation::f32, pack_floats<WeightType::f32>, product_panels<WeightType::f32>, gated_panels<WeightType::f32>},
      {Activation::f32, pack_floats<WeightType::bf16>, product_panels<WeightType::bf16>,
       gated_panels<WeightType::bf16>},
      {Activation::int8, pack_int8, product_panels<WeightType::int8>, gated_panels<WeightType::int8>},
  };
}
