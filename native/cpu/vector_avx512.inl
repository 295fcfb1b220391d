// Sixteen float lanes on AVX-512. Included inside a namespace and a target region by avx512.cpp and amx.cpp;
// vector_avx2.inl has the same names and, but for reciprocal, the same results, bit for bit.

struct F16 {
  __m512 v;
};

#define LANE_OP static inline __attribute__((always_inline))

LANE_OP F16 set1(float x) { return {_mm512_set1_ps(x)}; }
LANE_OP F16 zero() { return {_mm512_setzero_ps()}; }
LANE_OP F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
LANE_OP void store(float* p, F16 a) { _mm512_storeu_ps(p, a.v); }
LANE_OP F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
LANE_OP F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
LANE_OP F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
LANE_OP F16 div(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
// Within two units in the last place: 14 bits and a step of Newton's, a third of a division's time.
LANE_OP F16 reciprocal(F16 a) {
  const __m512 first = _mm512_rcp14_ps(a.v);
  return {_mm512_mul_ps(first, _mm512_fnmadd_ps(a.v, first, _mm512_set1_ps(2)))};
}
LANE_OP F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
LANE_OP F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
LANE_OP F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }  // a * b + c

// The first `count` lanes (0 to 16), the others as given; memory beyond them is not touched.
LANE_OP F16 load_first(const float* p, int count, F16 others) {
  return {_mm512_mask_loadu_ps(others.v, __mmask16((1u << count) - 1), p)};
}
LANE_OP void store_first(float* p, int count, F16 a) { _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), a.v); }
// Lanes below `count` from a, the others from b.
LANE_OP F16 select_first(int count, F16 a, F16 b) {
  return {_mm512_mask_blend_ps(__mmask16((1u << count) - 1), b.v, a.v)};
}

// bf16 to float: 16 in a row, or the even (low) and odd (high) halves of 16 pairs.
LANE_OP F16 load_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
LANE_OP F16 load_even_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
LANE_OP F16 load_odd_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(int(0xffff0000))))};
}

// Rounded to the nearest bf16, ties to even, as the upper half of each 32-bit lane. NaN stays NaN.
LANE_OP __m512i rounded_bits(F16 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), up, quiet);
}
LANE_OP F16 round_bf16(F16 a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(rounded_bits(a), _mm512_set1_epi32(int(0xffff0000))))};
}
LANE_OP __m256i to_bf16(F16 a) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_bits(a), 16)); }
LANE_OP void store_bf16(uint16_t* p, F16 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(a)); }

// The first or second halves of 16 pairs; the others are not touched, so another thread may write them.
LANE_OP void store_half_bf16(uint16_t* p, int half, F16 a) {
  const __m512i bits = rounded_bits(a);
  _mm512_mask_storeu_epi16(p, half == 0 ? 0x55555555u : 0xaaaaaaaau, half == 0 ? _mm512_srli_epi32(bits, 16) : bits);
}

// Nearest int8, ties to even, saturated; 16 in a row.
LANE_OP void store_int8(int8_t* p, F16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
LANE_OP F16 load_int32(const int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }

LANE_OP F16 absolute(F16 a) { return {_mm512_abs_ps(a.v)}; }
// 2^n for integral n from -126 to 127.
LANE_OP F16 power_of_two(F16 n) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
LANE_OP F16 nearest(F16 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

LANE_OP __m256 low_half(F16 a) { return _mm512_castps512_ps256(a.v); }
LANE_OP __m256 high_half(F16 a) { return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1)); }

// Sixteen int32 lanes for products of int8.
struct I16 {
  __m512i v;
};

LANE_OP I16 zero_int32() { return {_mm512_setzero_si512()}; }
LANE_OP I16 load_bytes(const void* p) { return {_mm512_loadu_si512(p)}; }
// Four int8 in every lane, in the form add_products wants: here shifted by 128, to be unsigned.
LANE_OP I16 broadcast_quad(const void* p) {
  int32_t quad;
  memcpy(&quad, p, 4);
  return {_mm512_set1_epi32(quad ^ int32_t(0x80808080))};
}
// Adds to each lane the four products of quad and weights.
LANE_OP I16 add_products(I16 sums, I16 quad, I16 weights) { return {_mm512_dpbusd_epi32(sums.v, quad.v, weights.v)}; }
LANE_OP I16 without_shift(I16 sums, const int32_t* weight_sums) {
  return {_mm512_sub_epi32(sums.v, _mm512_slli_epi32(_mm512_loadu_si512(weight_sums), 7))};
}
LANE_OP F16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }

// For timing: what the compiler no longer knows the value of, and what it may not leave uncomputed.
LANE_OP void forget(I16& a) { asm volatile("" : "+v"(a.v)); }
LANE_OP void keep(F16 a) { asm volatile("" ::"v"(a.v)); }

// Registers: 8 rows x 2 vectors of sums, weights and one broadcast, of 32.
constexpr int kRowsAtOnce = 8;
constexpr int kVectors = 2;
// Weights asked for ahead of their use: 16 rows of bf16 take 0.7 of the time they take without, one row about the same
// (0.9 with AVX2; 2-core Xeon, 2026-11).
constexpr int kPrefetchBytes = 2048;

// Attention's sums in registers: lanes by four keys for scores, lanes by vectors of 16 dimensions for values.
constexpr int kScoreLanes = 4;
constexpr int kValueLanes = 4;
constexpr int kValueVectors = 4;
