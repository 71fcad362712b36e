// Sums over the rows of a matrix, column by column, in an order that depends on the number of rows alone.
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

// The columns of a block are a strip as wide as a warp's vectors.
template <class T> constexpr int kStrip = kWarp * kLanes<T>;

// total[i] = Σ row(r)[i] for r = first, first + step, ... below count; several rows are under way at a time.
template <int N, class Row>
__device__ __forceinline__ void sum_rows(float (&total)[N], int first, int step, int count, Row row) {
  constexpr int kBatch = 4;
  for (float& sum : total) sum = 0.0f;
  int r = first;
  for (; r + (kBatch - 1) * step < count; r += kBatch * step) {
    float v[kBatch][N];
    for (int k = 0; k < kBatch; ++k) load(v[k], row(r + k * step));
    for (int k = 0; k < kBatch; ++k)
      for (int i = 0; i < N; ++i) total[i] += v[k][i];
  }
  for (; r < count; r += step) {
    float v[N];
    load(v, row(r));
    for (int i = 0; i < N; ++i) total[i] += v[i];
  }
}

// Calls `write(i, Σ row(r)[i])` for each column i < n of the strip that begins at `start`; rows are `vectors` where each
// begins on 16 bytes. A warp takes each kth row, k warps, and their sums are added in order. Dynamic shared memory holds
// a strip of floats per warp.
template <class T, class Row, class Write>
__device__ __forceinline__ void sum_columns(int start, int n, int count, bool vectors, Row row, Write write) {
  constexpr int N = kLanes<T>;
  float* sums = dynamic_shared<float>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int column = start + lane * N;
  float total[N];
  if (vectors && column + N <= n) {
    sum_rows(total, warp, warps, count, [=](int r) { return row(r) + column; });
  } else {
    for (int i = 0; i < N; ++i) {
      float one[1];
      sum_rows(one, warp, warps, column + i < n ? count : 0, [=](int r) { return row(r) + column + i; });
      total[i] = one[0];
    }
  }
  for (int i = 0; i < N; ++i) sums[warp * kStrip<T> + i * kWarp + lane] = total[i];
  __syncthreads();
  for (int k = threadIdx.x; k < kStrip<T>; k += blockDim.x) {
    float sum = 0.0f;
    for (int w = 0; w < warps; ++w) sum += sums[w * kStrip<T> + k];
    const int i = start + k % kWarp * N + k / kWarp;
    if (i < n) write(i, sum);
  }
}
