// The arithmetic of mma_m16n8k16, vectorised over the 8 columns of B.
#pragma once
#include <cstdint>
#include <cstring>

namespace emu {

constexpr int kMaxTiles = 32;  // M·N of a mma_tiles, whose M and N are at most 8

// The operands of a warp, where each lane has left its registers. The register i of A or of half of D, one lane after
// the other, is 8 rows of an 8×8 tile; A = [a0 a2; a1 a3], D = [d0; d1].
struct Operands {
  alignas(32) uint32_t a[8][4][32];  // two bf16 each, the lower first
  alignas(32) float b[8][16][8];     // k by n
  alignas(32) float d[kMaxTiles][2][8][8];
};

using Bf16x8 = uint16_t __attribute__((vector_size(16)));
using Wordx8 = uint32_t __attribute__((vector_size(32)));
using Floatx8 = float __attribute__((vector_size(32)));

// A 16×16 tile to float.
[[gnu::always_inline]] inline void widen(float (&out)[16][16], const uint32_t (&registers)[4][32]) {
  for (int r = 0; r < 4; ++r)
    for (int m = 0; m < 8; ++m) {
      Bf16x8 row;
      std::memcpy(&row, &registers[r][m * 4], 16);
      const Wordx8 bits = __builtin_convertvector(row, Wordx8) << 16;
      std::memcpy(&out[r % 2 * 8 + m][r / 2 * 8], &bits, 32);
    }
}

// D += A·B for 8 rows; each element adds its products one after the other, k ascending.
[[gnu::always_inline]] inline void multiply_rows(float (&d)[8][8], const float (*a)[16], const float (&b)[16][8]) {
  Floatx8 sum[8];
  std::memcpy(sum, d, sizeof sum);
#pragma GCC unroll 16
  for (int k = 0; k < 16; ++k) {
    Floatx8 row;
    std::memcpy(&row, b[k], 32);
#pragma GCC unroll 8
    for (int m = 0; m < 8; ++m) sum[m] += a[m][k] * row;
  }
  std::memcpy(d, sum, sizeof sum);
}

// d[i][j] += a[i]·b[j].
[[gnu::noinline]] inline void multiply(Operands& warp, int tiles_m, int tiles_n) {
  float a[16][16];
  for (int i = 0; i < tiles_m; ++i) {
    widen(a, warp.a[i]);
    for (int j = 0; j < tiles_n; ++j)
      for (int half = 0; half < 2; ++half) multiply_rows(warp.d[i * tiles_n + j][half], a + half * 8, warp.b[j]);
  }
}

}  // namespace emu
