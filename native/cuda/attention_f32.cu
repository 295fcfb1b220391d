// Attention over a cache of floats, decode and prefill: out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V, in floats
// throughout. For tests and small models. Splits and their merging are those of attention.cuh; within a split the
// softmax is one, and sums go over dimensions one by one, over positions in groups, so that many small weights beside a
// large one are not lost.
//
// Grid:   tokens (of a run) × heads × tokens or runs; a block has a thread per column.
// Reads:  K and V once per head and token.
// Bound:  latency of L1 and L2: a thread walks the rows of its own keys.

#include <algorithm>
#include <cassert>

#include "cuda/attention.cuh"

namespace baton::cuda {

namespace {

constexpr int kGroup = 16;  // positions whose weights are summed by themselves first

__global__ void __launch_bounds__(256, 1)
    attention_f32_kernel(AttentionView view, const int32_t* indices, const AttentionRun* runs, float scale) {
  float* q = reinterpret_cast<float*>(shared_memory());  // [width]
  const int width = blockDim.x;
  float* scores = q + width;  // [kAttentionSplit]
  if (indices == nullptr && int(blockIdx.x) >= runs[blockIdx.z].count) return;
  const int token = indices != nullptr ? indices[blockIdx.z] : runs[blockIdx.z].token + blockIdx.x;
  const int head = blockIdx.y;
  const int head_dim = view.kv.head_dim;
  const int column = threadIdx.x;
  const int64_t first =
      kv_index(view.kv, view.layer, head / (view.heads / view.kv.kv_heads), first_slot(view.tokens, token));
  const float* keys = static_cast<const float*>(view.kv.keys) + first;
  const float* values = static_cast<const float*>(view.kv.values) + first;
  const int length = view.tokens.positions[token] + 1;

  // Load
  q[column] = column < head_dim ? view.q[token * view.q_stride + head * head_dim + column] : 0;
  __syncthreads();

  float total_largest = -INFINITY;
  float total_sum = 0;
  float total = 0;
  for (int begin = 0; begin < length; begin += kAttentionSplit) {
    const int count = std::min(begin + kAttentionSplit, length) - begin;

    // Scores
    for (int key = threadIdx.x; key < count; key += width) {
      const float* row = keys + int64_t(begin + key) * width;
      float dot = 0;
      for (int i = 0; i < width; i += 4) {
        const float4 k = *reinterpret_cast<const float4*>(row + i);
        dot = fmaf(q[i], k.x, dot);
        dot = fmaf(q[i + 1], k.y, dot);
        dot = fmaf(q[i + 2], k.z, dot);
        dot = fmaf(q[i + 3], k.w, dot);
      }
      scores[key] = dot;
    }
    __syncthreads();

    // Softmax
    float largest = -INFINITY;
    for (int key = 0; key < count; key++) largest = fmaxf(largest, scores[key]);
    largest *= scale;
    __syncthreads();
    for (int key = threadIdx.x; key < count; key += width) {
      scores[key] = exp2_approximate(fmaf(scores[key], scale, -power_reference(largest)));
    }
    __syncthreads();

    // Values
    float sum = 0;
    float value = 0;
    for (int group = 0; group < count; group += kGroup) {
      float group_sum = 0;
      float group_value = 0;
      for (int key = group; key < std::min(group + kGroup, count); key++) {
        group_sum += scores[key];
        group_value = fmaf(scores[key], values[int64_t(begin + key) * width + column], group_value);
      }
      sum += group_sum;
      value += group_value;
    }
    const Merge merge(total_largest, largest);
    total_sum = merge(total_sum, sum);
    total = merge(total, value);
    __syncthreads();
  }

  // Store
  if (column >= head_dim || length <= 0) return;
  unsigned char* row = static_cast<unsigned char*>(view.out.values) + token * view.out.pitch;
  const int at = head * head_dim + column;
  if (view.out.type == WeightType::f32) {
    reinterpret_cast<float*>(row)[at] = total / total_sum;
  } else {
    reinterpret_cast<bf16*>(row)[at] = __float2bfloat16_rn(total / total_sum);
  }
}

}  // namespace

void launch_attention_f32(const AttentionView& view, const int32_t* indices, const AttentionRun* runs, int32_t count,
                          int32_t longest, cudaStream_t stream) {
  const int width = view.kv.width;
  assert(width % kWarp == 0 && width <= 256);
  CUDA_CHECK(launch(attention_f32_kernel, dim3(longest, view.heads, count), width,
                    (width + kAttentionSplit) * sizeof(float), stream, view, indices, runs,
                    attention_scale(view.kv.head_dim)));
}

}  // namespace baton::cuda
