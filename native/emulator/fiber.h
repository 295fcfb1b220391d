#pragma once

#include <cstddef>

#include "emulator/sanitizer.h"

#if !defined(__x86_64__) || defined(BATON_EMULATOR_UCONTEXT)
#define BATON_UCONTEXT 1
#include <ucontext.h>
#else
#define BATON_UCONTEXT 0
#endif

namespace baton::emulator {

// A stack and a place in the code to go on from. Which one runs is known to the caller of resume only.
class Fiber {
 public:
  Fiber();                          // the stack the caller runs on
  explicit Fiber(void (*entry)());  // one of its own, on which entry runs when first resumed; it never returns
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves the running fiber, `from`, for this one; returns when `from` is resumed.
  void resume(Fiber& from);
  // Forgets where this fiber was, without unwinding its stack; the next resume enters it anew.
  void restart();

  // As ThreadSanitizer knows it. A fiber with a stack of its own has its own actor until told otherwise.
  Actor actor = nullptr;

 private:
  // Called by whoever runs first after a switch.
  void arrive();
  static void start();

  void (*entry_)() = nullptr;
  char* memory_ = nullptr;  // of the stack, behind a page that nobody can touch
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
#if BATON_UCONTEXT
  ucontext_t context_;
#else
  void* top_ = nullptr;  // of the stack, while another fiber runs
#endif
};

}  // namespace baton::emulator
