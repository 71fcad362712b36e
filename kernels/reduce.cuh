// Sums and maxima over a warp or a block; every thread gets the result, whose order of terms is fixed.
#pragma once
#include "device.cuh"

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

struct Sum {
  template <class T> static __device__ __forceinline__ T merge(T a, T b) { return a + b; }
  template <class T> static __device__ __forceinline__ T identity() { return T(0); }
};

// A NaN wins, so that it shows in the result.
struct Max {
  static __device__ __forceinline__ float merge(float a, float b) { return a > b || a != a ? a : b; }
  template <class T> static __device__ __forceinline__ T identity() { return T(-INFINITY); }
};

template <class Op, class T> __device__ __forceinline__ T warp_reduce(T v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v = Op::merge(v, __shfl_xor_sync(kFullWarp, v, offset));
  return v;
}

// `scratch` holds a value of each per warp, kWarp apart; it may be used again as soon as this returns.
template <class Op, int N, class T> __device__ void block_reduce(T (&v)[N], T* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  for (int i = 0; i < N; ++i) {
    v[i] = warp_reduce<Op>(v[i]);
    if (lane == 0) scratch[i * kWarp + warp] = v[i];
  }
  __syncthreads();
  for (int i = 0; i < N; ++i)
    v[i] = warp_reduce<Op>(lane < warps ? scratch[i * kWarp + lane] : Op::template identity<T>());
  __syncthreads();
}

template <class Op, class T> __device__ T block_reduce(T v, T* scratch) {
  T values[1] = {v};
  block_reduce<Op>(values, scratch);
  return values[0];
}
