// Makes a launch.h entry of a kernel. For each kernel file the build compiles, as C++20, a text like
//
//   #include "emu/entry.h"
//   namespace {
//   #include "norm.cu"
//   }
//   extern "C" void toedit_entry_rms_norm_f32(void** args) { emu::call(rms_norm_f32, args); }
//
// The namespace keeps helpers of the same name in different kernel files apart; system headers come with entry.h.
#pragma once
#include <cstddef>
#include <utility>

#include "cuda.h"
#include "ptx.h"

namespace emu {

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(args[I])...);
}

template <class... A> void call(void (*kernel)(A...), void** args) {
  call(kernel, args, std::index_sequence_for<A...>{});
}

}  // namespace emu
