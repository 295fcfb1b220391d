// What sampling does with every logit, in sixteen float lanes.

static void block_maxima(float* maxima, const float* x, int32_t count) {
  const F16 nothing = set1(-INFINITY);
  for (int begin = 0; begin < count; begin += kSampleBlock) {
    const int end = std::min(begin + kSampleBlock, count);
    F16 peak = nothing;
    // The second operand wins where the first is NaN.
    for (int i = begin; i < end; i += 16) peak = max(load_first(x + i, std::min(end - i, 16), nothing), peak);
    maxima[begin / kSampleBlock] = largest(peak);
  }
}

LANE_OP F16 scaled_exp(F16 x, F16 largest, F16 scale) { return exp(mul(sub(x, largest), scale)); }

static void exps(float* out, const float* x, int32_t count, float largest, float scale) {
  for (int i = 0; i < count; i += 16) {
    const int lanes = std::min(count - i, 16);
    store_first(out + i, lanes, scaled_exp(load_first(x + i, lanes, zero()), set1(largest), set1(scale)));
  }
}

static double sum_exps(const float* x, int32_t count, float largest, float scale) {
  __m256d sums[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()};
  for (int i = 0; i < count; i += 16) {
    const int lanes = std::min(count - i, 16);
    const F16 all = scaled_exp(load_first(x + i, lanes, zero()), set1(largest), set1(scale));
    const F16 value = select_first(lanes, all, zero());
    const __m256 low = low_half(value);
    const __m256 high = high_half(value);
    sums[0] = _mm256_add_pd(sums[0], _mm256_cvtps_pd(_mm256_castps256_ps128(low)));
    sums[1] = _mm256_add_pd(sums[1], _mm256_cvtps_pd(_mm256_extractf128_ps(low, 1)));
    sums[2] = _mm256_add_pd(sums[2], _mm256_cvtps_pd(_mm256_castps256_ps128(high)));
    sums[3] = _mm256_add_pd(sums[3], _mm256_cvtps_pd(_mm256_extractf128_ps(high, 1)));
  }
  alignas(32) double four[4];
  _mm256_store_pd(four, _mm256_add_pd(_mm256_add_pd(sums[0], sums[1]), _mm256_add_pd(sums[2], sums[3])));
  return four[0] + four[1] + (four[2] + four[3]);
}

static SampleKernels sample_kernels() { return {block_maxima, exps, sum_exps}; }
