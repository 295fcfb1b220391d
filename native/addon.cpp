#include <napi.h>

#include "binding/backends.h"
#include "binding/engine.h"
#include "binding/kernels.h"

namespace {

Napi::Object start(Napi::Env env, Napi::Object exports) {
  exports.Set("version", BATON_VERSION);
  exports.Set("commit", BATON_COMMIT);
  exports.Set("load", baton::define_load(env));
  exports.Set("cpu", Napi::Function::New<baton::describe_cpu>(env, "cpu"));
  exports.Set("cuda", Napi::Function::New<baton::describe_cuda>(env, "cuda"));
  exports.Set("cudaFreeBytes", Napi::Function::New<baton::cuda_free_bytes>(env, "cudaFreeBytes"));
#if defined(BATON_EMULATOR)
  exports.Set("emulator", baton::define_emulator(env));
#endif
  exports.Set("kernels", baton::define_kernels(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(baton, start)
