// KV append: q and k of each token normalised per head (optional) and rotated; q in place, k and v into the cache
//   norm  x[i] * weight[i] / sqrt(mean(x^2) + eps)
//   rope  (x[i], x[i + head_dim / 2]) turned by the angle of i and the token's position
//
// Grid:   tokens x groups of heads; 4 to 32 lanes of a warp take one head of q, k or v.
// Reads:  qkv once; per head the rotary table's row and the norm's weight (from L1 and L2).
// Bound:  memory; per value of q 8 bytes, of k and v 4 read and 2 or 4 written. With few tokens latency: two dependent
//         trips to memory (position, then table).

#include <cassert>

#include "cuda/kernels.h"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 128;

// Cache: bf16 or float. A lane holds kUnits units (a float, or a float4) of each half of a head; all lanes together
// cover at least head_dim / 2 values.
template <typename Cache, typename Unit, int kLanes, int kUnits>
__global__ void __launch_bounds__(kThreads)
    kv_append_kernel(KvView kv, float* qkv, TokenView tokens, int layer, int heads, const float* __restrict__ q_norm,
                     const float* __restrict__ k_norm, float eps, const float* __restrict__ rope_table) {
  constexpr int kValues = sizeof(Unit) / sizeof(float);
  const int token = int(blockIdx.x);
  const int all_heads = heads + 2 * kv.kv_heads;
  const int head = int(blockIdx.y * (kThreads / kLanes) + threadIdx.x / kLanes);
  const int lane = int(threadIdx.x % kLanes);
  const int half = kv.head_dim / 2;
  const bool is_q = head < heads;
  const bool is_k = !is_q && head < heads + kv.kv_heads;
  const auto place = [&](int j) { return kValues * (lane + j * kLanes); };
  const auto inside = [&](int j) { return head < all_heads && place(j) < half; };

  // Load
  const int position = tokens.positions[token];
  const int64_t slot = tokens.slots[token];
  float* x = qkv + (int64_t(token) * all_heads + head) * kv.head_dim;
  Unit a[kUnits] = {}, b[kUnits] = {};
#pragma unroll
  for (int j = 0; j < kUnits; j++) {
    if (!inside(j)) continue;
    a[j] = *reinterpret_cast<const Unit*>(x + place(j));
    b[j] = *reinterpret_cast<const Unit*>(x + half + place(j));
  }

  // Norm
  if (q_norm != nullptr || k_norm != nullptr) {
    float squares = 0;
#pragma unroll
    for (int j = 0; j < kUnits; j++) squares += dot(a[j], a[j]) + dot(b[j], b[j]);
    const float scale = rsqrtf(warp_sum<kLanes>(squares) / float(kv.head_dim) + eps);
    const float* weight = is_q ? q_norm : is_k ? k_norm : nullptr;
#pragma unroll
    for (int j = 0; j < kUnits; j++) {
      if (weight == nullptr || !inside(j)) continue;
      a[j] = a[j] * scale * *reinterpret_cast<const Unit*>(weight + place(j));
      b[j] = b[j] * scale * *reinterpret_cast<const Unit*>(weight + half + place(j));
    }
  }

  // Rope
  if (is_q || is_k) {
    const float* cosines = rope_table + int64_t(position) * kv.head_dim;
#pragma unroll
    for (int j = 0; j < kUnits; j++) {
      if (!inside(j)) continue;
      const Unit cosine = *reinterpret_cast<const Unit*>(cosines + place(j));
      const Unit sine = *reinterpret_cast<const Unit*>(cosines + half + place(j));
      const Unit turned = a[j] * cosine - b[j] * sine;
      b[j] = b[j] * cosine + a[j] * sine;
      a[j] = turned;
    }
  }

  // Store
  const auto store_head = [&](auto* to) {
#pragma unroll
    for (int j = 0; j < kUnits; j++) {
      if (!inside(j)) continue;
      store(to + place(j), a[j]);
      store(to + half + place(j), b[j]);
    }
  };
  if (is_q) {
    store_head(x);
  } else if (head < all_heads) {
    const int kv_head = head - heads - (is_k ? 0 : kv.kv_heads);
    const int64_t row = (int64_t(layer) * kv.kv_heads + kv_head) * kv.slots + slot;
    Cache* to = static_cast<Cache*>(is_k ? kv.keys : kv.values) + row * kv.width;
    store_head(to);
    for (int i = kv.head_dim + lane; i < kv.width; i += kLanes) store(to + i, 0.0f);
  }
}

template <typename Cache>
void launch_cache(KvView kv, float* qkv, TokenView tokens, int layer, int heads, const float* q_norm,
                  const float* k_norm, float eps, const float* rope_table, cudaStream_t stream) {
  const auto queue = [&](auto* kernel, int lanes) {
    const int block_heads = kThreads / lanes;
    const int all_heads = heads + 2 * kv.kv_heads;
    const dim3 grid(unsigned(tokens.count), unsigned((all_heads + block_heads - 1) / block_heads));
    CUDA_CHECK(
        launch(kernel, grid, kThreads, 0, stream, kv, qkv, tokens, layer, heads, q_norm, k_norm, eps, rope_table));
  };
  if (kv.head_dim % (2 * kFour) != 0) return queue(kv_append_kernel<Cache, float, 32, 4>, 32);
  if (kv.head_dim <= 32) return queue(kv_append_kernel<Cache, float4, 4, 1>, 4);
  if (kv.head_dim <= 64) return queue(kv_append_kernel<Cache, float4, 8, 1>, 8);
  if (kv.head_dim <= 128) return queue(kv_append_kernel<Cache, float4, 16, 1>, 16);
  queue(kv_append_kernel<Cache, float4, 32, 1>, 32);
}

}  // namespace

void launch_kv_append(KvView kv, float* qkv, TokenView tokens, int32_t layer, int32_t heads, const float* q_norm,
                      const float* k_norm, float eps, const float* rope_table, cudaStream_t stream) {
  if (tokens.count == 0) return;
  assert(kv.head_dim % 2 == 0 && kv.head_dim <= kv.width && kv.width <= 256);
  assert(aligned16(qkv) && aligned16(q_norm) && aligned16(k_norm) && aligned16(rope_table));
  assert(aligned16(kv.keys) && aligned16(kv.values));
  const auto launch_type = kv.type == KvType::f32 ? launch_cache<float> : launch_cache<bf16>;
  launch_type(kv, qkv, tokens, layer, heads, q_norm, k_norm, eps, rope_table, stream);
}

}  // namespace baton::cuda
