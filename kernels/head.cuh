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

// Adds `Steps` steps of 16 values of k, whose words are all read before the first product: one wait for memory.
// `word(row, k)` is the one that holds value k of the first step.
template <int Steps, class Word>
__device__ __forceinline__ void add_steps(
    float (&sums)[1][4][4], const bf16* hidden, const bf16* const (&rows)[4], Word word) {
  uint32_t a[Steps][1][4] = {}, b[Steps][4][2];
  for (int i = 0; i < 2 * Steps; ++i) {
    if (hidden != nullptr) a[i / 2][0][i % 2 * 2] = word(hidden, 8 * i);
    for (int j = 0; j < 4; ++j) b[i / 2][j][i % 2] = word(rows[j], 8 * i);
  }
  for (int step = 0; step < Steps; ++step) mma_tiles(sums, a[step], b[step]);
}

// One row of the product by mma.sync, 32 columns to a warp: row 0 of the fragments of A is the row, the others are zeros.
__device__ inline void row_logits(float* logits, const bf16* hidden, const bf16* weight, int first, int v, int c, int stride) {
  constexpr int kSteps = 3;  // whose words fit in the 64 registers of a kernel of four blocks to a multiprocessor
  const int group = threadIdx.x % kWarp / 4, pair = threadIdx.x % 4 * 2, warp = threadIdx.x / kWarp * 32;
  const bf16* rows[4];
  for (int j = 0; j < 4; ++j) {
    const int column = first + warp + 8 * j + group;
    rows[j] = weight + size_t(column < v ? column : first) * stride;  // past the end any will do
  }
  if (group != 0) hidden = nullptr;
  float sums[1][4][4] = {};
  int k = pair;
  for (; k - pair + 16 * kSteps <= c; k += 16 * kSteps)
    add_steps<kSteps>(sums, hidden, rows, [=](const bf16* row, int i) { return *reinterpret_cast<const uint32_t*>(row + k + i); });
  for (; k - pair < c; k += 16)
    add_steps<1>(sums, hidden, rows, [=](const bf16* row, int i) { return word_at(row, k + i, c); });
  for (int i = 0; i < 8; ++i) {
    const int column = warp + 8 * (i / 2) + pair + i % 2;
    if (group == 0) logits[column] = first + column < v ? sums[0][i / 2][i % 2] : -INFINITY;
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
