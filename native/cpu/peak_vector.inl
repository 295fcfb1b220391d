// Multiply-adds of registers, as many sums at a time as the products keep.

static int64_t peak_floats(int64_t rounds) {
  constexpr int kSums = kRowsAtOnce * kVectors;
  F16 sums[kSums];
  for (F16& sum : sums) sum = zero();
  const F16 x = set1(0.5f);
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 16
    for (int j = 0; j < kSums; j++) sums[j] = fma(x, x, sums[j]);
  }
  for (const F16& sum : sums) keep(sum);
  return rounds * kSums * 16 * 2;
}

static int64_t peak_int8(int64_t rounds) {
  constexpr int kSums = kRowsAtOnce * kVectors;
  const int8_t bytes[64] = {1};
  I16 sums[kSums];
  for (I16& sum : sums) sum = zero_int32();
  I16 weights = load_bytes(bytes), quad = load_bytes(bytes);
  for (int64_t i = 0; i < rounds; i++) {
    forget(weights);
#pragma GCC unroll 16
    for (int j = 0; j < kSums; j++) {
      forget(quad);  // each row has its own
      sums[j] = add_products(sums[j], quad, weights);
    }
  }
  for (const I16& sum : sums) keep(to_float(sum));
  return rounds * kSums * 64 * 2;
}

[[maybe_unused]] static PeakKernels peak_kernels() { return {peak_floats, peak_floats, peak_int8}; }
