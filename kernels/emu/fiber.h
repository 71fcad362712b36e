// Stacks and the switch between them. A fiber belongs to one OS thread for life.
#pragma once
#include <cstddef>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define EMU_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define EMU_ASAN 0
#endif

namespace emu {

struct Stack {
  void* pointer = nullptr;       // where it stopped
  const void* bottom = nullptr;  // its lowest byte
  size_t size = 0;
#if EMU_ASAN
  void* fake = nullptr;
#endif
};

// Saves the callee's registers and the stack pointer, goes on at `to`. In launch.cpp.
extern "C" void toedit_emu_switch(void** from, void* to) __asm__("toedit_emu_switch");

// Returns when something switches back to `from`.
[[gnu::always_inline]] inline void switch_stack(Stack& from, const Stack& to) {
#if EMU_ASAN
  __sanitizer_start_switch_fiber(&from.fake, to.bottom, to.size);
#endif
  toedit_emu_switch(&from.pointer, to.pointer);
#if EMU_ASAN
  __sanitizer_finish_switch_fiber(from.fake, nullptr, nullptr);
#endif
}

}  // namespace emu
