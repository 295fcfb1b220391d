// What AVX2 and AVX-512 share on top of their sixteen lanes (F16); vector_neon.inl has the same names and the same
// results, bit for bit. Included after vector_avx2.inl or vector_avx512.inl.

// Sum of the lanes, always in this order: halves, quarters, eighths, two.
LANE_OP float sum(F16 a) {
  const __m256 eight = _mm256_add_ps(low_half(a), high_half(a));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

LANE_OP float largest(F16 a) {
  const __m256 eight = _mm256_max_ps(low_half(a), high_half(a));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// The sums of four vectors, each in this order: lanes i and i + 8, neighbours, neighbours of those, halves.
LANE_OP void store_four_sums(float* p, const F16* a) {
  __m256 eight[4];
  for (int i = 0; i < 4; i++) eight[i] = _mm256_add_ps(low_half(a[i]), high_half(a[i]));
  const __m256 two = _mm256_hadd_ps(_mm256_hadd_ps(eight[0], eight[1]), _mm256_hadd_ps(eight[2], eight[3]));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1)));
}

// Sixteen lanes of doubles, to sum floats in.
struct D16 {
  __m256d v[4];
};

LANE_OP D16 zero_double() {
  return {{_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()}};
}
LANE_OP D16 add(D16 sums, F16 a) {
  const __m256 low = low_half(a);
  const __m256 high = high_half(a);
  return {{_mm256_add_pd(sums.v[0], _mm256_cvtps_pd(_mm256_castps256_ps128(low))),
           _mm256_add_pd(sums.v[1], _mm256_cvtps_pd(_mm256_extractf128_ps(low, 1))),
           _mm256_add_pd(sums.v[2], _mm256_cvtps_pd(_mm256_castps256_ps128(high))),
           _mm256_add_pd(sums.v[3], _mm256_cvtps_pd(_mm256_extractf128_ps(high, 1)))}};
}
// Quarters, two by two; then neighbours, then halves of what is left.
LANE_OP double sum(D16 a) {
  alignas(32) double four[4];
  _mm256_store_pd(four, _mm256_add_pd(_mm256_add_pd(a.v[0], a.v[1]), _mm256_add_pd(a.v[2], a.v[3])));
  return four[0] + four[1] + (four[2] + four[3]);
}
