// Sixteen float lanes on AVX2, as two halves. Included inside a namespace and a target region by avx2.cpp;
// vector_avx512.inl has the same names and, but for reciprocal, the same results, bit for bit; it says what they mean.

struct F16 {
  __m256 lo, hi;
};

#define LANE_OP static inline __attribute__((always_inline))

LANE_OP F16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
LANE_OP F16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
LANE_OP F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
LANE_OP void store(float* p, F16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
LANE_OP F16 add(F16 a, F16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
LANE_OP F16 sub(F16 a, F16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
LANE_OP F16 mul(F16 a, F16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
LANE_OP F16 div(F16 a, F16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
LANE_OP F16 reciprocal(F16 a) { return div(set1(1), a); }
LANE_OP F16 max(F16 a, F16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
LANE_OP F16 min(F16 a, F16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
LANE_OP F16 fma(F16 a, F16 b, F16 c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }

LANE_OP __m256i lanes_below(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
LANE_OP F16 select_first(int count, F16 a, F16 b) {
  return {_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(lanes_below(count))),
          _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(lanes_below(count - 8)))};
}
LANE_OP F16 load_first(const float* p, int count, F16 others) {
  const F16 loaded = {_mm256_maskload_ps(p, lanes_below(count)), _mm256_maskload_ps(p + 8, lanes_below(count - 8))};
  return select_first(count, loaded, others);
}
LANE_OP void store_first(float* p, int count, F16 a) {
  _mm256_maskstore_ps(p, lanes_below(count), a.lo);
  _mm256_maskstore_ps(p + 8, lanes_below(count - 8), a.hi);
}

LANE_OP __m256i load_words(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
LANE_OP __m256 widen_bf16(__m128i eight) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
}
LANE_OP F16 load_bf16(const uint16_t* p) {
  return {widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
LANE_OP F16 load_even_bf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(load_words(p), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(load_words(p + 16), 16))};
}
LANE_OP F16 load_odd_bf16(const uint16_t* p) {
  const __m256i upper = _mm256_set1_epi32(int(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(load_words(p), upper)),
          _mm256_castsi256_ps(_mm256_and_si256(load_words(p + 16), upper))};
}

LANE_OP __m256i rounded_bits(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), _mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
LANE_OP F16 round_bf16(F16 a) {
  const __m256i upper = _mm256_set1_epi32(int(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(rounded_bits(a.lo), upper)),
          _mm256_castsi256_ps(_mm256_and_si256(rounded_bits(a.hi), upper))};
}
LANE_OP void store_bf16(uint16_t* p, F16 a) {
  const __m256i lo = _mm256_srli_epi32(rounded_bits(a.lo), 16);
  const __m256i hi = _mm256_srli_epi32(rounded_bits(a.hi), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
}

LANE_OP void store_half_bf16(uint16_t* p, int half, F16 a) {
  uint16_t values[16];
  store_bf16(values, a);
  for (int i = 0; i < 16; i++) p[2 * i + half] = values[i];
}

LANE_OP void store_int8(int8_t* p, F16 a) {
  const __m256i pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
  const __m256i ordered = _mm256_permute4x64_epi64(pairs, 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}
LANE_OP F16 load_int32(const int32_t* p) {
  return {_mm256_cvtepi32_ps(load_words(p)), _mm256_cvtepi32_ps(load_words(p + 8))};
}

LANE_OP __m256 absolute(__m256 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
LANE_OP F16 absolute(F16 a) { return {absolute(a.lo), absolute(a.hi)}; }
LANE_OP __m256 power_of_two(__m256 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
LANE_OP F16 power_of_two(F16 n) { return {power_of_two(n.lo), power_of_two(n.hi)}; }
LANE_OP F16 nearest(F16 a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

LANE_OP __m256 low_half(F16 a) { return a.lo; }
LANE_OP __m256 high_half(F16 a) { return a.hi; }

struct I16 {
  __m256i lo, hi;
};

LANE_OP I16 zero_int32() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
LANE_OP I16 load_bytes(const void* p) { return {load_words(p), load_words(static_cast<const std::byte*>(p) + 32)}; }
LANE_OP I16 broadcast_quad(const void* p) {
  int32_t quad;
  memcpy(&quad, p, 4);
  return {_mm256_set1_epi32(quad), _mm256_set1_epi32(quad)};
}
// |w| times x with the sign of w: pairs of products stay below 2 * 127 * 127, so their 16-bit sums never saturate.
LANE_OP __m256i add_products(__m256i sums, __m256i quad, __m256i weights) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(quad, weights));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
LANE_OP I16 add_products(I16 sums, I16 quad, I16 weights) {
  return {add_products(sums.lo, quad.lo, weights.lo), add_products(sums.hi, quad.hi, weights.hi)};
}
LANE_OP I16 without_shift(I16 sums, const int32_t*) { return sums; }
LANE_OP F16 to_float(I16 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }

LANE_OP void forget(I16& a) { asm volatile("" : "+x"(a.lo), "+x"(a.hi)); }
LANE_OP void keep(F16 a) { asm volatile("" ::"x"(a.lo), "x"(a.hi)); }

// Registers: 4 rows x 1 vector (two registers) of sums, weights and one broadcast, of 16.
constexpr int kRowsAtOnce = 4;
constexpr int kVectors = 1;
constexpr int kPrefetchBytes = 2048;

constexpr int kScoreLanes = 1;
constexpr int kValueLanes = 2;
constexpr int kValueVectors = 2;
