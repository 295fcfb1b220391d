// What AVX2 and AVX-512 share on top of their sixteen lanes (F16). Included after vector_avx2.inl or vector_avx512.inl.

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

// e^x, relative error below 2e-7 for x in [-87, 88]; smaller x give a value below 2e-38, larger ones 2^127. NaN gives
// NaN. Cephes: x = n ln 2 + r, e^r by a polynomial of degree 6.
LANE_OP F16 exp(F16 x) {
  x = min(set1(88.0f), max(set1(-87.3f), x));  // the second operand wins where x is NaN
  const F16 n = nearest(mul(x, set1(1.44269504f)));
  const F16 r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), x));
  F16 p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p, mul(r, r), add(r, set1(1)));
  return mul(p, power_of_two(n));
}
