#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace baton::cpu {

// Instruction sets a step can run on; where a processor has several, each has the ones before it as fallback. `scalar`
// is plain loops, everywhere. `neon` is that of arm64 with the dot products of int8 (ASIMDDP).
enum class Isa { scalar, neon, avx2, avx512, amx };

const char* name(Isa isa);
std::vector<Isa> usable_isas();  // best first; ends with scalar
Isa parse_isa(
    const std::string& text);  // "auto": the best; INVALID_OPTION if unknown, DEVICE_UNAVAILABLE if not usable here

struct CpuDevice {
  std::vector<std::string> isas;  // usable here, best first
  int32_t cores;                  // this process may use: affinity, control group quota, one per physical core
  std::string model;
};
CpuDevice cpu_device();

}  // namespace baton::cpu
