// The next token of a text from a row of raw logits l_v, v < V: with m = max l_v and weights w_v = e^{(l_v − m)/T},
//
//   sample_penalise: l_v = l_v < 0 ? l_v · penalty : l_v / penalty                    for ids that the text has
//   sample_prefix:   of all ids, the best first, the k largest (k > 0); of these the fewest that have the share `top_p` of their
//                    weight; of these the ones with w_v >= min_p; one of them by u₀
//   sample_full:     a tile of 256 ids by u₀, one of its ids by u₁
//
// ids[row] is the token, or kNone where a logit is not finite. Nothing is sorted; see draw.cuh. A block has one row, which it
// reads again for each step of a bisection: 4·V bytes that stay in the second-level cache.
#include "draw.cuh"

constexpr uint32_t kNone = 0xffffffffu;

// The largest logit of a row; NaN where one is not finite. `scratch` holds two values per warp.
__device__ float finite_max(const float* logits, int v, float* scratch) {
  float found[2] = {-INFINITY, 0.0f};
  for (int id = threadIdx.x; id < v; id += blockDim.x) {
    found[0] = Max::merge(found[0], logits[id]);
    if (!(fabsf(logits[id]) < INFINITY)) found[1] = NAN;
  }
  block_reduce<Max>(found, scratch);
  return found[0] + found[1];
}

// seen [rows, words]: a bit for each id. A thread has the ids of one word; grid: words, rows.
extern "C" __global__ void __launch_bounds__(256) sample_penalise(float* logits, int stride, const uint32_t* seen, int words, int v, float penalty) {
  const int word = blockIdx.x * blockDim.x + threadIdx.x;
  if (word >= words) return;
  logits += size_t(blockIdx.y) * stride;
  for (uint32_t left = seen[size_t(blockIdx.y) * words + word]; left != 0; left &= left - 1) {
    const int id = word * 32 + __ffs(int(left)) - 1;
    if (id < v) logits[id] = logits[id] < 0.0f ? logits[id] * penalty : logits[id] / penalty;
  }
}

// The best of a row. `scratch` holds a value of each per warp.
__device__ uint64_t best_of(WholeRow row, uint64_t* scratch) {
  uint64_t best = 0;
  row.each([&](uint64_t rank, uint32_t, float) { best = Largest::merge(best, rank); });
  return block_reduce<Largest>(best, scratch);
}

// One of the ids down to `last`, by u: of their prefix with the share `top_p`, what has the weight `min_p`.
__device__ uint64_t draw_prefix(WholeRow whole, uint64_t last, float max, double top_p, double min_p, double inverse_temperature, double u, Weight* scratch) {
  const auto total = [&](auto weight) {
    Weight own{0.0, 0};
    whole.each([&](uint64_t rank, uint32_t id, float logit) { own.add(weight(rank, id, logit)); });
    return block_sum(own, scratch).sum;
  };
  const auto weight = [&](uint64_t rank, uint32_t, float logit) {
    return rank >= last ? power(logit, max, inverse_temperature) : 0.0;
  };
  if (top_p < 1.0) last = first_reaching(whole, top_p * total(weight), scratch, weight);
  const auto likely = [&](uint64_t rank, uint32_t id, float logit) {
    const double w = weight(rank, id, logit);
    return w >= min_p ? w : 0.0;
  };
  return first_reaching(whole, u * total(likely), scratch, likely);
}

// k = 0 and top_p = 1 cut nothing; k = 1 needs no u. Shared: a Weight for each warp.
extern "C" __global__ void __launch_bounds__(1024, 1) sample_prefix(const float* logits, int stride, int v, int k, double top_p, double min_p, double inverse_temperature, const double* uniforms, uint32_t* ids) {
  Weight* scratch = dynamic_shared<Weight>();
  const size_t row = blockIdx.x;
  const WholeRow whole{logits + row * stride, v};
  const float max = finite_max(whole.logits, v, reinterpret_cast<float*>(scratch));
  uint64_t found = 0;
  if (k == 1) {
    found = best_of(whole, reinterpret_cast<uint64_t*>(scratch));
  } else {
    uint64_t last = 1;
    if (k > 0) last = first_reaching(whole, k, scratch, [](uint64_t, uint32_t, float) { return 1.0; });
    found = draw_prefix(whole, last, max, top_p, min_p, inverse_temperature, uniforms[2 * row], scratch);
  }
  if (threadIdx.x == 0) ids[row] = max == max && found != 0 ? id_of(found) : kNone;
}

// Shared: a double for each tile, 64 floats.
extern "C" __global__ void __launch_bounds__(512) sample_full(const float* logits, int stride, int v, double inverse_temperature, const double* uniforms, uint32_t* ids) {
  const size_t row = blockIdx.x;
  const int tiles = (v + kVocabularyTile - 1) / kVocabularyTile, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  double* masses = dynamic_shared<double>();
  logits += row * stride;
  const float max = finite_max(logits, v, reinterpret_cast<float*>(masses + tiles));
  const auto columns = [&](int tile) {
    return columns_of(logits + size_t(tile) * kVocabularyTile, tile, kNone, [=](uint32_t id) { return int(id) < v; });
  };
  for (int tile = warp; tile < tiles; tile += warps) {
    const double mass = columns(tile).mass(max, inverse_temperature);
    if (lane == 0) masses[tile] = mass;
  }
  __syncthreads();
  const int tile = warp_pick(tiles, uniforms[2 * row], [&](int tile) { return masses[tile]; });
  uint64_t found = 0;
  if (tile >= 0) found = columns(tile).draw(inverse_temperature, uniforms[2 * row + 1]);
  if (threadIdx.x == 0) ids[row] = max == max && found != 0 ? id_of(found) : kNone;
}
