// Sample: a token for each row of logits, by the rules of cpu/sample.h
//
// The order of candidates is logit descending, token ascending. A candidate's *rank* is one 64-bit number, larger if it
// comes earlier. Weights e^((logit - largest) / temperature) are integers: their sums, by which tokens are drawn, are
// exact and the same however the work is split. What is looked for is always the first candidate at which a running sum
// (of weights, or of candidates) reaches a target, and it is nearly always among the first few hundred: a *window* of
// the order, collected by one pass and sorted in shared memory. Else passes that add up weights by ranges of ranks find
// the range that holds it, which becomes the window.
//
// Grid:   one block per row.
// Reads:  the logits once if greedy, once more with penalties, bias or banned stop tokens, once more for alternatives,
//         once more to draw; some three times for a target beyond the window. Penalties and bias are applied as logits
//         are read, 4 bytes each per logit, so that the raw logits remain to be reported.
// Bound:  what one multiprocessor gets from L2, at most 64 bytes per clock: 5 us or more per pass over 128 k logits.
//         Sorting takes about as long; neither has been measured.

#include <cassert>
#include <limits>

#include "core/random.h"
#include "cuda/kernels.h"
#include "cuda/mma.cuh"
#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace baton::cuda {

namespace {

constexpr int kThreads = 1024;  // and candidates of a window, and ranges of ranks
constexpr int kLoads = 2;       // of four logits, on their way per thread

// A first window reaches down to the kFirst-th of the threads' largest logits: about 710 candidates where logits are
// strewn at random.
constexpr int kFirst = 512;

constexpr float kUnits = 0x1p44f;  // of weight, in that of the largest logit: 2^18 of these in 2^62
constexpr float kLog2E = 1.44269504f;
constexpr float kGreedyTemperature = 1e-5f;  // as cpu/
constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

__device__ inline uint64_t rank_of(float logit, int32_t token) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);  // makes -0 the 0 it equals
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 32 | ~uint32_t(token);
}

__device__ inline int32_t token_of(uint64_t rank) { return int32_t(~uint32_t(rank)); }

// NaN for 0, the rank of nothing.
__device__ inline float logit_of(uint64_t rank) {
  const uint32_t ordered = uint32_t(rank >> 32);
  return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

// A row's logits as tokens are drawn from them.
struct Logits {
  const float* raw;      // [vocabulary]
  const uint32_t* seen;  // [vocabulary]; null: no penalties
  const float* bias;     // [vocabulary]; null: none
  const SamplingView* rule;
  int32_t vocabulary;
};

template <typename T>
struct alignas(kFour * sizeof(T)) Four {
  T values[kFour];
};

// Rows of a vocabulary that is no multiple of four are not aligned; each thread gets the same logits all the same.
template <typename T>
__device__ inline Four<T> load_tokens(const T* from, int token, int vocabulary, T beyond) {
  if (vocabulary % kFour == 0 && token < vocabulary) return *reinterpret_cast<const Four<T>*>(from + token);
  Four<T> four;
#pragma unroll
  for (int k = 0; k < kFour; k++) four.values[k] = token + k < vocabulary ? from[token + k] : beyond;
  return four;
}

// No product is fused with the sum that follows, so that equal logits are equal wherever they are computed.
__device__ inline float penalised(float logit, uint32_t seen, const SamplingView& rule) {
  if (seen == 0) return logit;
  logit = logit > 0 ? logit / rule.repetition_penalty : __fmul_rn(logit, rule.repetition_penalty);
  if (seen == 1) return logit;
  return logit - (rule.presence_penalty + __fmul_rn(rule.frequency_penalty, float(seen - 1)));
}

__device__ inline Four<float> load_logits(const Logits& logits, int token) {
  Four<float> four = load_tokens(logits.raw, token, logits.vocabulary, -kInfinity);
  if (logits.seen != nullptr) {
    const Four<uint32_t> seen = load_tokens(logits.seen, token, logits.vocabulary, 0u);
#pragma unroll
    for (int k = 0; k < kFour; k++) four.values[k] = penalised(four.values[k], seen.values[k], *logits.rule);
  }
  if (logits.bias != nullptr) {
    const Four<float> bias = load_tokens(logits.bias, token, logits.vocabulary, 0.0f);
#pragma unroll
    for (int k = 0; k < kFour; k++) four.values[k] += bias.values[k];
  }
  return four;
}

// Calls body(four, token of the first) for all logits, four at a time, a thread's in the order of tokens; -infinity
// beyond the vocabulary.
template <typename Body>
__device__ inline void for_each(const Logits& logits, const Body& body) {
  constexpr int kStep = kThreads * kFour;
  for (int token = int(threadIdx.x) * kFour; token < logits.vocabulary; token += kLoads * kStep) {
    Four<float> fours[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; i++) fours[i] = load_logits(logits, token + i * kStep);
#pragma unroll
    for (int i = 0; i < kLoads; i++) body(fours[i].values, token + i * kStep);
  }
}

struct Peak {
  uint64_t rank;      // of the largest logit; 0: NaN or -infinity all
  uint64_t own_rank;  // of the largest among this thread's
  float sum;          // of e^(logit - largest), in a fixed order; NaN if any is NaN or the largest infinite
};

// Every thread of the block must call this, and what follows.
__device__ inline Peak measure(const Logits& logits) {
  float largest = -kInfinity, sum = 0;
  int32_t token = 0;
  for_each(logits, [&](const float(&v)[kFour], int first) {
    const float most = fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]));  // NaN aside
    if (most > largest) {
      sum *= exp2_approximate((fmaxf(largest, kLowest) - most) * kLog2E);
      largest = most;
      token = first + (v[0] == most ? 0 : v[1] == most ? 1 : v[2] == most ? 2 : 3);
    }
    const float from = fmaxf(largest, kLowest);
#pragma unroll
    for (int k = 0; k < kFour; k++) sum += exp2_approximate((v[k] - from) * kLog2E);
  });
  Peak peak;
  peak.own_rank = largest > -kInfinity ? rank_of(largest, token) : 0;
  peak.rank = block_max<kThreads>(peak.own_rank);
  const float from = logit_of(peak.rank);
  peak.sum = block_sum<kThreads>(sum * exp2_approximate((fmaxf(largest, kLowest) - from) * kLog2E));
  return peak;
}

