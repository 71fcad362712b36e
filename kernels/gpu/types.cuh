// Types and conversions that the host build has too.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }

// Rounds to nearest, ties to even.
template <class T> __device__ T from_float(float v);
template <> __device__ __forceinline__ float from_float<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float v) { return __float2bfloat16_rn(v); }

// Two values in one register, the first in the low half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float low_float(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_float(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// The block's shared memory; its size is given at the launch.
template <class T> __device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

// 16 bytes at once, from or to an address on 16 bytes, as any 16-byte type V: float4, uint4, a struct of 8 bf16.
template <class V> __device__ __forceinline__ V load16(const void* from) {
  static_assert(sizeof(V) == 16);
  const uint4 raw = *static_cast<const uint4*>(from);
  V v;
  memcpy(&v, &raw, 16);
  return v;
}
template <class V> __device__ __forceinline__ void store16(void* to, const V& v) {
  static_assert(sizeof(V) == 16);
  uint4 raw;
  memcpy(&raw, &v, 16);
  *static_cast<uint4*>(to) = raw;
}
