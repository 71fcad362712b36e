// Rows of values, read and written in vectors of up to 16 bytes and computed with in float.
#pragma once
#include "device.cuh"

// How many values of T fill the widest access, 16 bytes.
template <class T> constexpr int kLanes = 16 / sizeof(T);

// As many of N values as one access takes.
template <int N, class T> struct alignas((N < kLanes<T> ? N : kLanes<T>) * sizeof(T)) Vector {
  static constexpr int count = N < kLanes<T> ? N : kLanes<T>;
  T lane[count];
};

template <int N, class T> __device__ __forceinline__ bool aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(Vector<N, T>) == 0;
}

// `p` is aligned for N values, here and in `store`.
template <int N, class T> __device__ __forceinline__ void load(float (&v)[N], const T* p) {
  using V = Vector<N, T>;
  for (int first = 0; first < N; first += V::count) {
    V vector;
    if constexpr (sizeof(V) == 16) vector = load16<V>(p + first);
    else vector = *reinterpret_cast<const V*>(p + first);
    for (int i = 0; i < V::count; ++i) v[first + i] = to_float(vector.lane[i]);
  }
}

template <int N, class T> __device__ __forceinline__ void store(T* p, const float (&v)[N]) {
  using V = Vector<N, T>;
  for (int first = 0; first < N; first += V::count) {
    V vector;
    for (int i = 0; i < V::count; ++i) vector.lane[i] = from_float<T>(v[first + i]);
    if constexpr (sizeof(V) == 16) store16(p + first, vector);
    else *reinterpret_cast<V*>(p + first) = vector;
  }
}

// The number of values that a call of `each_column`'s function handles, known as it is compiled.
template <int N> struct Lanes {
  static constexpr int count = N;
};

// The threads of a block share a row of n values: `f(first, Lanes<N>)` for whole vectors, where rows are aligned for
// them, then `f(index, Lanes<1>)` for each value left.
template <int N, class F> __device__ __forceinline__ void each_column(int n, bool vectors, F f) {
  const int whole = vectors ? n / N * N : 0;
  for (int i = threadIdx.x * N; i < whole; i += blockDim.x * N) f(i, Lanes<N>{});
  for (int i = whole + threadIdx.x; i < n; i += blockDim.x) f(i, Lanes<1>{});
}