// A running sum over candidates in their order, and what it is to reach: either of the two.
struct Sums {
  uint64_t weight;
  uint32_t count;

  __device__ Sums operator+(Sums other) const { return {weight + other.weight, count + other.count}; }
  __device__ Sums operator-(Sums other) const { return {weight - other.weight, count - other.count}; }
  __device__ bool reaches(Sums target) const { return weight >= target.weight || count >= target.count; }
};

__device__ inline Sums target_count(uint32_t count) { return {~uint64_t(0), count}; }
__device__ inline Sums target_weight(uint64_t weight) { return {weight, ~0u}; }

__device__ inline Sums sum_of_block(Sums own) {
  return {block_sum<kThreads>(own.weight), block_sum<kThreads>(own.count)};
}
__device__ inline Sums running_sum_of_block(Sums own) {
  return {block_running_sum<kThreads>(own.weight), block_running_sum<kThreads>(own.count)};
}

// Where a running sum over a block's threads reaches its target.
struct Reached {
  uint64_t rank;
  uint32_t thread;
  Sums before;  // of the threads before it
  Sums sum;     // and of itself
};

// Sums of the candidates in a range of ranks. Words of 32 bits, since only those are added atomically by the hardware.
struct Range {
  uint32_t low, high;  // of the weight
  uint32_t count;

  __device__ void add(uint64_t weight) {
    const uint32_t added = uint32_t(weight);
    const uint32_t carry = atomicAdd(&low, added) > ~added;  // exactly one addition sees each overflow
    const uint32_t above = uint32_t(weight >> 32) + carry;
    if (above != 0) atomicAdd(&high, above);
    atomicAdd(&count, 1u);
  }
  __device__ Sums sums() const { return {uint64_t(high) << 32 | low, count}; }
};

struct Shared {
  uint64_t ranks[kThreads];
  Sums running[kThreads];  // sums of candidates, or of ranges, up to and with this one
  Range ranges[kThreads];
  Reached reached;
  uint32_t collected;
};

// The candidates of a row: logits of ranks from `first` down to `last`.
struct Candidates {
  Logits logits;
  float largest;
  float scale;  // log2(e) / temperature
  uint64_t first, last;

