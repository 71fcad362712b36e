// Counter-based random numbers, as src/random.rs has them: a draw is a pure function of what it is for.
#pragma once
#include "device.cuh"

// The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11). Its first two words:
struct Words { uint32_t first, second; };

__device__ __forceinline__ Words philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t key) {
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(b >> 32) ^ c1 ^ k0;
    c1 = uint32_t(b);
    c2 = uint32_t(a >> 32) ^ c3 ^ k1;
    c3 = uint32_t(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1};
}

// Strictly between 0 and 1: in float the largest words would round to 1.
__device__ __forceinline__ double uniform(uint32_t word) { return (double(word) + 0.5) / 4294967296.0; }

// The random numbers of one position: `tag` holds the purpose in its top 4 bits and the generation in the next 20.
struct Random {
  uint64_t seed;
  uint32_t stream_low, stream_high, position, tag;

  __device__ __forceinline__ Words draw(uint32_t index) const {
    return philox4x32(stream_low, stream_high, position, tag | index, seed);
  }
};
