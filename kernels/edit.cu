// Edit: which tokens are resampled or dropped, and what stands in their place, without a word to the host between.
//
// The head left for each row its statistics (l_x, m = max_{v≠x} l_v, S = Σ_{v≠x} e^{l_v−m}) and for each of its tiles of 256
// columns the maximum and the mass, the target x left out. From these:
//   decide   outcome[row]: the first rule that holds, by comparing S with e^{l_x−m}·(1−t)/t
//   compact  the rows to resample, ascending, in chunks; their number stays here, and blocks past it return at once
//   tiles    top-k: the k tiles with the largest maxima hold the k largest logits but x's
//   group    which rows want tile t: the list by which the head reads each tile of its weight once (head_tiles)
//   draw     one token for each row: of the k largest (few: in chosen tiles; many: in whole rows), of a nucleus, of all
//   reject   proposals from the masses; only the tile that word 0 picks is computed again
//
// Bytes moved: 4·V/256 for each row resampled and pass over its tiles, 1 KB for each (row, tile) pair; whole rows (top-p, full,
// k above 32) cost 4·V a pass, of which the bisection of ranks makes 30 or so.
#include "draw.cuh"
#include "random.cuh"

constexpr int kMaxProposals = 64;

// One byte a row. A draw without candidates turns kDrawn into kNoAlternative.
enum Outcome : uint8_t { kKept, kNotEditable, kDropped, kNoAlternative, kDrawn };
enum Action : uint32_t { kKeep, kDrop, kResample };
// What p is compared with: t outside 0 to 1 leaves nothing to compare, and t = 1 leaves a sum that must be 0.
enum Test : uint32_t { kNever, kAlways, kCertain, kAtLeast, kAbove };

// A row's origin is 4 words: stream low, stream high, position, and these bits above the class of its allow-mask.
constexpr uint32_t kEditable = 1u << 31, kDroppable = 1u << 30, kOriginalAllowed = 1u << 29;
constexpr uint32_t kClass = kOriginalAllowed - 1;

__device__ __forceinline__ unsigned lanes_below() { return (1u << threadIdx.x % kWarp) - 1; }

// ---- one row

struct Row {
  uint32_t original;
  float target;
  bool original_allowed;
  const uint32_t* mask;
  Random random;

  __device__ __forceinline__ bool allows(uint32_t id) const {
    return id == original ? original_allowed : mask[id / 32] >> id % 32 & 1;
  }
};

__device__ Row row_at(int row, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, int v, uint64_t seed, uint32_t tag) {
  const uint32_t* origin = origins + size_t(row) * 4;
  const uint32_t* mask = masks + size_t(origin[3] & kClass) * ((v + 31) / 32);
  const Random random{seed, origin[0], origin[1], origin[2], tag};
  return {targets[row], statistics[size_t(row) * 3], (origin[3] & kOriginalAllowed) != 0, mask, random};
}

// A rank of 0 stands for no candidate.
__device__ void settle(int row, uint64_t drawn, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  if (drawn == 0) {
    outcomes[row] = kNoAlternative;
  } else {
    new_ids[row] = id_of(drawn);
    new_logits[row] = logit_of(drawn);
  }
}

// ln Σ_v e^{l_v}, x included.
__device__ double log_sum_exp(const float* statistics) {
  const double target = statistics[0], max = statistics[1], rest = statistics[2], lead = target - max;
  return lead >= 0.0 ? target + log1p(rest * exp(-lead)) : max + log(rest + exp(lead));
}

// The last candidate of the k largest, or of the smallest prefix of the order whose softmax mass reaches `mass` (k = 0).
__device__ uint64_t last_candidate(WholeRow row, int k, double mass, const float* statistics, Weight* scratch) {
  if (k > 0) return first_reaching(row, k, scratch, [](uint64_t, uint32_t, float) { return 1.0; });
  const double lse = log_sum_exp(statistics);
  return first_reaching(row, mass, scratch, [=](uint64_t, uint32_t, float logit) { return exp(double(logit) - lse); });
}

