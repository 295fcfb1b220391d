#pragma once

#include <napi.h>

namespace baton {

// The ops alone, for tests and benches: `kernels` of the addon, `NativeKernels` of src/native.ts.
Napi::Object define_kernels(Napi::Env env);

}  // namespace baton
