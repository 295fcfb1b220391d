#include "cpu/isa.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#if defined(__x86_64__)
#include <sys/syscall.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "core/error.h"

namespace baton::cpu {

namespace {

#if defined(__x86_64__)
// Linux gives a process the use of AMX's tile registers only when asked (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA).
bool permit_tiles() {
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

#if defined(__aarch64__)
// Every processor of Apple's has them.
bool has_dot_products() {
#if defined(__APPLE__)
  return true;
#else
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
}
#endif

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Processors this process may run on, one per physical core.
int32_t affine_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    std::set<std::string> cores;
    int32_t unknown = 0;
    for (int i = 0; i < CPU_SETSIZE; i++) {
      if (!CPU_ISSET(i, &set)) continue;
      const std::string siblings =
          first_line("/sys/devices/system/cpu/cpu" + std::to_string(i) + "/topology/thread_siblings_list");
      if (siblings.empty()) {
        unknown++;
      } else {
        cores.insert(siblings);
      }
    }
    return int32_t(cores.size()) + unknown;
  }
#endif
  return int32_t(std::thread::hardware_concurrency());
}

// Processors' worth of time the control group grants, or a large number.
int32_t quota_cores() {
  std::istringstream line(first_line("/sys/fs/cgroup/cpu.max"));
  double quota = 0, period = 0;
  if (line >> quota >> period && period > 0) return std::max(1, int32_t(std::ceil(quota / period)));
  return INT32_MAX;
}

std::string processor_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::amx:
      return "amx";
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    case Isa::neon:
      return "neon";
    case Isa::scalar:
      break;
  }
  return "scalar";
}

std::vector<Isa> usable_isas() {
  std::vector<Isa> isas;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  const bool amx = avx512 && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
                   __builtin_cpu_supports("amx-int8") && permit_tiles();
  if (amx) isas.push_back(Isa::amx);
  if (avx512) isas.push_back(Isa::avx512);
  if (avx2) isas.push_back(Isa::avx2);
#elif defined(__aarch64__)
  if (has_dot_products()) isas.push_back(Isa::neon);
#endif
  isas.push_back(Isa::scalar);
  return isas;
}

Isa parse_isa(const std::string& text) {
  const std::vector<Isa> usable = usable_isas();
  if (text == "auto") return usable.front();
  for (const Isa isa : {Isa::amx, Isa::avx512, Isa::avx2, Isa::neon, Isa::scalar}) {
    if (text != name(isa)) continue;
    REQUIRE(std::find(usable.begin(), usable.end(), isa) != usable.end(), "DEVICE_UNAVAILABLE",
            "isa: this processor has no " + text + "; the best it has is " + name(usable.front()));
    return isa;
  }
  throw Error("INVALID_OPTION", "isa: expected auto, amx, avx512, avx2, neon or scalar, got " + text);
}

CpuDevice cpu_device() {
  CpuDevice device;
  for (const Isa isa : usable_isas()) device.isas.push_back(name(isa));
  device.cores = std::max(1, std::min(affine_cores(), quota_cores()));
  device.model = processor_model();
  return device;
}

}  // namespace baton::cpu
