#pragma once

#include "cuda/kernels.h"

// The matrix products of kernels.h on the tensor cores of compute capability 9.0, for operands of type bf16 and int8.
// Their bits are not those of the other kernels: a device uses one or the other for all its products of a type.
namespace baton::cuda {

constexpr bool hopper_supported(int32_t major, int32_t minor) { return major == 9 && minor == 0; }

void launch_matmul_hopper(float* out, OperandView x, MatrixView w, const float* bias, cudaStream_t stream);
void launch_matmul_add_hopper(float* out, OperandView x, MatrixView w, cudaStream_t stream);
void launch_matmul_swiglu_hopper(OperandView out, OperandView x, MatrixView w, cudaStream_t stream);

}  // namespace baton::cuda
