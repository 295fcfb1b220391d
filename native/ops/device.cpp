#include "ops/device.h"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "cpu/backend.h"
#include "cpu/ceiling.h"
#include "cpu/isa.h"
#include "ops/trial.h"

#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
#include "cuda/backend.h"
#endif
#if defined(BATON_CUDA)
#include "cuda/ceiling.h"
#include "cuda/devices.h"
#endif
#if defined(BATON_EMULATOR)
#include "emulator/emulator.h"
#endif

namespace baton::ops {

namespace {

constexpr size_t kMiB = size_t(1) << 20;
// A virtual machine reports the last cache of the whole socket, which it shares.
constexpr size_t kMostCpuCache = 256 * kMiB;

Ceilings measure_cpu(cpu::Isa isa, int32_t threads) {
  constexpr int64_t kBytes = int64_t(512) << 20;
  const auto peak = [&](WeightType type) { return cpu::peak_operations_per_second(isa, type, threads); };
  return {double(kBytes) / cpu::read_seconds(kBytes, threads, 5),
          2.0 * double(kBytes) / cpu::copy_seconds(kBytes, threads, 5),
          {peak(WeightType::f32), peak(WeightType::bf16), peak(WeightType::int8)}};
}

#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
cuda::CudaOptions cuda_options(int32_t index, const std::string& cublaslt) {
  return {.device = index, .graphs = false, .check_launches = false, .cublaslt = cublaslt, .cublaslt_tokens = 1};
}

// What the library calls itself.
std::string library_name(int32_t index, const std::string& cublaslt) {
  if (cublaslt.empty()) return "";
  return cuda::cublaslt_name(*cuda::make_backend(options_of({}, {}), cuda_options(index, cublaslt)));
}
#endif

Device find_cpu(const std::string& name, const std::string& isa_name, int32_t threads) {
  const cpu::Isa isa = cpu::parse_isa(isa_name);
  const cpu::CpuDevice cpu = cpu::cpu_device();
  if (threads == 0) threads = cpu.cores;
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return {.name = name,
          .hardware = cpu.model + ", " + cpu::name(isa) + ", " + std::to_string(threads) +
                      (threads == 1 ? " thread" : " threads"),
          .emulated = false,
          .capability = 0,
          .attends_in_bf16 = isa == cpu::Isa::amx,
          .library = "",
          .cache_bytes = std::min(size_t(std::max(cache, 0L)), kMostCpuCache),
          .open = [isa, threads](const BackendOptions& options) -> std::unique_ptr<Backend> {
            return cpu::make_backend(options, {cpu::name(isa), threads});
          },
          .measure = [isa, threads] { return measure_cpu(isa, threads); }};
}

#if defined(BATON_CUDA)
constexpr size_t kMostCudaCache = 128 * kMiB;  // no less than the second-level cache of any GPU of today

Ceilings measure_cuda(int32_t index) {
  // What is measured is the current device.
  const auto current = cuda::make_backend(options_of({}, {}), cuda_options(index, ""));
  const double copied = cuda::copy_bytes_per_second(8 * kMostCudaCache);
  return {
      copied,  // a GPU reads about as fast as it copies
      copied,
      {0, cuda::matrix_operations_per_second(WeightType::bf16), cuda::matrix_operations_per_second(WeightType::int8)}};
}

Device find_cuda(const std::string& name, int32_t index, const std::string& cublaslt) {
  const cuda::CudaDevices found = cuda::find_devices();
  REQUIRE(index < int32_t(found.devices.size()), "DEVICE_UNAVAILABLE",
          found.devices.empty() ? found.reason : "expected a device below " + std::to_string(found.devices.size()));
  return {.name = name,
          .hardware = found.devices[size_t(index)].name,
          .emulated = false,
          .capability = 0,
          .attends_in_bf16 = true,
          .library = library_name(index, cublaslt),
          .cache_bytes = kMostCudaCache,
          .open = [how = cuda_options(index, cublaslt)](
                      const BackendOptions& options) { return cuda::make_backend(options, how); },
          .measure = [index] { return measure_cuda(index); }};
}
#endif

#if defined(BATON_EMULATOR)
// capability: major * 10 + minor.
Device find_emulator(const std::string& name, int32_t capability, const std::string& cublaslt) {
  return {.name = name,
          .hardware = "CUDA kernels on this processor",
          .emulated = true,
          .capability = capability,
          .attends_in_bf16 = true,
          .library = library_name(0, cublaslt),
          .cache_bytes = 0,
          .open = [how = cuda_options(0, cublaslt)](
                      const BackendOptions& options) { return cuda::make_backend(options, how); },
          .measure = [] { return Ceilings{}; }};
}
#endif

}  // namespace

Device find_device(const std::string& name, int32_t threads, const std::string& cublaslt) {
  const size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  const std::string rest = colon == std::string::npos ? "" : name.substr(colon + 1);
  if (kind == "cpu") {
    REQUIRE(cublaslt.empty(), "INVALID_OPTION", "--cublaslt: expected a GPU, got --device " + name);
    return find_cpu(name, rest.empty() ? "auto" : rest, threads);
  }
#if defined(BATON_CUDA)
  const bool numbered = !rest.empty() && rest.size() < 4 && rest.find_first_not_of("0123456789") == std::string::npos;
  if (name == "cuda" || (kind == "cuda" && numbered)) return find_cuda(name, numbered ? std::stoi(rest) : 0, cublaslt);
#endif
#if defined(BATON_EMULATOR)
  if (name == "cuda-emu" || name == "cuda-emu:9.0") return find_emulator(name, 90, cublaslt);
  if (name == "cuda-emu:8.0") return find_emulator(name, 80, cublaslt);
#endif
  throw Error("INVALID_OPTION", "--device: expected one that this program was built for, got " + name);
}

void use_library([[maybe_unused]] Backend& backend, [[maybe_unused]] bool uses) {
#if defined(BATON_CUDA) || defined(BATON_EMULATOR)
  cuda::set_cublaslt_tokens(backend, uses ? 1 : std::numeric_limits<int32_t>::max());
#endif
}

std::vector<Schedule> schedules(const Device& device) {
  if (!device.emulated) return {{"", ""}};
  std::vector<Schedule> all;
  for (const char* order : {"forward", "reverse", "random"}) {
    for (const char* async : {"eager", "deferred"}) all.push_back({order, async});
  }
  return all;
}

void follow([[maybe_unused]] const Device& device, [[maybe_unused]] const Schedule& schedule,
            [[maybe_unused]] uint64_t seed) {
#if defined(BATON_EMULATOR)
  if (!device.emulated) return;
  emulator::Options options;
  options.order = schedule.order == "forward"   ? emulator::Order::forward
                  : schedule.order == "reverse" ? emulator::Order::reverse
                                                : emulator::Order::random;
  options.async = schedule.async == "eager" ? emulator::Async::eager : emulator::Async::deferred;
  options.seed = seed;
  options.major = device.capability / 10;
  options.minor = device.capability % 10;
  options.isolated = schedule.order == "forward" && schedule.async == "eager";  // half the time goes into protecting
  emulator::configure(options);
#endif
}

}  // namespace baton::ops
