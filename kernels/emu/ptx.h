// The tensor-core and async-copy instructions of ptx.cuh, on the host.
#pragma once
#include "cuda.h"


// D += A·B, A 16x16 row-major, B 16x8 column-major, fragments as in the PTX ISA.
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct { float* d; const uint32_t *a, *b; } frame{d, a, b};
  emu::meet_warp(frame, [](auto** lane) {
    float A[16][16], B[16][8];
    for (int l = 0; l < 32; ++l) {
      const int row = l / 4, col = l % 4 * 2;
      for (int i = 0; i < 4; ++i) {
        float* dst = &A[row + i % 2 * 8][col + i / 2 * 8];
        dst[0] = low_float(lane[l]->a[i]); dst[1] = high_float(lane[l]->a[i]);
      }
      for (int i = 0; i < 2; ++i) {
        B[col + i * 8][row] = low_float(lane[l]->b[i]); B[col + i * 8 + 1][row] = high_float(lane[l]->b[i]);
      }
    }
    float D[16][8] = {};
    for (int m = 0; m < 16; ++m)
      for (int k = 0; k < 16; ++k)
        for (int n = 0; n < 8; ++n) D[m][n] += A[m][k] * B[k][n];
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i) lane[l]->d[i] += D[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
  });
}

// Four 8x8 matrices; lane 8*i+r points at row r of matrix i.
inline void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  struct { uint32_t* out; const void* row; } frame{out, row};
  emu::meet_warp(frame, [](auto** lane) {
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i)
        std::memcpy(&lane[l]->out[i], static_cast<const char*>(lane[8 * i + l / 4]->row) + l % 4 * 4, 4);
  });
}
inline void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row) {
  struct { uint32_t* out; const void* row; } frame{out, row};
  emu::meet_warp(frame, [](auto** lane) {
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i) {
        uint16_t pair[2];
        for (int h = 0; h < 2; ++h)
          std::memcpy(&pair[h], static_cast<const char*>(lane[8 * i + l % 4 * 2 + h]->row) + l / 4 * 2, 2);
        std::memcpy(&lane[l]->out[i], pair, 4);
      }
  });
}
inline void cp_async_16(void* to, const void* from, int bytes = 16) {
  std::memset(to, 0, 16);
  std::memcpy(to, from, size_t(bytes));
}
inline void cp_async_commit() {}
template <int N> void cp_async_wait() {}
inline float exp2_approx(float x) { return std::exp2(x); }
