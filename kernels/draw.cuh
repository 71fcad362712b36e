// Drawing a token from logits.
//
// Candidates are ordered by logit descending, id ascending. One 64-bit rank says so: the logit's bits in the order of floats,
// then the id's complement. Ranks differ, so ties need no care, and nothing is sorted: the k-th largest, the end of a nucleus
// and the draw itself are each the first in the order at which a running weight reaches a number. Weights are
// e^{(l−l₀)/T} in double, l₀ being the largest logit that keeps its weight. Sums have an order that nothing changes.
#pragma once
#include "head.cuh"

struct Largest {
  template <class T> static __device__ __forceinline__ T merge(T a, T b) { return a > b ? a : b; }
  template <class T> static __device__ __forceinline__ T identity() { return T(0); }
};

// Adding 0 makes −0 equal to 0.
__device__ __forceinline__ uint64_t rank_of(float logit, uint32_t id) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return uint64_t(bits >> 31 ? ~bits : bits | 1u << 31) << 32 | uint32_t(~id);
}

// 0 for −∞, which has no weight: it is never drawn, and neither are the columns past the vocabulary.
__device__ __forceinline__ uint64_t candidate(float logit, uint32_t id) {
  return logit == -INFINITY ? 0 : rank_of(logit, id);
}

__device__ __forceinline__ uint32_t id_of(uint64_t rank) { return ~uint32_t(rank); }

__device__ __forceinline__ float logit_of(uint64_t rank) {
  const uint32_t bits = uint32_t(rank >> 32);
  return __uint_as_float(bits >> 31 ? bits & ~(1u << 31) : ~bits);
}

// e^{(l−l₀)/T}, 0 for −∞ whatever l₀ is.
__device__ __forceinline__ double power(float logit, float largest, double inverse_temperature) {
  return logit == -INFINITY ? 0.0 : exp((double(logit) - double(largest)) * inverse_temperature);
}

__device__ __forceinline__ double warp_scan(double v) {
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const double before = __shfl_up_sync(kFullWarp, v, offset);
    if (int(threadIdx.x % kWarp) >= offset) v += before;
  }
  return v;
}

// The first of `n` indices at which the running weight passes u times the total; never past the last with weight, −1 where
// none has. By one warp, each lane summing a run of indices.
template <class F> __device__ int warp_pick(int n, double u, F weight) {
  const int lane = threadIdx.x % kWarp, share = (n + kWarp - 1) / kWarp, first = lane * share, end = min(n, first + share);
  double own = 0.0;
  for (int index = first; index < end; ++index) own += weight(index);
  const double through = warp_scan(own), before = __shfl_up_sync(kFullWarp, through, 1);
  const double target = u * __shfl_sync(kFullWarp, through, kWarp - 1);
  const unsigned positive = __ballot_sync(kFullWarp, own > 0.0);
  const unsigned passing = __ballot_sync(kFullWarp, own > 0.0 && through > target);
  if (positive == 0) return -1;
  const int source = passing != 0 ? __ffs(int(passing)) - 1 : kWarp - 1 - __clz(int(positive));
  int last = -1;
  if (lane == source) {
    double running = lane > 0 ? before : 0.0;
    for (int index = first; index < end && (last < 0 || running <= target); ++index) {
      const double w = weight(index);
      running += w;
      if (w > 0.0) last = index;
    }
  }
  return __shfl_sync(kFullWarp, last, source);
}

// A tile's columns: of those that do not stand, and of x, the logit is −∞.
template <class Stands> struct Columns {
  const float* logits;
  uint32_t first, original;
  Stands stands;

  __device__ __forceinline__ float logit(int column) const {
    const uint32_t id = first + column;
    // Past the vocabulary the logit is −∞, and there is no bit to read.
    return logits[column] != -INFINITY && id != original && stands(id) ? logits[column] : -INFINITY;
  }

  // By one warp, as what follows.
  __device__ float largest() const {
    float largest = -INFINITY;
    for (int column = threadIdx.x % kWarp; column < kVocabularyTile; column += kWarp) largest = fmaxf(largest, logit(column));
    return warp_reduce<Max>(largest);
  }

  __device__ __forceinline__ double weight(int column, float largest, double inverse_temperature) const {
    return power(logit(column), largest, inverse_temperature);
  }

  __device__ double mass(float largest, double inverse_temperature) const {
    double mass = 0.0;
    for (int column = threadIdx.x % kWarp; column < kVocabularyTile; column += kWarp) mass += weight(column, largest, inverse_temperature);
    return warp_reduce<Sum>(mass);
  }

  __device__ uint64_t draw(double inverse_temperature, double u) const {
    const float top = largest();
    const int column = warp_pick(kVocabularyTile, u, [&](int column) { return weight(column, top, inverse_temperature); });
    return column < 0 ? 0 : candidate(logits[column], first + column);
  }
};

template <class Stands> __device__ __forceinline__ Columns<Stands> columns_of(const float* logits, int tile, uint32_t original, Stands stands) {
  return {logits, uint32_t(tile) * kVocabularyTile, original, stands};
}

// The ranks of a row's candidates, in place of its logits: v of them.
struct WholeRow {
  const float* logits;
  int v;

  // Calls f(rank, id, logit) for each of this thread's candidates.
  template <class F> __device__ __forceinline__ void each(F f) const {
    for (int id = threadIdx.x; id < v; id += blockDim.x)
      if (const uint64_t rank = candidate(logits[id], id)) f(rank, uint32_t(id), logits[id]);
  }
};

// What some candidates weigh together, and how many of them have weight.
struct Weight {
  double sum;
  int count;

  __device__ __forceinline__ void add(double weight) {
    sum += weight;
    count += weight > 0.0;
  }
};

// Over the block, in the order of its warps. `scratch` holds one value per warp.
__device__ Weight block_sum(Weight own, Weight* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  own = {warp_reduce<Sum>(own.sum), warp_reduce<Sum>(own.count)};
  if (lane == 0) scratch[warp] = own;
  __syncthreads();
  Weight total{0.0, 0};
  for (int w = 0; w < warps; ++w) total = {total.sum + scratch[w].sum, total.count + scratch[w].count};
  __syncthreads();
  return total;
}

// The first candidate in the order at which the running weight reaches `target` > 0, or the last that has weight; 0 where
// none has. Weights of 0 are passed over. Bisects the ranks: `above` is the weight of all above `high`, `inside` counts
// those from `low` to `high`, among which the answer is.
template <class F> __device__ uint64_t first_reaching(WholeRow row, double target, Weight* scratch, F weight) {
  uint64_t low = 1, high = ~uint64_t(0);
  const auto weigh = [&](uint64_t from, uint64_t to) {
    Weight own{0.0, 0};
    row.each([&](uint64_t rank, uint32_t id, float logit) {
      if (rank >= from && rank <= to) own.add(weight(rank, id, logit));
    });
    return block_sum(own, scratch);
  };
  double above = 0.0;
  int inside = weigh(low, high).count;
  while (inside > 1) {
    const uint64_t middle = low + (high - low) / 2 + 1;
    const Weight upper = weigh(middle, high);
    if (above + upper.sum >= target || upper.count == inside) {
      low = middle;
      inside = upper.count;
    } else {
      high = middle - 1;
      above += upper.sum;
      inside -= upper.count;
    }
  }
  uint64_t found = 0;
  row.each([&](uint64_t rank, uint32_t id, float logit) {
    if (rank >= low && rank <= high && weight(rank, id, logit) > 0.0) found = rank;
  });
  return block_reduce<Largest>(found, reinterpret_cast<uint64_t*>(scratch));
}
