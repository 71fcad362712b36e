// Matrix products, sums in f32:
//
//   nt:  D[M, N] = Σ_k A[m, k] · B[n, k]     the forward pass: B holds weights [outputs, inputs]
//   nn:  D[M, N] = Σ_k A[m, k] · B[k, n]     gradients of activations
//   tn:  D[M, N] = Σ_k A[k, m] · B[k, n]     gradients of weights
//
// `matmul_*` stores D + bias as T, `matmul_nt_exact_*` in f32: logits. `matmul_*_add_*` adds it to a D in f32: the residual
// stream, or gradients that accumulate. `bias` is f32 [N], or null.
//
// A block computes 128×128 outputs in 128 threads and 48 KiB of shared memory, so that two fit on a multiprocessor and one
// multiplies while the other stores. It reads 2·128·k values for 128·128·k multiply-adds. The grid is one-dimensional,
// ceil(M / 128) · ceil(N / 128) blocks.
#include "tile.cuh"

constexpr int kColumns = 128;
constexpr int kStages = 3;

// A thread's sums in two neighbouring columns: rows 0, 8, ..., 56 from its first one.
constexpr int kThreadRows = 8;
using Pairs = float[kThreadRows][2];

// Every bias is read before the first store, which might change it for all that the compiler knows.
__device__ __forceinline__ void add_bias(Sums& sums, const float* bias, int n) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int column = i / 2 * 8 + i % 2;
    const float value = column < n ? bias[column] : 0.0f;
    for (int row = 0; row < kThreadRows; ++row) sums.at[row / 2][i / 2][row % 2 * 2 + i % 2] += value;
  }
}

// Adds what `d` holds in `rows` rows and N columns, all read before the first store: one wait for memory, not one a row.
template <int N> __device__ __forceinline__ void add(Pairs& v, const float* d, int rows, int ldd) {
  float held[kThreadRows][N] = {};
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i)
    if (8 * i < rows) load<N>(held[i], d + size_t(8 * i) * ldd);
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i)
    for (int c = 0; c < N; ++c) v[i][c] += held[i][c];
}

template <int N, bool adds, class D> __device__ __forceinline__ void put(D* d, Pairs& v, int rows, int ldd) {
  if constexpr (adds) add<N>(v, d, rows, ldd);
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    if (8 * i >= rows) continue;
    if constexpr (N == 2) store<2>(d + size_t(8 * i) * ldd, v[i]);
    else d[size_t(8 * i) * ldd] = from_float<D>(v[i][0]);
  }
}

// Stores this thread's outputs that lie inside, or adds them to `d`.
template <class Tile, bool adds, class D>
__device__ __forceinline__ void write(D* d, Sums& sums, const float* bias, Place at, int m, int n, int ldd) {
  const int lane = threadIdx.x % kWarp;
  const int row = at.row * kTileRows + Tile::warp_row() + lane / 4;
  const int column = at.column * Tile::kColumns + Tile::warp_column() + lane % 4 * 2;
  if (bias != nullptr) add_bias(sums, bias + column, n - column);
  d += size_t(row) * ldd + column;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const int left = n - column - 8 * j;
    Pairs v;
    for (int i = 0; i < 2 * kThreadRows; ++i) v[i / 2][i % 2] = sums.at[i / 4][j][i % 4];
    if (left > 1) put<2, adds>(d + 8 * j, v, m - row, ldd);
    else if (left == 1) put<1, adds>(d + 8 * j, v, m - row, ldd);
  }
}

template <class T, Runs a_runs, Runs b_runs, bool adds = false, class D>
__device__ void matmul(D* d, const T* a, const T* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) {
  using Tile = Tile<T, kColumns, kStages, a_runs, b_runs>;
  const Place at = place(blockIdx.x, (m + kTileRows - 1) / kTileRows, (n + kColumns - 1) / kColumns);
  Sums sums;
  const auto rows = Tile::LoadA::of(a, at.row * kTileRows, m, lda, k);
  const auto columns = Tile::LoadB::of(b, at.column * kColumns, n, ldb, k);
  Tile::multiply(sums, rows, columns, k, dynamic_shared<T>());
  write<Tile, adds>(d, sums, bias, at, m, n, ldd);
}

constexpr Runs kK = Runs::over_k, kOuter = Runs::over_outer;

extern "C" __global__ void __launch_bounds__(128) matmul_nt_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_bf16(bf16* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_exact_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_exact_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kK>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_bf16(bf16* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kOuter, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_bf16(bf16* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kOuter, kOuter>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_add_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kK, true>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nt_add_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kK, true>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_add_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kK, kOuter, true>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_nn_add_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kK, kOuter, true>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_add_f32(float* d, const float* a, const float* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<float, kOuter, kOuter, true>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
extern "C" __global__ void __launch_bounds__(128) matmul_tn_add_bf16(float* d, const bf16* a, const bf16* b, const float* bias, int m, int n, int k, int lda, int ldb, int ldd) { matmul<bf16, kOuter, kOuter, true>(d, a, b, bias, m, n, k, lda, ldb, ldd); }
