// Sixteen float lanes on NEON, as four quarters. Included inside a namespace and a target region by neon.cpp;
// vector_avx2.inl and vector_x86.inl have the same names and, but for the sign of a NaN, the same results, bit for bit;
// vector_avx512.inl and vector_x86.inl say what they mean.

struct F16 {
  float32x4_t v[4];
};

#define LANE_OP static inline __attribute__((always_inline))

// What `make` makes of each quarter, by its number.
template <typename Make>
LANE_OP F16 quarters(const Make& make) {
  return {{make(0), make(1), make(2), make(3)}};
}

LANE_OP F16 set1(float x) {
  return quarters([&](int) { return vdupq_n_f32(x); });
}
LANE_OP F16 zero() { return set1(0); }
LANE_OP F16 load(const float* p) {
  return quarters([&](int i) { return vld1q_f32(p + 4 * i); });
}
LANE_OP void store(float* p, F16 a) {
  for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.v[i]);
}
LANE_OP F16 add(F16 a, F16 b) {
  return quarters([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
LANE_OP F16 sub(F16 a, F16 b) {
  return quarters([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
LANE_OP F16 mul(F16 a, F16 b) {
  return quarters([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
LANE_OP F16 div(F16 a, F16 b) {
  return quarters([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
LANE_OP F16 reciprocal(F16 a) { return div(set1(1), a); }
// The second operand where either is NaN, unlike NEON's own.
LANE_OP float32x4_t max(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
LANE_OP F16 max(F16 a, F16 b) {
  return quarters([&](int i) { return max(a.v[i], b.v[i]); });
}
LANE_OP F16 min(F16 a, F16 b) {
  return quarters([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
LANE_OP F16 fma(F16 a, F16 b, F16 c) {
  return quarters([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}

LANE_OP F16 select_first(int count, F16 a, F16 b) {
  constexpr int32_t kLane[4] = {0, 1, 2, 3};
  return quarters(
      [&](int i) { return vbslq_f32(vcgtq_s32(vdupq_n_s32(count - 4 * i), vld1q_s32(kLane)), a.v[i], b.v[i]); });
}
LANE_OP F16 load_first(const float* p, int count, F16 others) {
  if (count == 16) return load(p);
  float values[16];
  store(values, others);
  memcpy(values, p, size_t(count) * sizeof(float));
  return load(values);
}
LANE_OP void store_first(float* p, int count, F16 a) {
  if (count == 16) return store(p, a);
  float values[16];
  store(values, a);
  memcpy(p, values, size_t(count) * sizeof(float));
}

LANE_OP float32x4_t as_floats(uint32x4_t a) { return vreinterpretq_f32_u32(a); }
LANE_OP uint32x4_t as_bits(float32x4_t a) { return vreinterpretq_u32_f32(a); }
LANE_OP uint32x4_t load_pairs(const uint16_t* p) { return vreinterpretq_u32_u16(vld1q_u16(p)); }
LANE_OP float32x4_t upper(uint32x4_t a) { return as_floats(vandq_u32(a, vdupq_n_u32(0xffff0000))); }

LANE_OP F16 load_bf16(const uint16_t* p) {
  return quarters([&](int i) { return as_floats(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
}
LANE_OP F16 load_even_bf16(const uint16_t* p) {
  return quarters([&](int i) { return as_floats(vshlq_n_u32(load_pairs(p + 8 * i), 16)); });
}
LANE_OP F16 load_odd_bf16(const uint16_t* p) {
  return quarters([&](int i) { return upper(load_pairs(p + 8 * i)); });
}

LANE_OP uint32x4_t rounded_bits(float32x4_t a) {
  const uint32x4_t bits = as_bits(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vbslq_u32(vceqq_f32(a, a), up, quiet);
}
LANE_OP F16 round_bf16(F16 a) {
  return quarters([&](int i) { return upper(rounded_bits(a.v[i])); });
}
LANE_OP void store_bf16(uint16_t* p, F16 a) {
  for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vshrn_n_u32(rounded_bits(a.v[i]), 16));
}
LANE_OP void store_half_bf16(uint16_t* p, int half, F16 a) {
  uint16_t values[16];
  store_bf16(values, a);
  for (int i = 0; i < 16; i++) p[2 * i + half] = values[i];
}

LANE_OP void store_int8(int8_t* p, F16 a) {
  int16x4_t four[4];
  for (int i = 0; i < 4; i++) four[i] = vqmovn_s32(vcvtnq_s32_f32(a.v[i]));
  vst1_s8(p, vqmovn_s16(vcombine_s16(four[0], four[1])));
  vst1_s8(p + 8, vqmovn_s16(vcombine_s16(four[2], four[3])));
}
LANE_OP F16 load_int32(const int32_t* p) {
  return quarters([&](int i) { return vcvtq_f32_s32(vld1q_s32(p + 4 * i)); });
}

LANE_OP F16 absolute(F16 a) {
  return quarters([&](int i) { return vabsq_f32(a.v[i]); });
}
LANE_OP F16 power_of_two(F16 n) {
  return quarters([&](int i) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n.v[i]), vdupq_n_s32(127)), 23));
  });
}
LANE_OP F16 nearest(F16 a) {
  return quarters([&](int i) { return vrndnq_f32(a.v[i]); });
}

LANE_OP float sum(F16 a) {
  const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}
LANE_OP float largest(F16 a) {
  const float32x4_t four = max(max(a.v[0], a.v[2]), max(a.v[1], a.v[3]));
  const float32x4_t two = max(four, vextq_f32(four, four, 2));
  return vgetq_lane_f32(max(two, vextq_f32(two, two, 1)), 0);
}
LANE_OP void store_four_sums(float* p, const F16* a) {
  const auto eighths = [&](int i) {
    const float32x4_t first = vpaddq_f32(vaddq_f32(a[0].v[i], a[0].v[i + 2]), vaddq_f32(a[1].v[i], a[1].v[i + 2]));
    const float32x4_t second = vpaddq_f32(vaddq_f32(a[2].v[i], a[2].v[i + 2]), vaddq_f32(a[3].v[i], a[3].v[i + 2]));
    return vpaddq_f32(first, second);
  };
  vst1q_f32(p, vaddq_f32(eighths(0), eighths(1)));
}

struct D16 {
  float64x2_t v[8];
};

LANE_OP D16 zero_double() {
  D16 zeros;
  for (float64x2_t& two : zeros.v) two = vdupq_n_f64(0);
  return zeros;
}
LANE_OP D16 add(D16 sums, F16 a) {
  for (int i = 0; i < 4; i++) {
    sums.v[2 * i] = vaddq_f64(sums.v[2 * i], vcvt_f64_f32(vget_low_f32(a.v[i])));
    sums.v[2 * i + 1] = vaddq_f64(sums.v[2 * i + 1], vcvt_high_f64_f32(a.v[i]));
  }
  return sums;
}
LANE_OP double sum(D16 a) {
  const auto pair = [&](int i) {
    return vpaddd_f64(vaddq_f64(vaddq_f64(a.v[i], a.v[i + 2]), vaddq_f64(a.v[i + 4], a.v[i + 6])));
  };
  return pair(0) + pair(1);
}

struct I16 {
  int32x4_t v[4];
};

LANE_OP I16 zero_int32() { return {{vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)}}; }
LANE_OP I16 load_bytes(const void* p) {
  const int32_t* words = static_cast<const int32_t*>(p);
  return {{vld1q_s32(words), vld1q_s32(words + 4), vld1q_s32(words + 8), vld1q_s32(words + 12)}};
}
LANE_OP I16 broadcast_quad(const void* p) {
  const int32x4_t quad = vld1q_dup_s32(static_cast<const int32_t*>(p));
  return {{quad, quad, quad, quad}};
}
LANE_OP I16 add_products(I16 sums, I16 quad, I16 weights) {
  const auto quarter = [&](int i) {
    return vdotq_s32(sums.v[i], vreinterpretq_s8_s32(quad.v[i]), vreinterpretq_s8_s32(weights.v[i]));
  };
  return {{quarter(0), quarter(1), quarter(2), quarter(3)}};
}
LANE_OP I16 without_shift(I16 sums, const int32_t*) { return sums; }
LANE_OP F16 to_float(I16 a) {
  return quarters([&](int i) { return vcvtq_f32_s32(a.v[i]); });
}

LANE_OP void forget(I16& a) { asm volatile("" : "+w"(a.v[0]), "+w"(a.v[1]), "+w"(a.v[2]), "+w"(a.v[3])); }
LANE_OP void keep(F16 a) { asm volatile("" ::"w"(a.v[0]), "w"(a.v[1]), "w"(a.v[2]), "w"(a.v[3])); }

// Registers: 4 rows x 1 vector (four registers) of sums, weights and one broadcast, of 32.
constexpr int kRowsAtOnce = 4;
constexpr int kVectors = 1;
constexpr int kPrefetchBytes = 2048;  // as on AVX2; not timed

// 16 registers of sums each.
constexpr int kScoreLanes = 1;
constexpr int kValueLanes = 2;
constexpr int kValueVectors = 2;
