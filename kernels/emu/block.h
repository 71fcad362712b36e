// The block that runs: its threads take turns, each on its own stack.
//
// Within a warp a thread runs until it comes to a collective, then the next one does; when the
// last has come, the first goes on. At __syncthreads the next warp runs; when the last warp has
// come, the first goes on. So all that threads may do in any order on a GPU is done in one order
// here, and in the opposite one when the launch is reversed: a race shows as a difference.
//
// As collectives are full-warp or full-block, this order is fixed, nothing is searched for, and
// threads that would wait for ever are seen as soon as two of them reach different collectives.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "fiber.h"
#include "mma.h"

// A `return` after a switch of stacks is mispredicted, so nothing that switches is a call.
#define __forceinline__ inline __attribute__((always_inline))

struct dim3 { unsigned x = 1, y = 1, z = 1; };
inline constinit thread_local dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, blockDim, gridDim;

namespace emu {

constexpr unsigned kLanes = 32, kMaxThreads = 1024;

enum class Collective : uint8_t {
  kEnd, kSyncThreads, kSyncWarp, kShuffle, kShuffleXor, kShuffleUp, kShuffleDown, kBallot, kMma, kLdmatrix,
  kLdmatrixTrans
};

inline const char* name_of(Collective collective) {
  static constexpr const char* kNames[] = {"the kernel's end", "__syncthreads",    "__syncwarp",       "__shfl_sync",
                                           "__shfl_xor_sync",  "__shfl_up_sync",   "__shfl_down_sync", "__ballot_sync",
                                           "mma",              "ldmatrix_x4",      "ldmatrix_x4_trans"};
  return kNames[size_t(collective)];
}

// A cp.async under way, in the thread's commit group of that number.
struct Copy {
  void* to;
  const void* from;
  unsigned bytes, group;
};

struct alignas(64) Fiber {
  Stack stack;
  std::vector<Copy> copies;  // oldest first
  unsigned commits = 0;
};

// Of the OS thread, whose launches use it in turn.
struct Block {
  Fiber* fibers;
  Stack host;                  // the launch that waits for the block
  unsigned position, threads;  // the running fiber, in the order of turns
  unsigned step;               // from one position to the next in thread numbers: 1 or -1
  unsigned round;              // which half of the doubled buffers is written next
  Collective lane, warp;       // what the running warp's first lane has reached, and what the first warp has
  bool shared_used;
  unsigned char* shared;
  size_t shared_bytes;

  // What lanes leave for each other. Doubled where a lane may read after another has gone on to its next collective.
  uint64_t values[2][kLanes];
  unsigned ballots[2];
  alignas(16) unsigned char matrices[2][4][8][16];
  Operands operands;
};
inline constinit thread_local Block block{};

// Ends the launch with this reason; the block's fibers are abandoned. In launch.cpp.
[[noreturn, gnu::format(printf, 1, 2), gnu::cold]] void fail(const char* format, ...);
[[noreturn, gnu::cold]] void fail_mixed(Collective mine, Collective theirs, unsigned their_position, const char* of);

inline unsigned lane_id() { return threadIdx.x % kLanes; }
inline Fiber& self() { return block.fibers[block.position]; }

// Gives the turn to the fiber `by` positions on; back, where `by` wraps around.
__forceinline__ void go(unsigned by) {
  Stack& from = self().stack;
  block.position += by;
  threadIdx.x += by * block.step;
  switch_stack(from, self().stack);
}

// Notes that this lane has come; true for the last of its warp.
__forceinline__ bool arrive(Collective collective) {
  const unsigned turn = block.position % kLanes;
  if (turn == 0) block.lane = collective;
  else if (block.lane != collective) [[unlikely]]
    fail_mixed(collective, block.lane, block.position - turn, "warp");
  return turn == kLanes - 1;
}

// Returns when all lanes of the warp have come; the last of them runs `together` for all.
template <class Together> __forceinline__ void meet_warp(Collective collective, Together together) {
  if (!arrive(collective)) return go(1);
  together();
  go(1 - kLanes);
}

// Notes that this thread has come to a block's collective; true for the last of the block.
__forceinline__ bool arrive_block(Collective collective) {
  if (arrive(collective)) {
    if (block.position == kLanes - 1) block.warp = collective;
    else if (block.warp != collective) [[unlikely]]
      fail_mixed(collective, block.warp, 0, "block");
  }
  return block.position == block.threads - 1;
}

inline void check_mask(Collective collective, unsigned mask) {
  if (mask != 0xffffffffu) [[unlikely]]
    fail("%s with the mask 0x%08x: only the full warp is in the dialect", name_of(collective), mask);
}

inline void check_aligned(const char* what, const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) [[unlikely]]
    fail("%s at %p, which is not a multiple of 16", what, address);
}

// 16 bytes of the block's shared memory.
inline void check_shared(const char* what, const void* address) {
  check_aligned(what, address);
  const auto offset = static_cast<const unsigned char*>(address) - block.shared;
  if (offset < 0 || size_t(offset) + 16 > block.shared_bytes) [[unlikely]]
    fail("%s outside the block's %zu bytes of shared memory (at offset %td)", what, block.shared_bytes, offset);
}

}  // namespace emu
