// The head's tiles of the vocabulary, and one tile of one row for the kernels that draw from it.
#pragma once
#include "tile.cuh"

// Columns of a vocabulary tile, part of the numerical definition.
constexpr int kVocabularyTile = 256;

// The word that holds values k and k + 1 of a row of c, k even; zeros past its end.
__device__ __forceinline__ uint32_t word_at(const bf16* row, int k, int c) {
  if (k >= c) return 0;
  const uint32_t word = *reinterpret_cast<const uint32_t*>(row + k);
  return k + 1 < c ? word : word & 0xffff;
}

// One row of the product by mma.sync, 32 columns to a warp: row 0 of the fragments of A is the row, the others are zeros.
__device__ inline void row_logits(float* logits, const bf16* hidden, const bf16* weight, int first, int v, int c, int stride) {
  const int group = threadIdx.x % kWarp / 4, pair = threadIdx.x % 4 * 2, warp = threadIdx.x / kWarp * 32;
  const int length = group == 0 ? c : 0;
  float sums[4][4] = {};
  for (int k = pair; k < c + pair; k += 16) {
    const uint32_t a[4] = {word_at(hidden, k, length), 0, word_at(hidden, k + 8, length), 0};
    for (int j = 0; j < 4; ++j) {
      const int column = first + warp + 8 * j + group;
      const bf16* row = weight + size_t(column) * stride;
      const uint32_t b[2] = {word_at(row, k, column < v ? c : 0), word_at(row, k + 8, column < v ? c : 0)};
      mma_m16n8k16(sums[j], a, b);
    }
  }
  for (int i = 0; i < 8; ++i) {
    const int column = warp + 8 * (i / 2) + pair + i % 2;
    if (group == 0) logits[column] = first + column < v ? sums[i / 2][i % 2] : -INFINITY;
  }
}

// The same by fused multiply-adds, a column to a thread.
__device__ inline void row_logits(float* logits, const float* hidden, const float* weight, int first, int v, int c, int stride) {
  constexpr int kStep = 4;
  const int column = first + threadIdx.x;
  const float* row = weight + size_t(column) * stride;
  const int whole = column < v ? c / kStep * kStep : 0;
  float sum = column < v ? 0.0f : -INFINITY;
  for (int k = 0; k < whole; k += kStep) {
    float a[kStep], b[kStep];
    load<kStep>(a, hidden + k);
    load<kStep>(b, row + k);
    for (int i = 0; i < kStep; ++i) sum = fmaf(a[i], b[i], sum);
  }
  for (int k = whole; column < v && k < c; ++k) sum = fmaf(hidden[k], row[k], sum);
  logits[threadIdx.x] = sum;
}

// `logits` [256], in shared memory: those of one hidden row [c] in one tile of `weight` [v, c], the very bits that
// head_forward computed; −∞ past the vocabulary. For a block of 256 threads, which all see the logits on return.
template <class T>
__device__ void head_tile_row(float* logits, const T* hidden, const T* weight, int tile, int v, int c, int weight_stride) {
  row_logits(logits, hidden, weight, tile * kVocabularyTile, v, c, weight_stride);
  __syncthreads();
}
