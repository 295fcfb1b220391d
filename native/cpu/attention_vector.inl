// Attention in sixteen float lanes. Keys and values are taken in tiles of 32 positions, as rows of floats (bf16 ones
// are widened once per tile for all lanes). Every score is one chain of products over head_dim, 16 at a time, and a
// fixed tree of sums; every output value is one chain over positions. So neither the number of lanes in a block nor
// which loop below takes them changes a bit.

constexpr int kTileKeys = 32;

struct FloatRows {
  const float* data;
  int64_t stride;
};

template <KvType kType>
LANE_OP FloatRows key_rows(const AttentionTask& task, int position, int count, float* memory) {
  const int64_t first = (task.slot + position) * task.width;
  if constexpr (kType == KvType::f32) return {reinterpret_cast<const float*>(task.keys) + first, task.width};
  const uint16_t* keys = reinterpret_cast<const uint16_t*>(task.keys) + first;
  for (int i = 0; i < count * task.width; i += 16) store(memory + i, load_bf16(keys + i));
  return {memory, task.width};
}

template <KvType kType>
LANE_OP FloatRows value_rows(const AttentionTask& task, int position, int count, float* memory) {
  const int64_t slot = task.slot + position;
  if constexpr (kType == KvType::f32) {
    return {reinterpret_cast<const float*>(task.values) + slot * task.width, task.width};
  }
  const uint16_t* pair = reinterpret_cast<const uint16_t*>(task.values) + slot / 2 * 2 * task.width;
  // A tile may begin with the second slot of a pair and end with the first of one.
  for (int key = -int(slot % 2); key < count; key += 2, pair += 2 * task.width) {
    for (int i = 0; i < task.width; i += 16) {
      if (key >= 0) store(memory + key * task.width + i, load_even_bf16(pair + 2 * i));
      if (key + 1 < count) store(memory + (key + 1) * task.width + i, load_odd_bf16(pair + 2 * i));
    }
  }
  return {memory, task.width};
}

// Scores of some lanes against a tile. Beyond `count` keys, up to the next multiple of four, they mean nothing.
template <int kCount>
static inline void tile_scores(const float* q, int width, FloatRows keys, int count, float* scores) {
  for (int key = 0; key < count; key += 4) {
    const float* row[4];
    for (int j = 0; j < 4; j++) row[j] = keys.data + std::min(key + j, count - 1) * keys.stride;
    F16 products[kCount][4];
    for (int lane = 0; lane < kCount; lane++) {
      for (int j = 0; j < 4; j++) products[lane][j] = zero();
    }
    for (int i = 0; i < width; i += 16) {
      F16 k[4];
      for (int j = 0; j < 4; j++) k[j] = load(row[j] + i);
      for (int lane = 0; lane < kCount; lane++) {
        const F16 x = load(q + lane * width + i);
        for (int j = 0; j < 4; j++) products[lane][j] = fma(x, k[j], products[lane][j]);
      }
    }
    for (int lane = 0; lane < kCount; lane++) store_four_sums(scores + lane * kSplit + key, products[lane]);
  }
}

// values[lane] += weight[lane, key] * rows[key] for all keys of a tile, kVectors * 16 dimensions of them.
template <int kCount, int kVectors>
static inline void add_values(const float* weights, FloatRows rows, int count, float* values, int width) {
  F16 sums[kCount][kVectors];
  for (int lane = 0; lane < kCount; lane++) {
    for (int v = 0; v < kVectors; v++) sums[lane][v] = load(values + lane * width + v * 16);
  }
  for (int key = 0; key < count; key++) {
    F16 row[kVectors];
    for (int v = 0; v < kVectors; v++) row[v] = load(rows.data + key * rows.stride + v * 16);
    for (int lane = 0; lane < kCount; lane++) {
      const F16 weight = set1(weights[lane * kSplit + key]);
      for (int v = 0; v < kVectors; v++) sums[lane][v] = fma(weight, row[v], sums[lane][v]);
    }
  }
  for (int lane = 0; lane < kCount; lane++) {
    for (int v = 0; v < kVectors; v++) store(values + lane * width + v * 16, sums[lane][v]);
  }
}

template <int kCount>
static inline void tile_values(const float* weights, FloatRows rows, int count, float* values, int width) {
  int i = 0;
  for (; i + kValueVectors * 16 <= width; i += kValueVectors * 16) {
    add_values<kCount, kValueVectors>(weights, {rows.data + i, rows.stride}, count, values + i, width);
  }
  for (; i < width; i += 16) add_values<kCount, 1>(weights, {rows.data + i, rows.stride}, count, values + i, width);
}

// Scores of a lane become weights e^(score − largest); `seen` of `count` keys count, the others' weights are 0, up to
// the next multiple of 16.
static inline void weigh(float* scores, int seen, int count, float* largest_out, float* sum_out) {
  const F16 nothing = set1(-INFINITY);
  F16 peak = nothing;
  for (int i = 0; i < seen; i += 16) peak = max(select_first(std::min(seen - i, 16), load(scores + i), nothing), peak);
  const F16 top = set1(largest(peak));
  F16 total = zero();
  for (int i = 0; i < count; i += 16) {
    const F16 weight = exp(sub(load(scores + i), top));
    const F16 kept = select_first(std::clamp(seen - i, 0, 16), weight, zero());
    store(scores + i, kept);
    total = add(total, kept);
  }
  *largest_out = largest(peak);
  *sum_out = sum(total);
}

