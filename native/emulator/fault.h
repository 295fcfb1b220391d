#pragma once

#include <source_location>
#include <string>

// What CUDA leaves undefined, found while a kernel runs.
namespace baton::emulator {

using Where = std::source_location;  // of the call in the kernel

// Reports the fault with the running thread's place and where the others wait; ends the kernel or the process, see
// on_fault.
[[noreturn]] void fault(const std::string& what, const Where& where = Where::current());

}  // namespace baton::emulator
