// Row-wise operations in sixteen float lanes.

static void rms_norm(float* out, const float* x, const float* weight, int32_t width, float eps) {
  const int whole = width / 16 * 16;
  const int rest = width - whole;
  F16 sums[4] = {zero(), zero(), zero(), zero()};  // four, since one would wait for itself
  for (int i = 0; i < whole; i += 16) sums[i / 16 % 4] = fma(load(x + i), load(x + i), sums[i / 16 % 4]);
  const F16 last = load_first(x + whole, rest, zero());
  const F16 squares = add(add(sums[0], sums[1]), add(sums[2], fma(last, last, sums[3])));
  const F16 scale = set1(1 / std::sqrt(sum(squares) / float(width) + eps));
  for (int i = 0; i < whole; i += 16) store(out + i, mul(mul(load(x + i), scale), load(weight + i)));
  store_first(out + whole, rest, mul(mul(last, scale), load_first(weight + whole, rest, zero())));
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
