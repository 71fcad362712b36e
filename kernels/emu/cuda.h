// Executes CUDA kernels on the host: one block at a time, one fiber per thread.
//
// Compiled only when __CUDACC__ is not defined. It covers the dialect that
// kernels/README.md allows and nothing else; anything outside fails to compile.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static thread_local

struct dim3 { unsigned x = 1, y = 1, z = 1; };
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emu {

constexpr int kWarp = 32, kMaxThreads = 1024;
constexpr size_t kStack = 64 << 10;

// Threads that meet: a warp or a whole block. The last to arrive runs the
// operation for everyone, reading and writing the others' frames in place.
struct Group {
  int size = 0, arrived = 0;
  unsigned generation = 0;
  const void* kind = nullptr;
  void* frame[kMaxThreads];
};

struct Block {
  const char* kernel;
  Group all, warp[kMaxThreads / kWarp];
  std::vector<unsigned char> shared;
  void* stack_pointer[kMaxThreads];
  bool done[kMaxThreads];
  const unsigned* waits_on[kMaxThreads];  // a group's generation, and the
  unsigned waits_while[kMaxThreads];      // value it has until that group has met
  void* scheduler = nullptr;
  int self = 0;
  uint64_t progress = 0;
};
inline thread_local Block block;

[[noreturn]] inline void fail(const char* why) {
  std::fprintf(stderr, "%s: %s (block %u, thread %d)\n", block.kernel, why, blockIdx.x, block.self);
  std::abort();
}

extern "C" void emu_switch(void** save, void* load);
void yield();

template <class Run> struct Kind { static constexpr char tag = 0; };

template <class Frame, class Run>
void meet(Group& group, int rank, Frame& mine, Run run) {
  const void* kind = &Kind<Run>::tag;
  if (group.arrived == 0) group.kind = kind;
  if (group.kind != kind) fail("threads met in different collectives");
  group.frame[rank] = &mine;
  const unsigned generation = group.generation;
  ++block.progress;
  if (++group.arrived == group.size) {
    run(reinterpret_cast<Frame**>(group.frame));
    group.arrived = 0;
    ++group.generation;
    return;
  }
  block.waits_on[block.self] = &group.generation;
  block.waits_while[block.self] = generation;
  yield();
}

template <class Frame, class Run>
void meet_warp(Frame& mine, Run run) {
  meet(block.warp[block.self / kWarp], block.self % kWarp, mine, run);
}

}  // namespace emu

inline void __syncthreads() {
  char none = 0;
  emu::meet(emu::block.all, emu::block.self, none, [](char**) {});
}
inline void __syncwarp() {
  char none = 0;
  emu::meet_warp(none, [](char**) {});
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  if (mask != 0xffffffffu) emu::fail("only full-warp shuffles are in the dialect");
  struct { T in, out; int xor_with; } frame{value, value, lane_mask};
  emu::meet_warp(frame, [](auto** lane) {
    for (int i = 0; i < emu::kWarp; ++i) lane[i]->out = lane[i ^ lane[i]->xor_with]->in;
  });
  return frame.out;
}
template <class T> T __shfl_sync(unsigned, T value, int source) {
  struct { T in, out; int from; } frame{value, value, source};
  emu::meet_warp(frame, [](auto** lane) {
    for (int i = 0; i < emu::kWarp; ++i) lane[i]->out = lane[lane[i]->from]->in;
  });
  return frame.out;
}
template <class T> T __shfl_up_sync(unsigned, T value, int delta) {
  struct { T in, out; int by; } frame{value, value, delta};
  emu::meet_warp(frame, [](auto** lane) {
    for (int i = 0; i < emu::kWarp; ++i) lane[i]->out = lane[i < lane[i]->by ? i : i - lane[i]->by]->in;
  });
  return frame.out;
}
template <class T> T __shfl_down_sync(unsigned, T value, int delta) {
  struct { T in, out; int by; } frame{value, value, delta};
  emu::meet_warp(frame, [](auto** lane) {
    for (int i = 0; i < emu::kWarp; ++i) lane[i]->out = lane[i + lane[i]->by < emu::kWarp ? i + lane[i]->by : i]->in;
  });
  return frame.out;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  struct { int in; unsigned out; } frame{predicate, 0};
  emu::meet_warp(frame, [](auto** lane) {
    unsigned all = 0;
    for (int i = 0; i < emu::kWarp; ++i) all |= unsigned(lane[i]->in != 0) << i;
    for (int i = 0; i < emu::kWarp; ++i) lane[i]->out = all;
  });
  return frame.out;
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(unsigned(v)); }
inline unsigned __float_as_uint(float v) { unsigned bits; std::memcpy(&bits, &v, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float v; std::memcpy(&v, &bits, 4); return v; }
template <class T> T* dynamic_shared() { return reinterpret_cast<T*>(emu::block.shared.data()); }
template <class T> T atomicAdd(T* p, T v) { T old = *p; *p += v; return old; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }

struct bf16 { uint16_t bits; };
inline float to_float(bf16 v) { uint32_t b = uint32_t(v.bits) << 16; float f; std::memcpy(&f, &b, 4); return f; }
inline float to_float(float v) { return v; }
template <class T> T from_float(float v);
template <> inline float from_float<float>(float v) { return v; }
template <> inline bf16 from_float<bf16>(float v) {
  uint32_t b; std::memcpy(&b, &v, 4);
  if (std::isnan(v)) return {uint16_t((b >> 16) | 0x40)};
  return {uint16_t((b + 0x7fff + ((b >> 16) & 1)) >> 16)};
}
