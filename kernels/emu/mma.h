// The arithmetic of mma_m16n8k16, vectorised over the 8 columns of B.
//
// The register i of 32 lanes, one lane after the other, is an 8×8 tile of 16-bit values, row-major:
// A = [a0 a2; a1 a3] in tiles of rows m and columns k, and B = [b0; b1] with each tile transposed.
#pragma once
#include <cstdint>
#include <cstring>

#include "block.h"

namespace emu {

using Row = float __attribute__((vector_size(32)));

// A register's two bf16, the lower half first.
inline void widen(float* out, uint32_t two) {
  const uint32_t bits[2] = {two << 16, two & 0xffff0000u};
  std::memcpy(out, bits, 8);
}

[[gnu::always_inline]] inline void multiply(float (&d)[16][8], const float (&a)[16][16], const Row (&b)[16]) {
  for (int m = 0; m < 16; m += 8) {
    Row sum[8];
    std::memcpy(sum, d[m], sizeof sum);
    for (int k = 0; k < 16; ++k)
      for (int i = 0; i < 8; ++i) sum[i] += a[m + i][k] * b[k];
    std::memcpy(d[m], sum, sizeof sum);
  }
}

[[gnu::always_inline]] inline void multiply_lanes(const Fragments* lanes, int tiles_m, int tiles_n) {
  float a[16][16];
  union { float at[16][8]; Row row[16]; } b;
  float d[16][8];
  for (int j = 0; j < tiles_n; ++j) {
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < 2; ++i) {
        float two[2];
        widen(two, lanes[l].b[j * 2 + i]);
        for (int h = 0; h < 2; ++h) b.at[i * 8 + l % 4 * 2 + h][l / 4] = two[h];
      }
    for (int i = 0; i < tiles_m; ++i) {
      const int tile = (i * tiles_n + j) * 4;
      for (int l = 0; l < kLanes; ++l) {
        for (int r = 0; r < 4; ++r) widen(&a[r % 2 * 8 + l / 4][r / 2 * 8 + l % 4 * 2], lanes[l].a[i * 4 + r]);
        for (int r = 0; r < 2; ++r) std::memcpy(&d[r * 8 + l / 4][l % 4 * 2], &lanes[l].d[tile + r * 2], 8);
      }
      multiply(d, a, b.row);
      for (int l = 0; l < kLanes; ++l)
        for (int r = 0; r < 2; ++r) std::memcpy(&lanes[l].d[tile + r * 2], &d[r * 8 + l / 4][l % 4 * 2], 8);
    }
  }
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma"), gnu::noinline]] inline void multiply_lanes_avx2(const Fragments* lanes, int m, int n) {
  multiply_lanes(lanes, m, n);
}
inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

// d[i][j] += a[i]·b[j] over the fragments of a warp. A fused multiply-add gives the same bits: a product of two bf16 is
// exact in float.
[[gnu::noinline]] inline void multiply_warp(const Fragments* lanes, int m, int n) {
#if defined(__x86_64__)
  static const bool avx2 = has_avx2();
  if (avx2) return multiply_lanes_avx2(lanes, m, n);
#endif
  multiply_lanes(lanes, m, n);
}

}  // namespace emu
