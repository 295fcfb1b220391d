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
  D16 sums = zero_double();
  for (int i = 0; i < count; i += 16) {
    const int lanes = std::min(count - i, 16);
    const F16 all = scaled_exp(load_first(x + i, lanes, zero()), set1(largest), set1(scale));
    sums = add(sums, select_first(lanes, all, zero()));
  }
  return sum(sums);
}

static SampleKernels sample_kernels() { return {block_maxima, exps, sum_exps}; }
