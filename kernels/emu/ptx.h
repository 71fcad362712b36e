// The instructions of gpu/ptx.cuh, on the host.
#pragma once
#include "cuda.h"

// D[i][j] += A[i]·B[j]: M·N mma_m16n8k16 that the emulator executes as one, in much less time.
template <int M, int N>
__forceinline__ void mma_tiles(float (&d)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
  static_assert(M <= 8 && N <= 8 && M * N <= emu::kMaxTiles);
  using namespace emu;
  Operands& warp = block.operands;
  const unsigned lane = lane_id(), group = lane / 4, pair = lane % 4 * 2;
#pragma GCC unroll 32
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) warp.a[i][r][lane] = a[i][r];
#pragma GCC unroll 32
  for (int j = 0; j < N; ++j)
#pragma GCC unroll 4
    for (int r = 0; r < 2; ++r) {
      warp.b[j][r * 8 + pair][group] = __uint_as_float(b[j][r] << 16);
      warp.b[j][r * 8 + pair + 1][group] = __uint_as_float(b[j][r] & 0xffff0000u);
    }
#pragma GCC unroll 32
  for (int t = 0; t < M * N; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < 2; ++r) std::memcpy(&warp.d[t][r][group][pair], &d[t / N][t % N][r * 2], 8);
  meet_warp(Collective::kMma, [] { multiply(block.operands, M, N); });
#pragma GCC unroll 32
  for (int t = 0; t < M * N; ++t)
#pragma GCC unroll 4
    for (int r = 0; r < 2; ++r) std::memcpy(&d[t / N][t % N][r * 2], &warp.d[t][r][group][pair], 8);
}

// D += A·B: A 16×16 row-major, B 16×8 column-major, fragments as in the PTX ISA. Each element of D adds its 16 products
// one after the other in float, k ascending; a tensor core adds them together and truncates, so its last bits differ.
__forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_tiles<1, 1>(reinterpret_cast<float (&)[1][1][4]>(d), reinterpret_cast<const uint32_t (&)[1][4]>(a),
                  reinterpret_cast<const uint32_t (&)[1][2]>(b));
}

namespace emu {
// Each lane brings a row of 16 bytes, read as it comes; the result holds until the warp's next collective but one.
__forceinline__ const unsigned char (*gather_rows(Collective collective, const void* row))[8][16] {
  check_shared(name_of(collective), row);
  auto* matrices = block.matrices[block.round];
  std::memcpy(matrices[lane_id() / 8][lane_id() % 8], row, 16);
  meet_warp(collective, [] { block.round ^= 1; });
  return matrices;
}
}  // namespace emu

// Four 8×8 matrices of 16-bit values; lane 8·i + r points at row r of matrix i, on 16 bytes.
__forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  const auto matrices = emu::gather_rows(emu::Collective::kLdmatrix, row);
  const unsigned lane = emu::lane_id();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], &matrices[i][lane / 4][lane % 4 * 4], 4);
}

// The same, each matrix transposed.
__forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  const auto matrices = emu::gather_rows(emu::Collective::kLdmatrixTrans, row);
  const unsigned lane = emu::lane_id();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    uint16_t low, high;
    std::memcpy(&low, &matrices[i][lane % 4 * 2][lane / 4 * 2], 2);
    std::memcpy(&high, &matrices[i][lane % 4 * 2 + 1][lane / 4 * 2], 2);
    r[i] = low | uint32_t(high) << 16;
  }
}

// Copies `bytes` (0 to 16) from global to 16 bytes of shared memory and zeros the rest; both on 16 bytes.
// It lands as late as it may, at this thread's wait; until then the place holds NaN.
inline void cp_async_16(void* to, const void* from, int bytes = 16) {
  using namespace emu;
  check_shared("the target of cp_async_16", to);
  check_aligned("the source of cp_async_16", from);
  if (bytes < 0 || bytes > 16) [[unlikely]] fail("cp_async_16 of %d bytes", bytes);
  std::memset(to, 0xff, 16);
  Fiber& me = self();
  me.copies.push_back({to, from, unsigned(bytes), me.commits});
}

inline void cp_async_commit() { ++emu::self().commits; }

// Waits until at most N of this thread's groups are under way.
template <int N> void cp_async_wait() {
  emu::Fiber& me = emu::self();
  size_t landed = 0;
  for (; landed < me.copies.size() && me.copies[landed].group + N < me.commits; ++landed) {
    const emu::Copy& copy = me.copies[landed];
    std::memset(copy.to, 0, 16);
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
  me.copies.erase(me.copies.begin(), me.copies.begin() + ptrdiff_t(landed));
}

// 2^x to 2 ulp; results below the normal numbers are 0.
inline float exp2_approx(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}
