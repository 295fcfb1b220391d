// Attention on AMX for bf16 keys and values; f32 ones use AVX-512. The lanes of a block are the columns of a tile:
//   scores  S^T [32 keys, 16 lanes] = K Q^T, key rows straight from the cache, Q^T packed once per block
//   weights P = 2^(S − largest) down the columns, one lane per vector lane, as bf16 [lanes, 32 keys]
//   values  O [lanes, 64 dimensions] += P V, value pairs straight from the cache; sums of weights: P times ones
// Each lane's sums run over head_dim and over positions in tile order, whatever lies in the other lanes. q and the
// weights are rounded to bf16; the sum of weights is that of the rounded ones.
//
// While tiles are at work, multiplications and comparisons of floats have one of their two units (the other needs a
// quarter of a microsecond without tiles to come back): so sums of weights are products too, scores come without a
// factor, and the largest is looked for while scores are made.

// Tiles 0 to 4 and 7 hold lanes as rows, in the second half of a split.
LANE_OP void configure_attention_tiles(int lanes) {
  configure_tiles({lanes, lanes, lanes, lanes, lanes, 16, 16, lanes});
}

// Turns 16 rows of 16 dwords, in place.
LANE_OP void transpose(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

constexpr float kLog2E = 1.44269504f;

// q of all lanes * log2(e) / sqrt(head_dim) as tiles of 32 dimensions: [pair][lane][2]. Lanes beyond the last are zero.
static inline void pack_lanes(const AttentionTask& task, uint16_t* tiles) {
  const F16 scale = set1(kLog2E / std::sqrt(float(task.head_dim)));
  for (int d = 0; d < task.width; d += 32, tiles += kLanes * 32) {
    __m512i rows[kLanes];
    const int low = std::clamp(task.head_dim - d, 0, 16);
    const int high = std::clamp(task.head_dim - d - 16, 0, 16);
    for (int lane = 0; lane < kLanes; lane++) {
      rows[lane] = _mm512_setzero_si512();
      if (lane >= task.lanes) continue;
      const F16 first = mul(load_first(task.q[lane] + d, low, zero()), scale);
      const F16 second = mul(load_first(task.q[lane] + d + 16, high, zero()), scale);
      rows[lane] = _mm512_inserti64x4(_mm512_castsi256_si512(to_bf16(first)), to_bf16(second), 1);
    }
    transpose(rows);
    for (int pair = 0; pair < 16; pair++) _mm512_store_si512(tiles + pair * 32, rows[pair]);
  }
}

// The first `count` keys of a tile of values, as pairs from the tile's own first key on, zero beyond: [pair][vectors *
// 16][2]. paired: that key is the first of its pair in `rows` too.
static inline void copy_values(const uint16_t* rows, int width, bool paired, int count, int vectors, uint16_t* copy) {
  for (int key = 0; key < kTileKeys; key += 2, rows += 2 * width) {
    for (int v = 0; v < vectors; v++, copy += 32) {
      __m512i pair = _mm512_setzero_si512();
      if (key < count) pair = _mm512_loadu_si512(rows + v * 32);
      if (!paired) {
        pair = _mm512_srli_epi32(pair, 16);
        if (key + 1 < count) {
          pair = _mm512_or_si512(pair, _mm512_slli_epi32(_mm512_loadu_si512(rows + 2 * width + v * 32), 16));
        }
      } else if (key + 1 >= count) {
        pair = _mm512_and_si512(pair, _mm512_set1_epi32(0xffff));
      }
      _mm512_store_si512(copy, pair);
    }
  }
}

// 2^x for x up to 0, relative error below 8e-5 (a 25th of what rounding it to bf16 may add); 0 far below, NaN for NaN.
// The polynomial of degree 3 with the least relative error on [0, 1).
LANE_OP __m512 exp2(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x − ⌊x⌋
  __m512 p = _mm512_set1_ps(7.8024521e-2f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.2606716e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9583356e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.999252e-1f));
  return _mm512_scalef_ps(p, x);  // p * 2^⌊x⌋
}

