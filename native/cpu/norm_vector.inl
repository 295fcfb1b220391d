// Row-wise operations on AVX2 and AVX-512.

static void rms_norm(float* out, const float* x, const float* weight, int32_t width, float eps) {
  F16 squares = zero();
  for (int i = 0; i < width; i += 16) {
    const F16 v = load_first(x + i, std::min(16, width - i), zero());
    squares = fma(v, v, squares);
  }
  const F16 scale = set1(1 / std::sqrt(sum(squares) / float(width) + eps));
  for (int i = 0; i < width; i += 16) {
    const int count = std::min(16, width - i);
    const F16 v = load_first(x + i, count, zero());
    store_first(out + i, count, mul(mul(v, scale), load_first(weight + i, count, zero())));
  }
}

// silu(g) = g / (1 + e^-g)
static void swiglu(float* out, int64_t out_stride, const float* x, int64_t x_stride, int32_t rows, int32_t columns) {
  for (int row = 0; row < rows; row++, out += out_stride, x += x_stride) {
    const F16 g = load(x);
    const F16 silu = div(g, add(set1(1), exp(sub(zero(), g))));
    const F16 value = mul(silu, load(x + kTileOutputs));
    if (columns == kTileOutputs) {
      store(out, value);
    } else {
      store_first(out, columns, value);
    }
  }
}

static void rope(float* x, const float* cosines, const float* sines, int32_t head_dim) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; i += 16) {
    const int count = std::min(16, half - i);
    const F16 a = load_first(x + i, count, zero());
    const F16 b = load_first(x + half + i, count, zero());
    const F16 c = load_first(cosines + i, count, zero());
    const F16 s = load_first(sines + i, count, zero());
    store_first(x + i, count, sub(mul(a, c), mul(b, s)));
    store_first(x + half + i, count, fma(b, c, mul(a, s)));
  }
}
