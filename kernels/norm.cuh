// Rows that a warp or a block normalises: read once into registers, or again and again from cache.
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

struct Layer {
  static constexpr bool kCentred = true;
};

struct Rms {
  static constexpr bool kCentred = false;
};

// Threads that share a row.
struct Warp {
  static __device__ __forceinline__ int rank() { return threadIdx.x % kWarp; }
  static __device__ __forceinline__ int size() { return kWarp; }
  template <int N> static __device__ __forceinline__ void sum(float (&v)[N]) {
    for (float& value : v) value = warp_reduce<Sum>(value);
  }
};

struct Block {
  static __device__ __forceinline__ int rank() { return threadIdx.x; }
  static __device__ __forceinline__ int size() { return blockDim.x; }
  // The start of shared memory is for these sums.
  template <int N> static __device__ __forceinline__ void sum(float (&v)[N]) {
    block_reduce<Sum>(v, dynamic_shared<float>());
  }
};

// Weight and bias may be null.
struct Parameters {
  const float* weight;
  const float* bias;
  float eps;
  float share;  // 1 / C

  __device__ __forceinline__ bool vectors() const { return aligned<4>(weight) && aligned<4>(bias); }
};

// A row that waits in registers, up to V values per thread: thread r of a team holds the vectors r, r + size, ...
template <class Team, class T, int V> struct Resident {
  static constexpr int kVectors = V / 4;
  int c;
  float value[kVectors][4];

  __device__ __forceinline__ Resident(const T* row, int c) : c(c) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
      if (column(k) < c) load(value[k], row + column(k));
  }

  static __device__ __forceinline__ int column(int k) { return (k * Team::size() + Team::rank()) * 4; }

  // Calls f(column, values) for each of the thread's vectors.
  template <class F> __device__ __forceinline__ void each(F f) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
      if (column(k) < c) f(column(k), value[k]);
  }
};

// A row that is read from memory each time, value by value: any length, any alignment.
template <class Team, class T> struct Reread {
  const T* row;
  int c;

  __device__ __forceinline__ Reread(const T* row, int c) : row(row), c(c) {}

  template <class F> __device__ __forceinline__ void each(F f) {
    for (int i = Team::rank(); i < c; i += Team::size()) {
      float v[1] = {to_float(row[i])};
      f(i, v);
    }
  }
};

template <class Team, class Row, class F> __device__ __forceinline__ float sum(Row& row, F f) {
  float total[1] = {};
  row.each([&](int, const auto& values, const auto&...) {
    for (float v : values) total[0] += f(v);
  });
  Team::sum(total);
  return total[0];
}

// x += v
template <int N> __device__ __forceinline__ void add(float* x, const float (&v)[N]) {
  float sum[N];
  load(sum, x);
  for (int i = 0; i < N; ++i) sum[i] += v[i];
  store(x, sum);
}
