#pragma once

#include "cuda/kernels.h"

// The attention of kernels.h on the tensor cores of compute capability 9.0, for a cache of bf16. Their bits are not
// those of the other kernels: a device uses these two or the other two.
namespace baton::cuda {

void launch_attention_decode_hopper(AttentionView view, const int32_t* indices, int32_t count, int32_t context,
                                    float* workspace, cudaStream_t stream);
void launch_attention_prefill_hopper(AttentionView view, const AttentionRun* runs, int32_t count, int32_t longest,
                                     cudaStream_t stream);

}  // namespace baton::cuda
