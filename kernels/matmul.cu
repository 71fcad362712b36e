// Matrix products, sums in f32:
//
//   nt:  D[M, N] = Σ_k A[m, k] · B[n, k]     the forward pass: B holds weights [outputs, inputs]
//   nn:  D[M, N] = Σ_k A[m, k] · B[k, n]     gradients of activations
//   tn:  D[M, N] = Σ_k A[k, m] · B[k, n]     gradients of weights
//
// `matmul_*` stores D + bias as T. `matmul_*_add_*` adds it to a D in f32: the residual stream, or gradients that
// accumulate. `bias` is f32 [N], or null.
//
// A block computes 128×128 outputs in 128 threads and 48 KiB of shared memory, so that two fit on a multiprocessor and one
// multiplies while the other stores. It reads 2·128·k values for 128·128·k multiply-adds. The grid is one-dimensional,
// ceil(M / 128) · ceil(N / 128) blocks.
#include "tile.cuh"

constexpr int kColumns = 128;
constexpr int kStages = 3;

// Stores two neighbouring outputs; the second may lie past the end.
template <class T> __device__ __forceinline__ void put(T* d, const float (&v)[2], bool both) {
  if (both) store<2>(d, v);
  else d[0] = from_float<T>(v[0]);
}

__device__ __forceinline__ void add(float* d, const float (&v)[2], bool both) {
  d[0] += v[0];
  if (both) d[1] += v[1];
}

// Runs `write(row, column, values, both)` over the pairs of neighbouring outputs that lie inside.
template <class Tile, class Write>
__device__ __forceinline__ void each_pair(const Sums& sums, const float* bias, Place at, int m, int n, Write write) {
  const int lane = threadIdx.x % kWarp;
  const int row = at.row * kTileRows + Tile::warp_row() + lane / 4;
  const int column = at.column * Tile::kColumns + Tile::warp_column() + lane % 4 * 2;
  for (int j = 0; j < 8; ++j) {
    const int c = column + 8 * j;
    if (c >= n) return;
    const bool both = c + 1 < n;
    const float first = bias != nullptr ? bias[c] : 0.0f, second = bias != nullptr && both ? bias[c + 1] : 0.0f;
    for (int i = 0; i < 8; ++i) {
      const float* pair = sums.at[i / 2][j] + i % 2 * 2;
      const float v[2] = {pair[0] + first, pair[1] + second};
      if (row + 8 * i < m) write(row + 8 * i, c, v, both);
    }
  }
}

template <class T, Runs a_runs, Runs b_runs, class Write>
__device__ __forceinline__ void product(const T* a, const T* b, const float* bias, int m, int n, int k, int lda, int ldb,
                                        Write write) {
  using Tile = Tile<T, kColumns, kStages, a_runs, b_runs>;
  const Place at = place(blockIdx.x, (m + kTileRows - 1) / kTileRows, (n + kColumns - 1) / kColumns);
  Sums sums;
  const auto rows = Tile::LoadA::of(a, at.row * kTileRows, m, lda, k);
  const auto columns = Tile::LoadB::of(b, at.column * kColumns, n, ldb, k);
  Tile::multiply(sums, rows, columns, k, dynamic_shared<T>());
  each_pair<Tile>(sums, bias, at, m, n, write);
}

template <class T, Runs a_runs, Runs b_runs>
__device__ void matmul(T* d, const T* a, const T* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) {
  product<T, a_runs, b_runs>(a, b, bias, m, n, k, lda, ldb, [=](int row, int column, const float (&v)[2], bool both) {
    put(d + size_t(row) * ldd + column, v, both);
  });
}

template <class T, Runs a_runs, Runs b_runs>
__device__ void matmul_add(float* d, const T* a, const T* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) {
  product<T, a_runs, b_runs>(a, b, bias, m, n, k, lda, ldb, [=](int row, int column, const float (&v)[2], bool both) {
    add(d + size_t(row) * ldd + column, v, both);
  });
}

constexpr Runs kK = Runs::over_k, kOuter = Runs::over_outer;

extern "C" __global__ void __launch_bounds__(128) matmul_nt_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_bf16(bf16* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_bf16(bf16* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kOuter, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_bf16(bf16* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kOuter, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_add_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul_add<float, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_add_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul_add<bf16, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_add_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul_add<float, kK, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_add_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul_add<bf16, kK, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_add_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul_add<float, kOuter, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_add_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul_add<bf16, kOuter, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
