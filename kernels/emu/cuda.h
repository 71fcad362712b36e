// CUDA's names, as far as the dialect of kernels/README.md has them: the rest does not compile.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "block.h"

#define __global__
#define __device__
#define __launch_bounds__(...)

__forceinline__ void __syncthreads() {
  using namespace emu;
  if (arrive_block(Collective::kSyncThreads)) go(1 - block.threads);
  else go(1);
}

__forceinline__ void __syncwarp(unsigned mask = 0xffffffffu) {
  emu::check_mask(emu::Collective::kSyncWarp, mask);
  emu::meet_warp(emu::Collective::kSyncWarp, [] {});
}

namespace emu {
// Returns lane `source`'s value. As in the PTX ISA, only the low five bits of a lane or a distance count.
template <class T> __forceinline__ T exchange(Collective collective, unsigned mask, T value, unsigned source) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
  check_mask(collective, mask);
  uint64_t* values = block.values[block.round];
  std::memcpy(&values[lane_id()], &value, sizeof(T));
  meet_warp(collective, [] { block.round ^= 1; });
  std::memcpy(&value, &values[source], sizeof(T));
  return value;
}
}  // namespace emu

template <class T> __forceinline__ T __shfl_sync(unsigned mask, T value, int source) {
  return emu::exchange(emu::Collective::kShuffle, mask, value, unsigned(source) % 32);
}
template <class T> __forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return emu::exchange(emu::Collective::kShuffleXor, mask, value, emu::lane_id() ^ unsigned(lane_mask) % 32);
}
// Lanes without a source keep their value.
template <class T> __forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  const unsigned lane = emu::lane_id(), by = delta % 32;
  return emu::exchange(emu::Collective::kShuffleUp, mask, value, by > lane ? lane : lane - by);
}
template <class T> __forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  const unsigned lane = emu::lane_id(), source = lane + delta % 32;
  return emu::exchange(emu::Collective::kShuffleDown, mask, value, source > 31 ? lane : source);
}

__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
  using namespace emu;
  check_mask(Collective::kBallot, mask);
  unsigned& votes = block.ballots[block.round];
  if (block.position % kLanes == 0) votes = 0;
  votes |= unsigned(predicate != 0) << lane_id();
  meet_warp(Collective::kBallot, [] { block.round ^= 1; });
  return votes;
}

// The block's shared memory, NaN at its start.
template <class T> T* dynamic_shared() {
  static_assert(alignof(T) <= 128);
  emu::block.shared_used = true;
  return reinterpret_cast<T*>(emu::block.shared);
}

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

// 16 bytes at once, from or to an address on 16 bytes, as any 16-byte type V.
template <class V> V load16(const void* from) {
  static_assert(sizeof(V) == 16);
  emu::check_aligned("load16", from);
  V v;
  std::memcpy(&v, from, 16);
  return v;
}
template <class V> void store16(void* to, const V& v) {
  static_assert(sizeof(V) == 16);
  emu::check_aligned("store16", to);
  std::memcpy(to, &v, 16);
}

struct bf16 { uint16_t bits; };

inline float __uint_as_float(unsigned bits) { float v; std::memcpy(&v, &bits, 4); return v; }
inline unsigned __float_as_uint(float v) { unsigned bits; std::memcpy(&bits, &v, 4); return bits; }

inline float to_float(float v) { return v; }
inline float to_float(bf16 v) { return __uint_as_float(unsigned(v.bits) << 16); }

// Rounds to nearest, ties to even.
template <class T> T from_float(float v);
template <> inline float from_float<float>(float v) { return v; }
template <> inline bf16 from_float<bf16>(float v) {
  const unsigned bits = __float_as_uint(v);
  if (v != v) return {0x7fff};  // as a GPU does
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// Two values in one register, the first in the low half.
inline unsigned pack_bf16(float low, float high) {
  return from_float<bf16>(low).bits | unsigned(from_float<bf16>(high).bits) << 16;
}
inline float low_float(unsigned pair) { return __uint_as_float(pair << 16); }
inline float high_float(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(unsigned(v)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
template <class T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <class T> constexpr T max(T a, T b) { return a < b ? b : a; }
