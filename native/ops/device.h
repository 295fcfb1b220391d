#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace baton::ops {

// What a machine gives, measured in the same run as what is held against it.
struct Ceilings {
  double read_per_second;           // bytes
  double copied_per_second;         // bytes, those read and those written
  double operations_per_second[3];  // by WeightType, 0 where not known; a multiply and an addition count as two

  double operations(WeightType type) const { return operations_per_second[size_t(type)]; }
};

// Something that ops run on. device.cpp is the only file here that knows backends by name.
struct Device {
  std::string name;      // as it was asked for: cpu, cpu:avx2, cuda, cuda:1, cuda-emu, cuda-emu:8.0
  std::string hardware;  // for people
  bool emulated;         // too slow for the shapes of real models
  int32_t capability;    // emulated: the compute capability, times ten
  bool attends_in_bf16;  // q, and the weights of values, are rounded to bf16 where keys and values are kept so
  std::string library;   // that computes all products of bf16; empty: none. It does not obey the law of numerics
  size_t cache_bytes;    // what is larger is read from memory
  std::function<std::unique_ptr<Backend>(const BackendOptions&)> open;
  std::function<Ceilings()> measure;
};

// threads: of a processor; 0: all it has. cublaslt: of a GPU, as CudaOptions have it. INVALID_OPTION,
// DEVICE_UNAVAILABLE.
Device find_device(const std::string& name, int32_t threads, const std::string& cublaslt);

// Whether a backend of a device that has a library lets that compute from now on.
void use_library(Backend& backend, bool uses);

// An order in which the emulator runs what real hardware may run in any: threads, and copies that nobody waits for.
struct Schedule {
  std::string order;  // forward, reverse, random
  std::string async;  // eager: at once; deferred: as late as the waits allow
};

// Those that `device` knows; one without names for real hardware.
std::vector<Schedule> schedules(const Device& device);

// Makes what is opened from now on run so. The seed is that of the random order.
void follow(const Device& device, const Schedule& schedule, uint64_t seed);

}  // namespace baton::ops
