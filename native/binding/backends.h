#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "binding/arguments.h"
#include "core/backend.h"

namespace baton {

// A backend, and how it calls itself.
struct MadeBackend {
  std::unique_ptr<Backend> backend;
  std::string device;  // 'cpu', 'cuda:0', …
  std::string isa;     // of the processor; on a GPU its compute capability, as 'sm_90'
  int32_t threads;     // of the host that compute
};

// The backend that the arguments name. Throws DEVICE_UNAVAILABLE where this build or this machine has none such.
MadeBackend make_backend(const DeviceArguments& arguments);

// `cpu` and `cuda` of the addon: what there is to name.
Napi::Value describe_cpu(const Napi::CallbackInfo& info);
Napi::Value describe_cuda(const Napi::CallbackInfo& info);
// `cudaFreeBytes`
Napi::Value cuda_free_bytes(const Napi::CallbackInfo& info);
// `emulator`, only in a build against it: configure(options), stats(), failNext(code)
Napi::Object define_emulator(Napi::Env env);

}  // namespace baton