  __device__ uint64_t weight_of(float logit) const {
    const float units = exp2_approximate((logit - largest) * scale) * kUnits;
    return units < 0x1p32f ? uint32_t(units) : uint64_t(units);  // nearly all are small, and quicker to convert
  }
};

// Candidates that follow one another in the order. Their ranks and running sums lie in Shared until the next is opened.
struct Window {
  Sums before;  // of the candidates before it
  Sums end;     // and of its own; equal to `before` if it is empty
  Sums all;     // of all candidates of the row
};

// shared.running = `before` and the running sums of the threads' own; the last of them.
__device__ inline Sums add_up(Sums before, Sums own, Shared& shared) {
  shared.running[threadIdx.x] = before + running_sum_of_block(own);
  __syncthreads();
  return shared.running[kThreads - 1];
}

// The first thread at which shared.running reaches the target; there is one.
__device__ inline Reached first_reaching(Sums target, Sums before, Shared& shared) {
  const Sums sum = shared.running[threadIdx.x];
  if (threadIdx.x > 0) before = shared.running[threadIdx.x - 1];
  __syncthreads();  // an earlier answer has been read
  if (sum.reaches(target) && !before.reaches(target)) {
    shared.reached = {shared.ranks[threadIdx.x], threadIdx.x, before, sum};
  }
  __syncthreads();
  return shared.reached;
}

// Sorts ranks [0, count) of [kThreads], the largest first, and puts zeros behind them. A bitonic sort.
__device__ inline void sort(uint64_t* ranks, int count) {
  const int thread = int(threadIdx.x);
  if (thread >= count) ranks[thread] = 0;
  __syncthreads();
  int length = 1;
  while (length < count) length *= 2;
  for (int run = 2; run <= length; run *= 2) {
    for (int stride = run / 2; stride > 0; stride /= 2) {
      if (thread < length / 2) {
        const int i = 2 * thread - (thread & (stride - 1));
        const uint64_t a = ranks[i], b = ranks[i + stride];
        if ((a < b) == ((i & run) == 0)) {
          ranks[i] = b;
          ranks[i + stride] = a;
        }
      }
      // With strides up to 32 a warp stays among 64 ranks of its own.
      const int next = stride > 1 ? stride / 2 : run;
      if (max(stride, next) > kWarp) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    }
  }
  // survives: of up to 32 ranks, which end with a barrier of the warp, each thread reads its own alone
  __syncthreads();
}

// The n-th of the threads' largest logits, which at least n logits reach.
__device__ inline uint64_t nth_rank(uint64_t own_rank, int n, Shared& shared) {
  // survives: whoever used the room before came past another barrier since
  __syncthreads();  // what lay there has been read
  shared.ranks[threadIdx.x] = own_rank;
  sort(shared.ranks, kThreads);
  return shared.ranks[n - 1];
}

// The window of the candidates from rank `first` to `last`, whose predecessors' sums are `before`; an empty one if they
// are more than its room.
__device__ inline Window open(const Candidates& candidates, uint64_t first, uint64_t last, Sums before,
                              Shared& shared) {
  // survives: whoever read the last count came past another barrier since
  __syncthreads();
  if (threadIdx.x == 0) shared.collected = 0;
  __syncthreads();
  const float least_candidate = logit_of(candidates.last), least = logit_of(last);
  Sums all = {};
  for_each(candidates.logits, [&](const float(&v)[kFour], int token) {
#pragma unroll
    for (int k = 0; k < kFour; k++) {
      if (v[k] >= least_candidate) all = all + Sums{candidates.weight_of(v[k]), 1};
      if (v[k] >= least) {
        const uint64_t rank = rank_of(v[k], token + k);
        if (rank > first || rank < last) continue;
        const uint32_t place = atomicAdd(&shared.collected, 1u);
        if (place < kThreads) shared.ranks[place] = rank;
      }
    }
  });
  Window window = {};
  window.all = sum_of_block(all);
  const uint32_t count = shared.collected;
  if (count > kThreads) return window;
  sort(shared.ranks, int(count));
  Sums own = {};
  if (threadIdx.x < count) own = {candidates.weight_of(logit_of(shared.ranks[threadIdx.x])), 1};
  window.before = before;
  window.end = add_up(before, own, shared);
  return window;
}

