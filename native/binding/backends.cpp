#include "binding/backends.h"

#include <utility>

#include "binding/errors.h"
#include "core/error.h"
#include "cpu/backend.h"

#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
#include "cuda/backend.h"
#include "cuda/devices.h"
#endif
#if defined(BATON_EMULATOR)
#include "emulator/emulator.h"
#endif

namespace baton {

namespace {

#if defined(BATON_CUDA)
constexpr const char* kCuda = "cuda";
#elif defined(BATON_EMULATOR)
constexpr const char* kCuda = "cuda-emu";
#endif

[[noreturn]] void refuse(const std::string& device) {
#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
  const std::string expected = std::string("'cpu', '") + kCuda + "' or '" + kCuda + ":N'";
#else
  const std::string expected = "'cpu' (this build has no CUDA backend)";
#endif
  throw Error("DEVICE_UNAVAILABLE", "device: expected " + expected + ", got '" + device + "'");
}

MadeBackend make_cpu(const DeviceArguments& arguments) {
  auto backend = cpu::make_backend(arguments.backend, {arguments.isa, arguments.threads});
  const std::string isa = cpu::name(backend->isa());
  const int32_t threads = backend->threads();
  return {std::move(backend), "cpu", isa, threads};
}

#if defined(BATON_CUDA) || defined(BATON_EMULATOR)

// The N of "cuda:N"; 0 of "cuda"; -1 of any other name.
int32_t number_of(const std::string& device) {
  const std::string name = kCuda;
  if (device == name) return 0;
  if (device.rfind(name + ":", 0) != 0) return -1;
  const std::string digits = device.substr(name.size() + 1);
  const bool valid = !digits.empty() && digits.size() <= 4 && digits.find_first_not_of("0123456789") == digits.npos;
  return valid ? std::stoi(digits) : -1;
}

int32_t require_number(const std::string& device) {
  const int32_t number = number_of(device);
  if (number < 0) refuse(device);
  return number;
}

MadeBackend make_cuda(const DeviceArguments& arguments, int32_t number) {
  auto backend = cuda::make_backend(arguments.backend, {.device = number,
                                                        .graphs = arguments.graphs,
                                                        .check_launches = arguments.check_launches,
                                                        .cublaslt = arguments.cublaslt});
  const cuda::CudaDevice device = cuda::find_devices().devices[size_t(number)];
  return {std::move(backend), kCuda + (":" + std::to_string(number)),
          "sm_" + std::to_string(10 * device.major + device.minor), 0};
}

#endif

}  // namespace

MadeBackend make_backend(const DeviceArguments& arguments) {
  if (arguments.device == "cpu") return make_cpu(arguments);
#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
  return make_cuda(arguments, require_number(arguments.device));
#else
  refuse(arguments.device);
#endif
}

Napi::Value describe_cpu(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const cpu::CpuDevice device = cpu::cpu_device();
    const Napi::Object object = Napi::Object::New(info.Env());
    const Napi::Array isas = Napi::Array::New(info.Env());
    for (const std::string& isa : device.isas) isas.Set(isas.Length(), isa);
    object.Set("isas", isas);
    object.Set("cores", device.cores);
    object.Set("model", device.model);
    return object;
  });
}

Napi::Value describe_cuda(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Napi::Object object = Napi::Object::New(info.Env());
    const Napi::Array devices = Napi::Array::New(info.Env());
#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
    const cuda::CudaDevices found = cuda::find_devices();
    for (const cuda::CudaDevice& device : found.devices) {
      const Napi::Object one = Napi::Object::New(info.Env());
      one.Set("name", kCuda + (":" + std::to_string(devices.Length())));
      one.Set("model", device.name);
      one.Set("capability", std::to_string(device.major) + "." + std::to_string(device.minor));
      one.Set("multiprocessors", device.multiprocessors);
      one.Set("bytes", double(device.bytes));
      devices.Set(devices.Length(), one);
    }
    object.Set("reason", found.reason);
#else
    object.Set("reason", "this build has no CUDA backend");
#endif
    object.Set("devices", devices);
    return object;
  });
}

Napi::Value cuda_free_bytes(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&]() -> Napi::Value {
    const std::string device = read_text(info[0], "device");
#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
    const int32_t number = require_number(device);
    cuda::require_device(number);
    return Napi::Number::New(info.Env(), double(cuda::free_bytes(number)));
#else
    refuse(device);
#endif
  });
}

#if defined(BATON_EMULATOR)

namespace {

Napi::Value configure(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    using emulator::Async, emulator::Order;
    REQUIRE(info[0].IsObject(), "INVALID_ARGUMENT", "options: expected an object");
    const Napi::Object given = info[0].As<Napi::Object>();
    const std::string order = read_text(given.Get("order"), "order");
    const std::string async = read_text(given.Get("async"), "async");
    emulator::Options options;
    options.order = order == "random" ? Order::random : order == "reverse" ? Order::reverse : Order::forward;
    options.async = async == "deferred" ? Async::deferred : Async::eager;
    options.seed = uint64_t(read_integer(given.Get("seed"), "seed"));
    options.major = read_integer(given.Get("capability"), "capability", 7, 9);
    emulator::configure(options);
    return info.Env().Undefined();
  });
}

Napi::Value stats(const Napi::CallbackInfo& info) {
  const emulator::Stats stats = emulator::stats();
  const Napi::Object object = Napi::Object::New(info.Env());
  object.Set("grids", double(stats.grids));
  object.Set("allocations", double(stats.allocations));
  object.Set("pinnedAllocations", double(stats.pinned_allocations));
  return object;
}

Napi::Value fail_next(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    emulator::fail_next(cudaError_t(read_integer(info[0], "code", 1)));
    return info.Env().Undefined();
  });
}

}  // namespace

Napi::Object define_emulator(Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("configure", Napi::Function::New<configure>(env, "configure"));
  object.Set("stats", Napi::Function::New<stats>(env, "stats"));
  object.Set("failNext", Napi::Function::New<fail_next>(env, "failNext"));
  return object;
}

#endif

}  // namespace baton
