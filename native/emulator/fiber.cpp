#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cassert>
#include <cstdint>
#include <new>

#if !BATON_UCONTEXT
// Saves the registers that a call preserves on this stack and its top in *save, and takes up the stack whose top is
// load. ucontext would do, but it enters the kernel for the signal mask: six to nine times slower.
extern "C" void baton_switch_stack(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl baton_switch_stack
.hidden baton_switch_stack
.type baton_switch_stack, @function
baton_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size baton_switch_stack, . - baton_switch_stack
)");
#endif

namespace baton::emulator {

namespace {

constexpr size_t kGuardBytes = 4096;
constexpr size_t kStackBytes =
    kAddressSanitizer ? 512 * 1024 : 128 * 1024;  // address space; pages come as they are used

// One fiber runs at a time, whatever OS thread runs it: these need no lock beyond the one that runs grids.
Fiber* running = nullptr;
Fiber* previous = nullptr;

}  // namespace

Fiber::Fiber() = default;

Fiber::Fiber(void (*entry)()) : entry_(entry) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  memory_ = static_cast<char*>(memory);
  stack_ = memory_ + kGuardBytes;
  stack_bytes_ = kStackBytes;
  restart();
}

Fiber::~Fiber() {
  if (memory_ == nullptr) return;
  unpoison(stack_, stack_bytes_);
  munmap(memory_, kGuardBytes + kStackBytes);
}

void Fiber::restart() {
  assert(memory_ != nullptr);
  unpoison(stack_, stack_bytes_);
  fake_stack_ = nullptr;
#if BATON_UCONTEXT
  getcontext(&context_);
  context_.uc_stack.ss_sp = const_cast<void*>(stack_);
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, start, 0);
#else
  // As baton_switch_stack leaves it, with a return to start(), which finds its stack as after a call.
  void** top = reinterpret_cast<void**>(memory_ + kGuardBytes + kStackBytes - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::start);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  top_ = top;
#endif
}

void Fiber::start() {
  running->arrive();
  running->entry_();
}

[[gnu::no_sanitize_thread]] void Fiber::arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &previous->stack_, &previous->stack_bytes_);
#endif
}

[[gnu::no_sanitize_thread]] void Fiber::resume(Fiber& from) {
  previous = &from;
  running = this;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack_, stack_, stack_bytes_);
#endif
  switch_actor(actor);
#if BATON_UCONTEXT
  swapcontext(&from.context_, &context_);
#else
  baton_switch_stack(&from.top_, top_);
#endif
  from.arrive();
}

}  // namespace baton::emulator