// The window that holds the first candidate at which the running sum reaches the target, wherever it is. Each pass
// leaves one of 1,024 ranges of ranks; they are 64 bits, and no two alike.
__device__ inline Window find_window(const Candidates& candidates, Sums target, Shared& shared) {
  uint64_t first = candidates.first, last = candidates.last;
  Sums before = {};
  for (;;) {
    int shift = 0;
    while ((first - last) >> shift >= kThreads) shift++;
    shared.ranges[threadIdx.x] = {};
    __syncthreads();
    const float least = logit_of(last);
    for_each(candidates.logits, [&](const float(&v)[kFour], int token) {
#pragma unroll
      for (int k = 0; k < kFour; k++) {
        if (!(v[k] >= least)) continue;
        const uint64_t rank = rank_of(v[k], token + k);
        if (rank <= first && rank >= last) shared.ranges[(first - rank) >> shift].add(candidates.weight_of(v[k]));
      }
    });
    __syncthreads();
    add_up(before, shared.ranges[threadIdx.x].sums(), shared);
    const Reached range = first_reaching(target, before, shared);
    first -= uint64_t(range.thread) << shift;
    const uint64_t width = (uint64_t(1) << shift) - 1;
    if (first - last > width) last = first - width;
    before = range.before;
    if ((range.sum - before).count <= kThreads) return open(candidates, first, last, before, shared);
  }
}

// The first candidate at which the running sum reaches the target, at most that of all. May open another window.
__device__ inline Reached first_reaching(Sums target, const Candidates& candidates, Window& window, Shared& shared) {
  if (window.before.reaches(target) || !window.end.reaches(target)) window = find_window(candidates, target, shared);
  return first_reaching(target, window.before, shared);
}

// A window at the front of the order that has about the first `count`.
__device__ inline Window open_first(const Candidates& candidates, uint64_t own_rank, int count, Shared& shared) {
  const int vocabulary = candidates.logits.vocabulary;
  uint64_t last = candidates.last;
  if (vocabulary > kThreads) {
    // Of the threads that have logits, no more than half: with those of all, a window would hardly have room.
    const int most = min(kFirst, vocabulary / (2 * kFour));
    last = max(last, nth_rank(own_rank, min(count, most), shared));
  }
  return open(candidates, candidates.first, last, {}, shared);
}

// Leaves the ranks of the first `count` candidates, and maybe more, at the front of shared.ranks; zeros if there are
// fewer.
__device__ inline void rank_first(const Candidates& candidates, uint64_t own_rank, int count, Shared& shared) {
  Window window = open_first(candidates, own_rank, count, shared);
  const uint32_t target = min(uint32_t(count), window.all.count);
  const Reached last = first_reaching(target_count(target), candidates, window, shared);
  if (window.before.count > 0) open(candidates, candidates.first, last.rank, {}, shared);
}

// What is looked for, one after the other: the last of the top_k, the last of the top_p of those, the one drawn of
// those.
enum class Step { top_k, top_p, draw };

// The target of a step that is left with candidates of these sums.
__device__ inline Sums target_of(Step step, Sums left, const SamplingView& rule, int32_t position) {
  if (step == Step::top_k) return target_count(min(uint32_t(rule.top_k), left.count));
  if (step == Step::top_p) {
    const double least = double(rule.top_p) * double(left.weight);
    const uint64_t weight = uint64_t(least);
    return target_weight(double(weight) < least ? weight + 1 : weight);
  }
  const double random = uniform(rule.seed, uint32_t(position)) * double(left.weight);
  return target_weight(min(uint64_t(random) + 1, left.weight));  // more than it, but for rounding
}

// The token drawn at `position` of a request.
__device__ inline int32_t draw(const Candidates& candidates, uint64_t own_rank, const SamplingView& rule,
                               int32_t position, Shared& shared) {
  const bool counted = rule.top_k > 0 && rule.top_k < candidates.logits.vocabulary;
  Window window = open_first(candidates, own_rank, counted ? rule.top_k : kFirst, shared);
  Reached reached = {};
  reached.sum = window.all;
#pragma unroll 1  // one copy of the search suffices
  for (int i = 0; i < 3; i++) {
    const Step step = Step(i);
    if ((step == Step::top_k && !counted) || (step == Step::top_p && rule.top_p >= 1)) continue;
    reached = first_reaching(target_of(step, reached.sum, rule, position), candidates, window, shared);
  }
  return token_of(reached.rank);
}