// One draw among the candidates down to `last`.
__device__ uint64_t draw_prefix(WholeRow whole, const Row& row, uint64_t last, double inverse_temperature, Weight* scratch) {
  float largest = -INFINITY;
  whole.each([&](uint64_t rank, uint32_t id, float logit) {
    if (rank >= last && row.allows(id)) largest = fmaxf(largest, logit);
  });
  largest = block_reduce<Max>(largest, reinterpret_cast<float*>(scratch));
  const auto weight = [&](uint64_t rank, uint32_t id, float logit) {
    return rank >= last && row.allows(id) ? power(logit, largest, inverse_temperature) : 0.0;
  };
  Weight own{0.0, 0};
  whole.each([&](uint64_t rank, uint32_t id, float logit) { own.add(weight(rank, id, logit)); });
  const double total = block_sum(own, scratch).sum;
  return first_reaching(whole, uniform(row.random.draw(0).first) * total, scratch, weight);
}

// ---- kernels

__device__ bool passes(uint32_t test, double rest, double odds, double factor) {
  switch (test) {
    case kAlways: return true;
    case kCertain: return rest <= 0.0;
    case kAtLeast: return rest <= odds * factor;
    case kAbove: return rest < odds * factor;
    default: return false;
  }
}

// Rule r holds where its first test passes and its second does not: rules[r] = first | second << 8 | action << 16, factors[r] =
// (1−t)/t for each. outcomes [rows]: kDrawn for the rows to resample.
extern "C" __global__ void __launch_bounds__(256) edit_decide(const float* statistics, const uint32_t* origins, int rows, const uint32_t* rules, const double* factors, int rule_count, uint8_t* outcomes) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const float target = statistics[size_t(row) * 3], max = statistics[size_t(row) * 3 + 1], rest = statistics[size_t(row) * 3 + 2];
  const uint32_t constraint = origins[size_t(row) * 4 + 3];
  const bool alone = max == -INFINITY && rest == 0.0f;
  const bool finite = fabsf(target) < INFINITY && fabsf(rest) < INFINITY && (fabsf(max) < INFINITY || alone);
  const double odds = exp(double(target) - double(max));
  uint32_t action = kKeep;
  for (int r = 0; r < rule_count; ++r) {
    const bool first = passes(rules[r] & 0xff, rest, odds, factors[2 * r]);
    if (first && !passes(rules[r] >> 8 & 0xff, rest, odds, factors[2 * r + 1])) {
      action = rules[r] >> 16;
      break;
    }
  }
  Outcome outcome = kDrawn;
  if (!finite || action == kKeep) outcome = kKept;  // what is not finite ends the run by its statistics
  else if (!(constraint & kEditable)) outcome = kNotEditable;
  else if (action == kDrop) outcome = constraint & kDroppable ? kDropped : kNoAlternative;
  outcomes[row] = outcome;
}

// drawn [at most rows]: the rows to resample, ascending. counts [chunks]: how many of them each chunk of `capacity` holds.
// One block.
extern "C" __global__ void __launch_bounds__(1024) edit_compact(const uint8_t* outcomes, int rows, int capacity, int chunks, uint32_t* drawn, uint32_t* counts) {
  int* totals = dynamic_shared<int>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int share = (rows + int(blockDim.x) - 1) / int(blockDim.x) * kWarp;
  const int first = warp * share, end = min(rows, first + share);
  const auto ballot = [&](int start) {
    return __ballot_sync(kFullWarp, start + lane < end && outcomes[start + lane] == kDrawn);
  };
  int own = 0;
  for (int start = first; start < end; start += kWarp) own += __popc(ballot(start));
  if (lane == 0) totals[warp] = own;
  __syncthreads();
  int before = 0, total = 0;
  for (int w = 0; w < warps; ++w) {
    before += w < warp ? totals[w] : 0;
    total += totals[w];
  }
  for (int start = first; start < end; start += kWarp) {
    const unsigned found = ballot(start);
    if (found >> lane & 1) drawn[before + __popc(found & lanes_below())] = start + lane;
    before += __popc(found);
  }
  for (int chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x)
    counts[chunk] = min(max(total - chunk * capacity, 0), capacity);
}

// The kernels below serve one chunk: drawn and counts point at its part.

