#include <napi.h>

#include "binding/engine.h"
#include "binding/errors.h"
#include "binding/kernels.h"
#include "cpu/isa.h"

namespace {

// The classes of one environment: a worker thread has its own.
struct Classes {
  Napi::FunctionReference engine;
};

Napi::Value load(const Napi::CallbackInfo& info) {
  return baton::Engine::load(info.Env().GetInstanceData<Classes>()->engine.Value(), info);
}

Napi::Value cpu(const Napi::CallbackInfo& info) {
  return baton::guard(info.Env(), [&] {
    const baton::cpu::CpuDevice device = baton::cpu::cpu_device();
    Napi::Object object = Napi::Object::New(info.Env());
    Napi::Array isas = Napi::Array::New(info.Env());
    for (const std::string& isa : device.isas) isas.Set(isas.Length(), isa);
    object.Set("isas", isas);
    object.Set("cores", device.cores);
    object.Set("model", device.model);
    return object;
  });
}

Napi::Object start(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Classes{Napi::Persistent(baton::Engine::define(env))});
  exports.Set("version", BATON_VERSION);
  exports.Set("commit", BATON_COMMIT);
  exports.Set("load", Napi::Function::New<load>(env, "load"));
  exports.Set("cpu", Napi::Function::New<cpu>(env, "cpu"));
  exports.Set("kernels", baton::define_kernels(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(baton, start)