template <KvType kType>
static void attend_split(const AttentionTask& task, int begin, int count, const float* q, Partial out) {
  alignas(64) float scores[kLanes * kSplit];
  alignas(64) float widened[kType == KvType::f32 ? 16 : kTileKeys * kMaxHeadDim];
  const auto seen = [&](int lane) { return std::clamp(task.position[lane] + 1 - begin, 0, count); };

  for (int tile = 0; tile < count; tile += kTileKeys) {
    const int keys = std::min(kTileKeys, count - tile);
    const FloatRows rows = key_rows<kType>(task, begin + tile, keys, widened);
    for (int lane = 0; lane < task.lanes;) {
      const bool several = lane + kScoreLanes <= task.lanes;
      const float* lane_q = q + lane * task.width;
      float* lane_scores = scores + lane * kSplit + tile;
      if (several) {
        tile_scores<kScoreLanes>(lane_q, task.width, rows, keys, lane_scores);
      } else {
        tile_scores<1>(lane_q, task.width, rows, keys, lane_scores);
      }
      lane += several ? kScoreLanes : 1;
    }
  }

  for (int lane = 0; lane < task.lanes; lane++) {
    weigh(scores + lane * kSplit, seen(lane), count, &out.largest[lane], &out.sum[lane]);
  }

  for (int i = 0; i < task.lanes * task.width; i += 16) store(out.values + i, zero());
  for (int tile = 0; tile < count; tile += kTileKeys) {
    const FloatRows rows = value_rows<kType>(task, begin + tile, std::min(kTileKeys, count - tile), widened);
    for (int lane = 0; lane < task.lanes;) {
      const bool several = lane + kValueLanes <= task.lanes;
      const int last = lane + (several ? kValueLanes : 1) - 1;
      const int keys = std::min(kTileKeys, seen(last) - tile);
      float* values = out.values + lane * task.width;
      const float* weights = scores + lane * kSplit + tile;
      if (several) {
        tile_values<kValueLanes>(weights, rows, keys, values, task.width);
      } else {
        tile_values<1>(weights, rows, keys, values, task.width);
      }
      lane = last + 1;
    }
  }
}

static void merge(Partial into, Partial from, int32_t lanes, int32_t width) {
  const F16 top = max(load(into.largest), load(from.largest));
  const F16 shrunk = exp(sub(load(into.largest), top));
  const F16 added = exp(sub(load(from.largest), top));
  alignas(64) float keep[kLanes], take[kLanes];
  store(keep, shrunk);
  store(take, added);
  store(into.largest, top);
  store(into.sum, fma(load(from.sum), added, mul(load(into.sum), shrunk)));
  for (int lane = 0; lane < lanes; lane++) {
    if (from.sum[lane] == 0) continue;
    float* values = into.values + int64_t(lane) * width;
    const float* more = from.values + int64_t(lane) * width;
    for (int i = 0; i < width; i += 16) {
      store(values + i, fma(load(more + i), set1(take[lane]), mul(load(values + i), set1(keep[lane]))));
    }
  }
}

static void finish(Partial partial, int32_t lane, int32_t width, int32_t head_dim, float* out) {
  const F16 share = div(set1(1), set1(partial.sum[lane]));
  for (int i = 0; i < head_dim; i += 16) {
    const F16 value = load(partial.values + int64_t(lane) * width + i);
    // Plus zero: a sum that ends as −0 in one order of steps and +0 in another is +0.
    store_first(out + i, std::min(head_dim - i, 16), fma(value, share, zero()));
  }
}

template <KvType kType>
static void attend(const AttentionTask& task, Partial out) {
  alignas(64) float q[kLanes * kMaxHeadDim];  // [lanes, width]
  const F16 scale = set1(1 / std::sqrt(float(task.head_dim)));
  for (int lane = 0; lane < task.lanes; lane++) {
    for (int i = 0; i < task.width; i += 16) {
      const F16 x = load_first(task.q[lane] + i, std::clamp(task.head_dim - i, 0, 16), zero());
      store(q + lane * task.width + i, mul(x, scale));
    }
  }
  alignas(64) float memory[Partial::floats(kLanes, kMaxHeadDim)];
  for (int begin = task.begin; begin < task.end; begin += kSplit) {
    const Partial split = begin == task.begin ? out : Partial::in(memory);
    attend_split<kType>(task, begin, std::min(kSplit, task.end - begin), q, split);
    if (begin > task.begin) merge(out, split, task.lanes, task.width);
  }
}

static void append_pairs(uint16_t* key, uint16_t* pair, int32_t half, const float* k, const float* v, int32_t head_dim,
                         int32_t width) {
  for (int i = 0; i < width; i += 16) {
    const int count = std::clamp(head_dim - i, 0, 16);
    store_bf16(key + i, load_first(k + i, count, zero()));
    store_half_bf16(pair + 2 * i, half, load_first(v + i, count, zero()));
  }
}

static AttentionKernels attention_kernels() {
  return {attend<KvType::f32>, attend<KvType::bf16>, merge, finish, append_pairs};
}