// Scores of 32 keys at a time: [key][lane]. kTiles: of q, if they stay in registers (at most 4); else 0, and q is
// loaded again for every tile of keys. Sums run over head_dim in the same order either way. Keys go past the
// first-level cache, which has to hold the scores. done(tile) is called for every tile, when the next one is on its
// way.
template <int kTiles, typename Done>
static inline void tile_scores(const uint16_t* q, int width, const uint16_t* keys, int tiles, float* scores,
                               const Done& done) {
  asm volatile("" ::: "memory");
  if constexpr (kTiles >= 1) _tile_loadd(2, q, 64);
  if constexpr (kTiles >= 2) _tile_loadd(3, q + 32 * kLanes, 64);
  if constexpr (kTiles >= 3) _tile_loadd(4, q + 64 * kLanes, 64);
  if constexpr (kTiles >= 4) _tile_loadd(5, q + 96 * kLanes, 64);
  const int64_t stride = width * 2;
  for (int tile = 0; tile < tiles; tile++, keys += kTileKeys * width, scores += kTileKeys * kLanes) {
    const uint16_t* more = keys + 16 * width;
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTiles == 0) {
      for (int d = 0; d < width; d += 32) {
        _tile_loadd(2, q + d * kLanes, 64);
        _tile_stream_loadd(6, keys + d, stride);
        _tile_dpbf16ps(0, 6, 2);
        _tile_stream_loadd(7, more + d, stride);
        _tile_dpbf16ps(1, 7, 2);
      }
    }
    if constexpr (kTiles >= 1) {
      _tile_stream_loadd(6, keys, stride);
      _tile_dpbf16ps(0, 6, 2);
      _tile_stream_loadd(7, more, stride);
      _tile_dpbf16ps(1, 7, 2);
    }
    if constexpr (kTiles >= 2) {
      _tile_stream_loadd(6, keys + 32, stride);
      _tile_dpbf16ps(0, 6, 3);
      _tile_stream_loadd(7, more + 32, stride);
      _tile_dpbf16ps(1, 7, 3);
    }
    if constexpr (kTiles >= 3) {
      _tile_stream_loadd(6, keys + 64, stride);
      _tile_dpbf16ps(0, 6, 4);
      _tile_stream_loadd(7, more + 64, stride);
      _tile_dpbf16ps(1, 7, 4);
    }
    if constexpr (kTiles >= 4) {
      _tile_stream_loadd(6, keys + 96, stride);
      _tile_dpbf16ps(0, 6, 5);
      _tile_stream_loadd(7, more + 96, stride);
      _tile_dpbf16ps(1, 7, 5);
    }
    _tile_stored(0, scores, 64);
    _tile_stored(1, scores + 16 * kLanes, 64);
    asm volatile("" ::: "memory");
    if (tile > 0) done(tile - 1);
  }
  done(tiles - 1);
}