__global__ void __launch_bounds__(kThreads)
    sample_kernel(SampledView out, float* logits, int32_t vocabulary, const int32_t* rows, const int32_t* positions,
                  SamplerView sampler) {
  const int32_t row = rows[blockIdx.x];
  if (row < 0) return;
  const int32_t position = positions[blockIdx.x];
  const int64_t state = sampler.states[row];
  const SamplingView& rule = sampler.rules[state];
  float* raw = logits + int64_t(blockIdx.x) * vocabulary;
  uint32_t* seen = rule.penalised ? sampler.seen + state * vocabulary : nullptr;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int thread = int(threadIdx.x);

  // Log-probabilities of the raw logits
  Logits drawn_from = {raw, nullptr, nullptr, &rule, vocabulary};
  Peak peak = measure(drawn_from);
  const bool defined = peak.sum > 0 && peak.sum < kInfinity;
  const float raw_largest = logit_of(peak.rank), log_sum = logf(peak.sum);
  int32_t top_token = -1;
  float top_logprob = -kInfinity;
  if (defined && rule.logprobs > 0) {
    const Candidates candidates = {drawn_from, raw_largest, kLog2E, peak.rank, rank_of(kLowest, -1)};
    rank_first(candidates, peak.own_rank, rule.logprobs, shared);
    const uint64_t rank = shared.ranks[thread];
    if (thread < rule.logprobs && rank != 0) {
      top_token = token_of(rank);
      top_logprob = logit_of(rank) - raw_largest - log_sum;
    }
  }
  if (thread < kTopLogprobs) {
    out.top_tokens[int64_t(row) * kTopLogprobs + thread] = top_token;
    out.top_logprobs[int64_t(row) * kTopLogprobs + thread] = top_logprob;
  }

  // Penalties, bias, bans
  const bool banned = position - rule.prompt_length < rule.min_tokens && rule.stop_count > 0;
  if (defined && (rule.penalised || rule.biased || banned)) {
    drawn_from.seen = seen;
    if (rule.biased) drawn_from.bias = sampler.bias + state * vocabulary;
    const int32_t* stop_tokens = sampler.stop_tokens + state * kMostStopTokens;
    for (int i = thread; banned && i < rule.stop_count; i += kThreads) {
      atomicExch(&raw[stop_tokens[i]], -kInfinity);  // atomic: some may be named twice
    }
    __syncthreads();
    peak = measure(drawn_from);
  }

  // Draw
  const float largest = logit_of(peak.rank);
  int32_t token = -1;
  if (defined && largest < kInfinity) {
    token = token_of(peak.rank);
    if (rule.temperature >= kGreedyTemperature) {
      const float floor = largest + __fmul_rn(rule.temperature, logf(rule.min_p));  // min_p 0: -infinity
      const uint64_t last = rank_of(fmaxf(floor, kLowest), -1);
      const Candidates candidates = {drawn_from, largest, kLog2E / rule.temperature, peak.rank, last};
      token = draw(candidates, peak.own_rank, rule, position, shared);
    }
  }

  // Store
  if (thread > 0) return;
  out.sampled[row] = token;
  out.logprobs[row] = token < 0 ? std::numeric_limits<float>::quiet_NaN() : raw[token] - raw_largest - log_sum;
  sampler.drawn[state] = token;
  if (token >= 0 && seen != nullptr) seen[token] = max(seen[token], 1u) + 1;
}

}  // namespace

void launch_sample(SampledView out, float* logits, int32_t count, int32_t vocabulary, const int32_t* rows,
                   const int32_t* positions, SamplerView sampler, cudaStream_t stream) {
  assert(vocabulary > 0 && vocabulary <= 1 << 18);
  assert(aligned16(logits) && aligned16(sampler.bias) && aligned16(sampler.seen));
  if (count == 0) return;
  CUDA_CHECK(launch(sample_kernel, count, kThreads, sizeof(Shared), stream, out, logits, vocabulary, rows, positions,
                    sampler));
}

}  // namespace baton::cuda
