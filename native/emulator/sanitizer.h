#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// What the emulator tells AddressSanitizer and ThreadSanitizer; nothing where they are not built in.
namespace baton::emulator {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
inline void poison(const void* from, size_t bytes) { __asan_poison_memory_region(from, bytes); }
inline void unpoison(const void* from, size_t bytes) { __asan_unpoison_memory_region(from, bytes); }
// The first byte that must not be touched, or null.
inline const void* find_poison(const void* from, size_t bytes) {
  return __asan_region_is_poisoned(const_cast<void*>(from), bytes);
}
#else
constexpr bool kAddressSanitizer = false;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
inline const void* find_poison(const void*, size_t) { return nullptr; }
#endif

#if defined(__SANITIZE_THREAD__)

constexpr bool kThreadSanitizer = true;
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* key);
void __tsan_release(void* key);
void __tsan_read_range(const void* from, size_t bytes);
void __tsan_write_range(void* to, size_t bytes);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}

// One of the threads that ThreadSanitizer tells apart: a CUDA thread, a stream, a copy engine, or the host.
using Actor = void*;
inline Actor make_actor() { return __tsan_create_fiber(0); }
inline Actor this_actor() { return __tsan_get_current_fiber(); }
inline void destroy_actor(Actor actor) { __tsan_destroy_fiber(actor); }
// Without ordering the two.
inline void switch_actor(Actor to) { __tsan_switch_to_fiber(to, 1); }

// What an actor does before it publishes a key precedes what another does after it received the key.
inline void publish(const void* key) { __tsan_release(const_cast<void*>(key)); }
inline void receive(const void* key) { __tsan_acquire(const_cast<void*>(key)); }

// The emulator's own state belongs to no actor: between these the current one's accesses are not seen.
inline void hide_accesses() { __tsan_ignore_thread_begin(); }
inline void show_accesses() { __tsan_ignore_thread_end(); }

// Accesses in the name of the current actor; it must not be hidden.
inline void note_read(const void* from, size_t bytes) { __tsan_read_range(from, bytes); }
inline void note_write(void* to, size_t bytes) { __tsan_write_range(to, bytes); }

#else

constexpr bool kThreadSanitizer = false;
using Actor = void*;
inline Actor make_actor() { return nullptr; }
inline Actor this_actor() { return nullptr; }
inline void destroy_actor(Actor) {}
inline void switch_actor(Actor) {}
inline void publish(const void*) {}
inline void receive(const void*) {}
inline void hide_accesses() {}
inline void show_accesses() {}
inline void note_read(const void*, size_t) {}
inline void note_write(void*, size_t) {}

#endif

struct Hidden {
  Hidden() { hide_accesses(); }
  ~Hidden() { show_accesses(); }
  Hidden(const Hidden&) = delete;
};

}  // namespace baton::emulator