static inline void tile_split(const AttentionTask& task, int begin, int count, const uint16_t* q, Partial out) {
  // [key][lane]; of each tile, in its place, the weights: [lane][32 keys] bf16
  alignas(64) float scores[kSplit * kLanes];
  const int tiles = (count + kTileKeys - 1) / kTileKeys;
  const int width = task.width;
  const int64_t slot = task.slot + begin;

  // Few lanes wait for memory, not for products: have the values on their way while the keys are at work. A step of 16
  // rows takes 0.96 of the time; asking for the keys too took it back (2-core Xeon, 2026-11).
  if (task.lanes < kLanes) {
    const std::byte* first = task.values + slot / 2 * 4 * width;
    for (int64_t line = 0; line < int64_t(count) * width * 2; line += 64) _mm_prefetch(first + line, _MM_HINT_T0);
  }

  const __mmask16 lanes = __mmask16((1u << task.lanes) - 1);
  const __m512i counts = _mm512_set1_epi32(count);
  const __m512i ends = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(lanes, task.position), _mm512_set1_epi32(begin - 1));
  const __m512i limits = _mm512_mask_min_epi32(counts, lanes, ends, counts);  // keys of the split that each lane sees
  const auto sees = [&](int key) { return _mm512_cmpgt_epi32_mask(limits, _mm512_set1_epi32(key)); };
  const int seen_by_first = std::min(task.position[0] + 1 - begin, count);
  const auto seen_by_all = [&](int tile) { return (tile + 1) * kTileKeys <= seen_by_first; };

  // Scores. Keys beyond the last position are read and weigh nothing below.
  if (task.lanes < kLanes) configure_attention_tiles(kLanes);
  const uint16_t* keys = reinterpret_cast<const uint16_t*>(task.keys) + slot * width;
  F16 tops[4] = {set1(-INFINITY), set1(-INFINITY), set1(-INFINITY), set1(-INFINITY)};
  // Left to itself g++ 12 does not inline these and keeps what they work on in memory, for 4 % of a chunk's time.
  const auto peak = [&](int tile) __attribute__((always_inline)) {
    const float* rows = scores + tile * kTileKeys * kLanes;
    if (seen_by_all(tile)) {
      for (int key = 0; key < kTileKeys; key += 4) {
        for (int i = 0; i < 4; i++) tops[i] = max(load(rows + (key + i) * kLanes), tops[i]);
      }
    } else {
      for (int key = 0; key < kTileKeys; key++) {
        tops[0].v = _mm512_mask_max_ps(tops[0].v, sees(tile * kTileKeys + key), load(rows + key * kLanes).v, tops[0].v);
      }
    }
  };
  switch (width / 32) {
    case 1:
      tile_scores<1>(q, width, keys, tiles, scores, peak);
      break;
    case 2:
      tile_scores<2>(q, width, keys, tiles, scores, peak);
      break;
    case 3:
      tile_scores<3>(q, width, keys, tiles, scores, peak);
      break;
    case 4:
      tile_scores<4>(q, width, keys, tiles, scores, peak);
      break;
    default:
      tile_scores<0>(q, width, keys, tiles, scores, peak);
  }
  const F16 top = max(max(tops[0], tops[1]), max(tops[2], tops[3]));

  // Weights, as bf16: nearest, since a weight is positive
  const auto weigh = [&](int tile) __attribute__((always_inline)) {
    float* rows = scores + tile * kTileKeys * kLanes;
    __m512i pairs[kTileKeys / 2];
    const auto pair_up = [&](auto keep) __attribute__((always_inline)) {
      const auto weight = [&](int key) __attribute__((always_inline)) {  // in the upper half
        const __m512 exact = exp2(sub(load(rows + key * kLanes), top).v);
        return keep(key, _mm512_add_epi32(_mm512_castps_si512(exact), _mm512_set1_epi32(0x8000)));
      };
      for (int pair = 0; pair < kTileKeys / 2; pair++) {
        const __m512i even = _mm512_srli_epi32(weight(2 * pair), 16);
        const __m512i odd = weight(2 * pair + 1);
        const __m512i upper = _mm512_set1_epi32(int(0xffff0000));
        pairs[pair] = _mm512_ternarylogic_epi32(even, odd, upper, 0xf8);  // even | odd & upper
      }
    };
    if (seen_by_all(tile)) {
      pair_up([](int, __m512i weight) __attribute__((always_inline)) { return weight; });
    } else {
      pair_up([&](int key, __m512i weight) __attribute__((always_inline)) {
        return _mm512_maskz_mov_epi32(sees(tile * kTileKeys + key), weight);
      });
    }
    transpose(pairs);
    for (int lane = 0; lane < kLanes; lane++) _mm512_store_si512(rows + lane * 16, pairs[lane]);
  };

  // Values, of each tile while the next one is weighed: its weights have left for the cache by then, from where tiles
  // are loaded. A tile that does not begin with a pair, or has keys beyond the last position, is copied with zeros
  // there.
  if (task.lanes < kLanes) configure_attention_tiles(task.lanes);
  const bool paired = slot % 2 == 0;
  const int whole = paired ? count / kTileKeys : 0;
  const uint16_t* values = reinterpret_cast<const uint16_t*>(task.values) + slot / 2 * 2 * width;
  alignas(64) uint16_t ones[32];
  _mm512_store_si512(ones, _mm512_set1_epi16(0x3f80));
  asm volatile("" ::: "memory");
  _tile_loadd(6, ones, 0);
  _tile_zero(7);
  for (int d = 0; d < width; d += 64) {
    const bool two = width - d <= 32;  // vectors of 16 dimensions: two or four
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (d == 0) weigh(0);
    for (int tile = 0; tile < tiles; tile++) {
      if (d == 0 && tile + 1 < tiles) weigh(tile + 1);
      const uint16_t* rows = values + tile * kTileKeys * width + 2 * d;
      int64_t stride = width * 4;
      alignas(64) uint16_t copy[kTileKeys * 64];
      if (tile >= whole) {
        const int vectors = two ? 2 : 4;
        copy_values(rows, width, paired, std::min(kTileKeys, count - tile * kTileKeys), vectors, copy);
        rows = copy;
        stride = vectors * 64;
      }
      asm volatile("" ::: "memory");
      _tile_loadd(4, scores + tile * kTileKeys * kLanes, 64);
      if (d == 0) _tile_dpbf16ps(7, 4, 6);
      _tile_stream_loadd(5, rows, stride);
      _tile_dpbf16ps(0, 4, 5);
      _tile_stream_loadd(5, rows + 32, stride);
      _tile_dpbf16ps(1, 4, 5);
      if (two) continue;
      _tile_stream_loadd(5, rows + 64, stride);
      _tile_dpbf16ps(2, 4, 5);
      _tile_stream_loadd(5, rows + 96, stride);
      _tile_dpbf16ps(3, 4, 5);
    }
    float* to = out.values + d;
    _tile_stored(0, to, width * 4);
    _tile_stored(1, to + 16, width * 4);
    if (two) continue;
    _tile_stored(2, to + 32, width * 4);
    _tile_stored(3, to + 48, width * 4);
  }
  _tile_stored(7, scores, 64);  // [lane][16], all the same
  asm volatile("" ::: "memory");
  const __m512i firsts = _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240);
  store(out.largest, mul(top, set1(1 / kLog2E)));
  store(out.sum, {_mm512_mask_i32gather_ps(zero().v, lanes, firsts, scores, 4)});
}

static void tile_attend(const AttentionTask& task, Partial out) {
  alignas(64) uint16_t q[kLanes * kMaxHeadDim];
  alignas(64) float memory[Partial::floats(kLanes, kMaxHeadDim)];
  pack_lanes(task, q);
  if (task.lanes == kLanes) configure_attention_tiles(kLanes);
  for (int begin = task.begin; begin < task.end; begin += kSplit) {
    const Partial split = begin == task.begin ? out : Partial::in(memory);
    tile_split(task, begin, std::min(kSplit, task.end - begin), q, split);
    if (begin > task.begin) merge(out, split, task.lanes, task.width);
  }
  _tile_release();  // a live tile state makes every switch of threads save 8 KiB
}

static AttentionKernels amx_attention_kernels() {
  AttentionKernels kernels = attention_kernels();
  kernels.attend_bf16 = tile_attend;
  return kernels;
}
