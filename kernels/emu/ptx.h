// The instructions of gpu/ptx.cuh, on the host.
#pragma once
#include "cuda.h"
#include "mma.h"

// D += A·B: A 16×16 row-major, B 16×8 column-major, fragments as in the PTX ISA. Each element adds its 16 products to
// D's in float, k ascending; a tensor core adds them in another order and truncates, so its results differ in the last bits.
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  using namespace emu;
  block.fragments[lane_id()] = {d, a, b};
  meet_warp(Collective::kMma, [] { multiply_warp(block.fragments, 1, 1); });
}

// D[i][j] += A[i]·B[j]: M·N mma_m16n8k16 that the emulator executes as one, which saves most of its time.
template <int M, int N>
inline void mma_tiles(float (&d)[M][N][4], const uint32_t (&a)[M][4], const uint32_t (&b)[N][2]) {
  using namespace emu;
  block.fragments[lane_id()] = {d[0][0], a[0], b[0]};
  meet_warp(Collective::kMma, [] { multiply_warp(block.fragments, M, N); });
}

namespace emu {
// All lanes bring a row of 16 bytes; the result holds until their next collective but one.
inline const unsigned char (*gather_rows(Collective collective, const void* row))[8][16] {
  check_shared(name_of(collective), row);
  block.rows[lane_id()] = row;
  const unsigned char (*matrices)[8][16] = block.matrices[block.round];
  meet_warp(collective, [] {
    for (int i = 0; i < kLanes; ++i) std::memcpy(block.matrices[block.round][i / 8][i % 8], block.rows[i], 16);
    block.round ^= 1;
  });
  return matrices;
}
}  // namespace emu

// Four 8×8 matrices of 16-bit values; lane 8·i + r points at row r of matrix i, on 16 bytes.
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  const auto matrices = emu::gather_rows(emu::Collective::kLdmatrix, row);
  const int lane = emu::lane_id();
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], &matrices[i][lane / 4][lane % 4 * 4], 4);
}

// The same, each matrix transposed.
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  const auto matrices = emu::gather_rows(emu::Collective::kLdmatrixTrans, row);
  const int lane = emu::lane_id();
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
  check_shared("cp_async_16 to", to);
  check_aligned("cp_async_16 from", from);
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
