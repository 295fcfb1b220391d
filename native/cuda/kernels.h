#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/config.h"
#include "core/plan.h"

// The launchers: one per operation, each in the file of its name. They take raw pointers, check what only we can break
// with assert, return at once on empty input, and neither allocate nor wait, so that graphs can capture them; the one
// exception is named. All pointers are in device memory. Bits of one token never depend on how many others there are.
namespace baton::cuda {

constexpr int32_t kPitchBytes = 128;  // rows of weights and operands begin at multiples of it, filled up with zeros

constexpr size_t element_bytes(WeightType type) {
  return type == WeightType::f32 ? 4 : type == WeightType::bf16 ? 2 : 1;
}

constexpr int64_t pitch_bytes(int64_t width, WeightType type) {
  return (width * int64_t(element_bytes(type)) + kPitchBytes - 1) / kPitchBytes * kPitchBytes;
}

// Activations as matrix products read them: f32, bf16 (rounded to nearest even), or int8 with one scale per row, the
// row's largest magnitude over 127 (NaN if the row has a value that is not finite; its bytes are then 0).
struct OperandView {
  void* values;   // [rows, pitch] zeros beyond width
  float* scales;  // [rows] int8 only
  int32_t rows;
  int32_t width;
  int64_t pitch;  // bytes
  WeightType type;
};

// Weights [outputs, inputs], of the operand's type.
struct MatrixView {
  const void* values;   // [outputs rounded up to 64, pitch] zeros beyond outputs and inputs
  const float* scales;  // [outputs rounded up to 64] int8 only; a weight is its byte times its output's scale
  int32_t outputs;
  int32_t inputs;
  int64_t pitch;  // bytes
  WeightType type;
  // Outputs 16 j .. 16 j + 7 are gates 8 j .. 8 j + 7 and the next 8 their ups: the rows of one lane's accumulators.
  // outputs is then twice the width rounded up to 8.
  bool gated;
};

// out[t] = table[tokens[t]], as floats. Of a table of `outputs` tokens; out [count, width = table.inputs].
void launch_embedding(float* out, MatrixView table, const int32_t* tokens, int32_t count, cudaStream_t stream);

// out[r, i] = x[r, i] * weight[i] / sqrt(mean(x[r]^2) + eps); x [out.rows, out.width]
void launch_rms_norm(OperandView out, const float* x, const float* weight, float eps, cudaStream_t stream);

// out = x [out.rows, out.width]
void launch_convert(OperandView out, const float* x, cudaStream_t stream);

// out[i] = x[rows[i]], width floats each
void launch_select_sampled(float* out, const float* x, const int32_t* rows, int32_t count, int32_t width,
                           cudaStream_t stream);

// Matrix products: with a[r, o] = sum_i x[r, i] w[o, i], the sum in float over i in one fixed order (int8: exact in
// int32, then times x's scale times w's)
//   matmul          out[r, o] = a[r, o] + bias[o]         bias may be null; out [x.rows, w.outputs] floats
//   matmul_add      out[r, o] += a[r, o]
//   matmul_swiglu   out[r, i] = silu(gate) * up           w gated; to floats [x.rows, width], or (rounded) to an
//   operand
//                                                         of type f32 or bf16
void launch_matmul(float* out, OperandView x, MatrixView w, const float* bias, cudaStream_t stream);
void launch_matmul_add(float* out, OperandView x, MatrixView w, cudaStream_t stream);
void launch_matmul_swiglu(OperandView out, OperandView x, MatrixView w, cudaStream_t stream);

// What launch_matmul_swiglu does with its sums, behind a product that cannot: a [out.rows, outputs] as a gated matrix
// of so many outputs gives them.
void launch_swiglu(OperandView out, const float* a, int32_t outputs, cudaStream_t stream);

// Keys and values, each KV head of each layer with its slots in a row: keys [layers, kv_heads, slots, width], values
// alike. width: head_dim filled up with zeros to one of kv_width's, so that kernels need few shapes.
struct KvView {
  void* keys;
  void* values;
  KvType type;
  int32_t layers;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t width;
  int64_t slots;
};

// 32, 64, 96, 128 or 256, the least that holds head_dim.
constexpr int32_t kv_width(int32_t head_dim) {
  for (const int32_t width : {32, 64, 96, 128}) {
    if (head_dim <= width) return width;
  }
  return 256;
}

// Where the tokens of a step belong. [count] each.
struct TokenView {
  const int32_t* positions;
  const int32_t* slots;  // of the token itself; position p of its request lies at slots[t] - positions[t] + p
  int32_t count;
};

// The projections of `layer`: qkv [tokens.count, (heads + 2 kv_heads) head_dim]. Normalises each head of q and k
// (q_norm, k_norm: [head_dim], or null), rotates q in place and k, and writes k and v, in the cache's type, to the
// tokens' slots. rope_table: [context, head_dim], per position head_dim / 2 cosines, then as many sines.
void launch_kv_append(KvView kv, float* qkv, TokenView tokens, int32_t layer, int32_t heads, const float* q_norm,
                      const float* k_norm, float eps, const float* rope_table, cudaStream_t stream);

// Copies slots in all layers, keys and values, in one launch. kv_compact: from one cache to another of the same shape
// (parking, where one lies in pinned host memory), or within one: then no move reads or writes what another, or itself,
// writes (embedding a request's span is such a move). kv_pad: each move may overlap itself (shifting a span).
// moves: [count], `longest` the most slots of one.
void launch_kv_compact(KvView to, KvView from, const Move* moves, int32_t count, int32_t longest, cudaStream_t stream);
void launch_kv_pad(KvView kv, const Move* moves, int32_t count, cudaStream_t stream);

// A run's stretch of tokens that attend together.
struct AttentionRun {
  int32_t token;  // first, in the step
  int32_t count;
};

constexpr int32_t kAttentionSplit = 256;  // positions; a softmax of its own, merged in order

// out[t, h] = softmax(q[t, h] K^T / sqrt(head_dim)) V over positions 0 .. position of t. q: the front of qkv rows,
// stride floats apart. out: f32 or bf16 operand [tokens, heads head_dim]. decode and prefill give a token the same
// bits.
struct AttentionView {
  OperandView out;
  const float* q;
  int64_t q_stride;
  KvView kv;
  int32_t layer;
  int32_t heads;
  TokenView tokens;
};

// Floats of workspace for decode with so many tokens whose spans end at most at `context`.
int64_t attention_workspace_floats(int32_t tokens, int32_t heads, int32_t head_dim, int32_t context);

// decode: one token each, indices [count] of tokens in the step. `context` bounds their positions + 1: it sizes the
// grid; blocks beyond a token's own length end at once. workspace: attention_workspace_floats.
void launch_attention_decode(AttentionView view, const int32_t* indices, int32_t count, int32_t context,
                             float* workspace, cudaStream_t stream);
// prefill: runs [count] of any length, `longest` the most tokens of one.
void launch_attention_prefill(AttentionView view, const AttentionRun* runs, int32_t count, int32_t longest,
                              cudaStream_t stream);

// How one row's tokens are drawn; see Sampling in core/plan.h.
struct SamplingView {
  float temperature;
  int32_t top_k;
  float top_p;
  float min_p;
  float repetition_penalty;
  float presence_penalty;
  float frequency_penalty;
  int32_t logprobs;
  uint64_t seed;
  int32_t min_tokens;
  int32_t prompt_length;
  int32_t stop_count;  // of stop_tokens
  int32_t penalised;   // counts are kept
  int32_t biased;      // bias is not all zero
};

constexpr int32_t kMostStopTokens = 1024;

// The state of all rows' sampling. A row's state lies at index states[row] of each array: moving a row moves an index.
struct SamplerView {
  const int32_t* states;       // [rows]
  const SamplingView* rules;   // [rows]
  const int32_t* stop_tokens;  // [rows, kMostStopTokens]
  float* bias;                 // [rows, vocabulary] added to logits; read where `biased`
  uint32_t* seen;              // [rows, vocabulary] where `penalised`: 0 never, 1 + times in the output
  int32_t* drawn;              // [rows] by state: the token last drawn
};

// Where sampled tokens go, by row.
struct SampledView {
  int32_t* sampled;     // [rows]
  float* logprobs;      // [rows]
  int32_t* top_tokens;  // [rows, kTopLogprobs] -1 beyond rule.logprobs
  float* top_logprobs;  // [rows, kTopLogprobs] -infinity there
};

// Draws a token for each of logits [count, vocabulary] (which it may overwrite), for rows[i] at positions[i] (of the
// token drawn), by the rules of cpu/sample.h with the same random numbers. A row of -1 is skipped.
void launch_sample(SampledView out, float* logits, int32_t count, int32_t vocabulary, const int32_t* rows,
                   const int32_t* positions, SamplerView sampler, cudaStream_t stream);

// tokens[t] = drawn token of row rows[t] wherever tokens[t] is kDrawn
void launch_feed_back(int32_t* tokens, const int32_t* rows, int32_t count, SamplerView sampler, cudaStream_t stream);

// A row that changes hands: clears state `state`, then counts `count` tokens (of which prompt_length are the prompt)
// and adds `biases` (token, value) pairs. Not captured: takes part only in steps that change rows.
void launch_sampler_start(SamplerView sampler, int32_t state, int32_t vocabulary, const int32_t* tokens, int32_t count,
                          int32_t prompt_length, const int32_t* bias_tokens, const float* bias_values, int32_t biases,
                          cudaStream_t stream);

}  // namespace baton::cuda