// chosen [capacity, slots]: for each row drawn the `slots` <= tiles tiles with the largest maxima (ties to the lower tile),
// ascending. A warp for each row.
extern "C" __global__ void __launch_bounds__(128) edit_tiles(const float* maxima, int tiles, const uint32_t* drawn, const uint32_t* counts, int slots, uint32_t* chosen) {
  const int slot = (blockIdx.x * blockDim.x + threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  if (slot >= int(counts[0])) return;
  maxima += size_t(drawn[slot]) * tiles;
  chosen += size_t(slot) * slots;
  uint64_t last = ~uint64_t(0);
  for (int i = 0; i < slots; ++i) {
    uint64_t best = 0;
    for (int tile = lane; tile < tiles; tile += kWarp) {
      const uint64_t rank = rank_of(maxima[tile], tile);
      if (rank < last) best = Largest::merge(best, rank);
    }
    last = warp_reduce<Largest>(best);
  }
  int filled = 0;
  for (int start = 0; start < tiles; start += kWarp) {
    const int tile = start + lane;
    const unsigned found = __ballot_sync(kFullWarp, tile < tiles && rank_of(maxima[tile], tile) >= last);
    if (found >> lane & 1) chosen[filled + __popc(found & lanes_below())] = tile;
    filled += __popc(found);
  }
}

// For tile t = blockIdx.x the pairs (row, slot) that want it, in the order of rows: pairs[t·capacity ..], each row·slots + slot,
// and their number, pair_counts[t].
extern "C" __global__ void __launch_bounds__(256) edit_group(const uint32_t* chosen, const uint32_t* counts, int slots, int capacity, uint32_t* pairs, uint32_t* pair_counts) {
  int* totals = dynamic_shared<int>();
  const int tile = blockIdx.x, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int rows = int(counts[0]);
  pairs += size_t(tile) * capacity;
  int filled = 0;
  for (int start = 0; start < rows; start += blockDim.x) {
    const int row = start + threadIdx.x;
    int slot = 0;
    while (row < rows && slot < slots && int(chosen[size_t(row) * slots + slot]) < tile) ++slot;
    const bool wants = row < rows && slot < slots && int(chosen[size_t(row) * slots + slot]) == tile;
    const unsigned found = __ballot_sync(kFullWarp, wants);
    if (lane == 0) totals[warp] = __popc(found);
    __syncthreads();
    int at = filled + __popc(found & lanes_below());
    for (int w = 0; w < warps; ++w) {
      at += w < warp ? totals[w] : 0;
      filled += totals[w];
    }
    if (wants) pairs[at] = row * slots + slot;
    __syncthreads();
  }
  if (threadIdx.x == 0) pair_counts[tile] = filled;
}

// The best candidate of a tile below a rank, but x. By one warp.
__device__ uint64_t best_below(uint64_t bound, const float* logits, int tile, uint32_t original) {
  uint64_t best = 0;
  for (int column = threadIdx.x % kWarp; column < kVocabularyTile; column += kWarp) {
    const uint32_t id = uint32_t(tile) * kVocabularyTile + column;
    const uint64_t rank = candidate(logits[column], id);
    if (id != original && rank < bound) best = Largest::merge(best, rank);
  }
  return warp_reduce<Largest>(best);
}

// The k <= 32 largest of a row, the best in lane 0. By one warp, lane s holding what is left of slot s.
__device__ uint64_t largest_of(int k, const float* logits, const uint32_t* chosen, int slots, const Row& row) {
  const int lane = threadIdx.x % kWarp;
  uint64_t left = 0, original = candidate(row.target, row.original), own = 0;
  for (int slot = 0; slot < slots; ++slot) {
    const uint64_t best = best_below(~uint64_t(0), logits + size_t(slot) * kVocabularyTile, chosen[slot], row.original);
    if (lane == slot) left = best;
  }
  for (int i = 0; i < k; ++i) {
    uint64_t best = warp_reduce<Largest>(left);
    if (best == 0 && original == 0) break;
    if (original > best) {
      best = original;
      original = 0;
    } else {
      const int slot = __ffs(int(__ballot_sync(kFullWarp, left == best))) - 1;
      const uint64_t next = best_below(best, logits + size_t(slot) * kVocabularyTile, chosen[slot], row.original);
      if (lane == slot) left = next;
    }
    if (lane == i) own = best;
  }
  return own;
}

// top-k for k <= 32 from the logits [capacity, slots, 256] of the chosen tiles. A warp for each row.
extern "C" __global__ void __launch_bounds__(128) edit_top_k(const float* logits, const uint32_t* chosen, int slots, int k, double inverse_temperature, const uint32_t* drawn, const uint32_t* counts, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, int v, uint64_t seed, uint32_t tag, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  const int slot = (blockIdx.x * blockDim.x + threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  if (slot >= int(counts[0])) return;
  const Row row = row_at(drawn[slot], statistics, targets, origins, masks, v, seed, tag);
  const uint64_t own = largest_of(k, logits + size_t(slot) * slots * kVocabularyTile, chosen + size_t(slot) * slots, slots, row);
  const float logit = own != 0 && row.allows(id_of(own)) ? logit_of(own) : -INFINITY;
  const double weight = power(logit, warp_reduce<Max>(logit), inverse_temperature);
  const int index = warp_pick(kWarp, uniform(row.random.draw(0).first), [=](int) { return weight; });
  const uint64_t result = __shfl_sync(kFullWarp, own, max(index, 0));
  if (lane == 0) settle(drawn[slot], index < 0 ? 0 : result, outcomes, new_ids, new_logits);
}

// top-k (k > 0) or top-p (k = 0) from whole rows of logits, each `stride` apart. A block for each row.
extern "C" __global__ void __launch_bounds__(1024, 1) edit_prefix(const float* logits, int stride, int k, double mass, double inverse_temperature, const uint32_t* drawn, const uint32_t* counts, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, int v, uint64_t seed, uint32_t tag, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  Weight* scratch = dynamic_shared<Weight>();
  if (int(blockIdx.x) >= int(counts[0])) return;
  const int index = drawn[blockIdx.x];
  const Row row = row_at(index, statistics, targets, origins, masks, v, seed, tag);
  const WholeRow whole{logits + size_t(blockIdx.x) * stride, v};
  const uint64_t last = last_candidate(whole, k, mass, statistics + size_t(index) * 3, scratch);
  const uint64_t result = draw_prefix(whole, row, last, inverse_temperature, scratch);
  if (threadIdx.x == 0) settle(index, result, outcomes, new_ids, new_logits);
}

// full, from whole rows of logits, each `stride` apart: word 0 picks x or a tile by what may stand there, word 1 a column.
// A block for each row, whose warps then do the same. Shared: 1 + tiles doubles, 1 + tiles floats, 32 floats.
extern "C" __global__ void __launch_bounds__(512) edit_full(const float* logits, int stride, double inverse_temperature, const uint32_t* drawn, const uint32_t* counts, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, int v, uint64_t seed, uint32_t tag, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  if (int(blockIdx.x) >= int(counts[0])) return;
  const int bins = 1 + (v + kVocabularyTile - 1) / kVocabularyTile, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  double* masses = dynamic_shared<double>();
  float *maxima = reinterpret_cast<float*>(masses + bins), *scratch = maxima + bins;
  const int index = drawn[blockIdx.x];
  const Row row = row_at(index, statistics, targets, origins, masks, v, seed, tag);
  logits += size_t(blockIdx.x) * stride;
  const auto columns = [&](int tile) {
    return columns_of(logits + size_t(tile) * kVocabularyTile, tile, row.original, [&](uint32_t id) { return row.allows(id); });
  };
  for (int bin = warp; bin < bins; bin += warps) {
    const float top = bin > 0 ? columns(bin - 1).largest() : row.original_allowed ? row.target : -INFINITY;
    const double mass = bin > 0 ? columns(bin - 1).mass(top, inverse_temperature) : 1.0;
    if (lane == 0) {
      maxima[bin] = top;
      masses[bin] = mass;
    }
  }
  __syncthreads();
  float top = -INFINITY;
  for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) top = fmaxf(top, maxima[bin]);
  top = block_reduce<Max>(top, scratch);
  const Words words = row.random.draw(0);
  const int bin = warp_pick(bins, uniform(words.first), [&](int bin) { return masses[bin] * power(maxima[bin], top, inverse_temperature); });
  uint64_t result = 0;
  if (bin == 0) result = candidate(row.target, row.original);
  if (bin > 0) result = columns(bin - 1).draw(inverse_temperature, uniform(words.second));
  if (threadIdx.x == 0) settle(index, result, outcomes, new_ids, new_logits);
}

// rejection: proposals from all of x and the tiles, by the head's masses Σ e^{(l−max)/T} [rows, tiles]; the first that is
// allowed stands. Of the vocabulary only the tiles proposed are computed, with the head's bits. A block for each row, whose
// warps do the same. Shared: 1 + tiles doubles, 256 floats.
template <class T> __device__ void edit_reject(const T* hidden, int hidden_stride, const T* weight, int weight_stride, int c, int v, const float* maxima, const float* masses, double inverse_temperature, const uint32_t* drawn, const uint32_t* counts, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, uint64_t seed, uint32_t tag, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  if (int(blockIdx.x) >= int(counts[0])) return;
  const int index = drawn[blockIdx.x];
  const Row row = row_at(index, statistics, targets, origins, masks, v, seed, tag);
  const int tiles = (v + kVocabularyTile - 1) / kVocabularyTile, bins = 1 + tiles;
  double* shares = dynamic_shared<double>();
  float* logits = reinterpret_cast<float*>(shares + bins);
  maxima += size_t(index) * tiles;
  masses += size_t(index) * tiles;
  float top = row.target;
  for (int tile = threadIdx.x; tile < tiles; tile += blockDim.x) top = fmaxf(top, maxima[tile]);
  top = block_reduce<Max>(top, logits);
  for (int bin = threadIdx.x; bin < bins; bin += blockDim.x)
    shares[bin] = bin > 0 ? masses[bin - 1] * power(maxima[bin - 1], top, inverse_temperature) : power(row.target, top, inverse_temperature);
  uint64_t proposal = 0;
  for (int i = 0; i < kMaxProposals && proposal == 0; ++i) {
    __syncthreads();
    const Words words = row.random.draw(i);
    const int bin = warp_pick(bins, uniform(words.first), [&](int bin) { return shares[bin]; });
    if (bin == 0) proposal = candidate(row.target, row.original);
    if (bin > 0) {
      head_tile_row<T>(logits, hidden + size_t(index) * hidden_stride, weight, bin - 1, v, c, weight_stride);
      proposal = columns_of(logits, bin - 1, row.original, [](uint32_t) { return true; }).draw(inverse_temperature, uniform(words.second));
    }
    if (proposal != 0 && !row.allows(id_of(proposal))) proposal = 0;
  }
  if (threadIdx.x == 0) settle(index, proposal, outcomes, new_ids, new_logits);
}

extern "C" __global__ void __launch_bounds__(256) edit_reject_f32(const float* hidden, int hidden_stride, const float* weight, int weight_stride, int c, int v, const float* maxima, const float* masses, double inverse_temperature, const uint32_t* drawn, const uint32_t* counts, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, uint64_t seed, uint32_t tag, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  edit_reject(hidden, hidden_stride, weight, weight_stride, c, v, maxima, masses, inverse_temperature, drawn, counts, statistics, targets, origins, masks, seed, tag, outcomes, new_ids, new_logits);
}
extern "C" __global__ void __launch_bounds__(256, 4) edit_reject_bf16(const bf16* hidden, int hidden_stride, const bf16* weight, int weight_stride, int c, int v, const float* maxima, const float* masses, double inverse_temperature, const uint32_t* drawn, const uint32_t* counts, const float* statistics, const uint32_t* targets, const uint32_t* origins, const uint32_t* masks, uint64_t seed, uint32_t tag, uint8_t* outcomes, uint32_t* new_ids, float* new_logits) {
  edit_reject(hidden, hidden_stride, weight, weight_stride, c, v, maxima, masses, inverse_temperature, drawn, counts, statistics, targets, origins, masks, seed, tag, outcomes, new_ids, new_logits);
}
