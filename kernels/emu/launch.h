// What the host calls, safe to call from several threads at once.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Calls a kernel with its arguments; entry.h makes one from the kernel.
typedef void (*toedit_entry)(void** args);

// Runs a kernel to its end: blocks one after the other, the threads of a block in ascending
// or, where `reversed` is not 0, in descending order. `args` points at the arguments, each of
// exactly the parameter's type. `name` is used in errors only.
//
// Returns null, or what the kernel or the launch did wrong. The text belongs to the calling
// thread and holds until its next call. After an error the kernel's outputs are undefined.
const char* toedit_emulate(const char* name, toedit_entry entry, const uint32_t grid[3], uint32_t threads,
                           size_t shared_bytes, void** args, int reversed);

// Under AddressSanitizer, a kernel that touches forbidden bytes is stopped: for what the host puts around the buffers that
// it makes. Without, these do nothing. What is to be freed must be allowed again.
void toedit_forbid(const void* at, size_t bytes);
void toedit_allow(const void* at, size_t bytes);

#ifdef __cplusplus
}
#endif
