// A CUDA driver without a GPU: device memory is host memory, kernels run on the emulator, and every misuse that a real
// driver would let pass ends the process. Copies are done as late as CUDA may do them. Faults are asked for by variables.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>

namespace stub {

// The status of the process's misuse, told apart from every status of the programs under test.
constexpr int kMisused = 99;

// Tells what the program did wrong and ends it.
[[noreturn]] void misuse(const char* call, const char* why);

struct Stream {
  std::deque<std::function<void()>> work;
};

// Does all work of a stream.
void flush(Stream* stream);

// Checks a stream of this process.
Stream* checked(const char* call, void* stream);

// Checks that `bytes` bytes from `address` on lie inside one device allocation.
void check_device(const char* call, uint64_t address, size_t bytes);

// Checks that the call comes after a context was made current on its thread.
void check_context(const char* call);

// The number in a variable, or `otherwise`.
long long setting(const char* name, long long otherwise);

}  // namespace stub
