// One kernel per instruction that the host checks against the PTX ISA.
#include "device.cuh"

template <class T> __device__ __forceinline__ T shuffle(int which, T v, int by) {
  constexpr unsigned all = 0xffffffffu;
  if (which == 0) return __shfl_sync(all, v, by);
  if (which == 1) return __shfl_xor_sync(all, v, by);
  if (which == 2) return __shfl_up_sync(all, v, unsigned(by));
  return __shfl_down_sync(all, v, unsigned(by));
}

// Each lane gives `by` of its own.
extern "C" __global__ void shuffles(int which, const int* by, int* i, float* f, double* d, unsigned long long* u) {
  const int t = threadIdx.x;
  i[t] = shuffle(which, i[t], by[t]);
  f[t] = shuffle(which, f[t], by[t]);
  d[t] = shuffle(which, d[t], by[t]);
  u[t] = shuffle(which, u[t], by[t]);
}

extern "C" __global__ void ballot(unsigned* out, const int* votes) {
  out[threadIdx.x] = __ballot_sync(0xffffffffu, votes[threadIdx.x]);
}

// Fragments by thread.
extern "C" __global__ void mma(float* d, const uint32_t* a, const uint32_t* b) {
  float sums[4];
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) sums[i] = d[threadIdx.x * 4 + i];
  for (int i = 0; i < 4; ++i) left[i] = a[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) right[i] = b[threadIdx.x * 2 + i];
  mma_m16n8k16(sums, left, right);
  for (int i = 0; i < 4; ++i) d[threadIdx.x * 4 + i] = sums[i];
}

// Three steps of mma_tiles, or the same one by one.
extern "C" __global__ void tiles(float* d, const uint32_t* a, const uint32_t* b, int together) {
  constexpr int M = 2, N = 3;
  float sums[M][N][4] = {};
  for (int k = 0; k < 3; ++k) {
    uint32_t left[M][4], right[N][2];
    for (int i = 0; i < M * 4; ++i) left[i / 4][i % 4] = a[(threadIdx.x + k * blockDim.x) * M * 4 + i];
    for (int i = 0; i < N * 2; ++i) right[i / 2][i % 2] = b[(threadIdx.x + k * blockDim.x) * N * 2 + i];
    if (together) mma_tiles(sums, left, right);
    else
      for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) mma_m16n8k16(sums[i][j], left[i], right[j]);
  }
  for (int i = 0; i < M * N * 4; ++i) d[threadIdx.x * M * N * 4 + i] = sums[i / 4 / N][i / 4 % N][i % 4];
}

// Lane l reads the row at `at[l]`, in values from the start of shared memory, which holds `memory`.
extern "C" __global__ void ldmatrix(uint32_t* out, const bf16* memory, const int* at, int size, int transposed) {
  bf16* s = dynamic_shared<bf16>();
  for (int i = threadIdx.x; i < size; i += blockDim.x) s[i] = memory[i];
  __syncthreads();
  uint32_t r[4];
  if (transposed) ldmatrix_x4_trans(r, s + at[threadIdx.x]);
  else ldmatrix_x4(r, s + at[threadIdx.x]);
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = r[i];
}
