// The vocabulary product l = h · Wᵀ, fused with what scoring keeps of it, so that logits are never stored. For a row with
// target x and each tile t of 256 columns:
//
//   max[row, t]      = max l_v                        over v in t, v ≠ x; −∞ where there is none
//   sum[row, t]      = Σ exp(l_v − max)
//   moment[row, t]   = Σ exp(l_v − max) · (l_v − max)            for the entropy
//   tempered[row, t] = Σ exp((l_v − max) / temperature)          for the rejection sampler
//   target[row]      = l_x
//
// and, merged over the tiles: statistics[row] = {l_x, m = max_t max, Σ_t sum · exp(max − m)}, entropy[row] = −Σ p ln p.
// NaN is passed over by `max` and shows in `sum`.
//
// A block computes 128 rows of one tile: 384·C values read for 128·256·C multiply-adds, and 2 of 256 numbers written per
// row. Neither the batch nor the order of the blocks plays a part in the sums.
#include "head.cuh"

template <class T> using HeadTile = Tile<T, kVocabularyTile, 4, Runs::over_k, Runs::over_k>;

constexpr int kThreadRows = 8;

struct Larger {
  static __device__ __forceinline__ float merge(float a, float b) { return fmaxf(a, b); }
};

// This thread's rows of the tile are row() + 8·i, its columns column() + 8·j and one further.
template <class T> struct Mine {
  static __device__ __forceinline__ int row() { return HeadTile<T>::warp_row() + threadIdx.x % kWarp / 4; }
  static __device__ __forceinline__ int column() { return HeadTile<T>::warp_column() + threadIdx.x % 4 * 2; }
};

__device__ __forceinline__ float& logit(Sums& sums, int row, int column) {
  return sums.at[row / 2][column / 2][row % 2 * 2 + column % 2];
}

// Merges a value of each row over the tile's columns: the four threads of a warp that share the row, then the warps.
template <class Op, class T> __device__ __forceinline__ void reduce_rows(float (&value)[kThreadRows], float* scratch) {
  constexpr int kParts = HeadTile<T>::kWarpColumns;
  float* part = scratch + Mine<T>::row();
  for (int i = 0; i < kThreadRows; ++i) {
    for (int offset = 1; offset < 4; offset *= 2) value[i] = Op::merge(value[i], __shfl_xor_sync(kFullWarp, value[i], offset));
    if (threadIdx.x % 4 == 0) part[HeadTile<T>::warp_column() / kWarpTile * kTileRows + 8 * i] = value[i];
  }
  __syncthreads();
  for (int i = 0; i < kThreadRows; ++i) {
    value[i] = part[8 * i];
    for (int p = 1; p < kParts; ++p) value[i] = Op::merge(value[i], part[p * kTileRows + 8 * i]);
  }
  __syncthreads();
}

// Takes the target out of its tile and cuts the vocabulary's end. The targets are read before the first store, which might
// change them for all that the compiler knows: one wait for memory, not one a row.
template <class T>
__device__ __forceinline__ void mask(Sums& sums, float* target, const uint32_t* targets, int row, int rows, int column, int v) {
  targets += row;
  target += row;
  rows -= row;
  int at[kThreadRows];
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) at[i] = 8 * i < rows ? int(targets[8 * i]) - column : -1;
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    float found = 0.0f;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      float& l = logit(sums, i, j);
      const int offset = j / 2 * 8 + j % 2;
      if (offset == at[i]) found = l;
      if (offset == at[i] || column + offset >= v) l = -INFINITY;
    }
    if (at[i] >= 0 && at[i] < kWarpTile && at[i] % 8 < 2) target[8 * i] = found;
  }
}

// out[row, tile] = value, by one of the threads that hold it.
template <class T>
__device__ __forceinline__ void put(float* out, const float (&value)[kThreadRows], Place at, int rows, int tiles) {
  if (threadIdx.x % 4 != 0 || HeadTile<T>::warp_column() != 0) return;
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = at.row * kTileRows + Mine<T>::row() + 8 * i;
    if (row < rows) out[size_t(row) * tiles + at.column] = value[i];
  }
}

// out[row, tile] = Σ term(x)
template <class T, class Term>
__device__ __forceinline__ void put_sum(float* out, Sums& x, Place at, int rows, int tiles, Term term) {
  float sum[kThreadRows];
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    sum[i] = 0.0f;
#pragma unroll
    for (int j = 0; j < 16; ++j) sum[i] += term(logit(x, i, j));
  }
  reduce_rows<Sum, T>(sum, dynamic_shared<float>());
  put<T>(out, sum, at, rows, tiles);
}

// Stores the largest logit of each row in the tile and replaces the logits by l − max.
template <class T> __device__ __forceinline__ void put_max(float* out, Sums& sums, Place at, int rows, int tiles) {
  float max[kThreadRows];
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    max[i] = -INFINITY;
#pragma unroll
    for (int j = 0; j < 16; ++j) max[i] = fmaxf(max[i], logit(sums, i, j));
  }
  reduce_rows<Larger, T>(max, dynamic_shared<float>());
  put<T>(out, max, at, rows, tiles);
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    // Where all are −∞ their difference would be NaN.
    const float shift = max[i] == -INFINITY ? 0.0f : max[i];
#pragma unroll
    for (int j = 0; j < 16; ++j) logit(sums, i, j) -= shift;
  }
}

template <class T>
__device__ void head_forward(float* max, float* sum, float* moment, float* tempered, float* target, const T* hidden, const T* weight,
                             const uint32_t* targets, int rows, int v, int c, int hidden_stride, int weight_stride,
                             float inverse_temperature) {
  const int tiles = (v + kVocabularyTile - 1) / kVocabularyTile;
  const Place at = place(blockIdx.x, (rows + kTileRows - 1) / kTileRows, tiles);
  const int row = at.row * kTileRows, column = at.column * kVocabularyTile;
  Sums sums;
  HeadTile<T>::multiply(sums, HeadTile<T>::LoadA::of(hidden, row, rows, hidden_stride, c),
                        HeadTile<T>::LoadB::of(weight, column, v, weight_stride, c), c, dynamic_shared<T>());
  mask<T>(sums, target, targets, row + Mine<T>::row(), rows, column + Mine<T>::column(), v);

  put_max<T>(max, sums, at, rows, tiles);
  if (tempered != nullptr) put_sum<T>(tempered, sums, at, rows, tiles, [=](float x) { return expf(x * inverse_temperature); });
  put_sum<T>(sum, sums, at, rows, tiles, [](float& x) {
    const float weight = expf(x);
    x = x < -88.0f ? 0.0f : weight * x;  // far below the maximum −∞ · 0 must be 0
    return weight;
  });
  if (moment != nullptr) put_sum<T>(moment, sums, at, rows, tiles, [](float x) { return x; });
}

extern "C" __global__ void __launch_bounds__(256) head_forward_f32(float* max, float* sum, float* moment, float* tempered, float* target, const float* hidden, const float* weight, const uint32_t* targets, int rows, int v, int c, int hidden_stride, int weight_stride, float inverse_temperature) { head_forward(max, sum, moment, tempered, target, hidden, weight, targets, rows, v, c, hidden_stride, weight_stride, inverse_temperature); }
extern "C" __global__ void __launch_bounds__(256) head_forward_bf16(float* max, float* sum, float* moment, float* tempered, float* target, const bf16* hidden, const bf16* weight, const uint32_t* targets, int rows, int v, int c, int hidden_stride, int weight_stride, float inverse_temperature) { head_forward(max, sum, moment, tempered, target, hidden, weight, targets, rows, v, c, hidden_stride, weight_stride, inverse_temperature); }

// H = ln Z − Σ p·(l − m), Z over the rest and the target, whose logit leads m by `lead`. `moment` is Σ e^{l−m}·(l − m).
__device__ inline double entropy_of(double lead, double rest, double moment) {
  if (rest == 0.0) return 0.0;
  // All on the scale of the larger of target and m, so that no exponential overflows.
  const double scale = lead > 0.0 ? exp(-lead) : 1.0, weight = lead > 0.0 ? 1.0 : exp(lead);
  const double shifted = lead > 0.0 ? (moment - lead * rest) * scale : moment + weight * lead;
  const double z = rest * scale + weight;
  const double entropy = log(z) - shifted / z;
  return entropy < 0.0 ? 0.0 : entropy;
}

// A warp to each row: lane i merges tiles i, i + 32, ..., then the lanes are merged. `entropy` and `moment` are null together.
extern "C" __global__ void __launch_bounds__(256) head_merge(float* statistics, float* entropy, const float* max, const float* sum, const float* moment, const float* target, int rows, int tiles) {
  const int warp = blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const size_t row = warp < rows ? warp : rows - 1, first = row * tiles;
  float largest = -INFINITY;
  for (int t = lane; t < tiles; t += kWarp) largest = fmaxf(largest, max[first + t]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, offset));
  double rest = 0.0, moments = 0.0;
#pragma unroll 1
  for (int t = lane; t < tiles; t += kWarp) {
    const double shift = max[first + t] == largest ? 0.0 : double(max[first + t]) - double(largest);
    const double scale = exp(shift), part = sum[first + t];
    rest += scale * part;
    if (moment != nullptr && scale > 0.0) moments += scale * (moment[first + t] + shift * part);
  }
  rest = warp_reduce<Sum>(rest);
  moments = warp_reduce<Sum>(moments);
  if (lane != 0 || warp >= rows) return;
  statistics[row * 3] = target[row];
  statistics[row * 3 + 1] = largest;
  statistics[row * 3 + 2] = float(rest);
  if (entropy != nullptr) entropy[row] = float(entropy_of(double(target[row]) - double(largest), rest, moments));
}

// Logits of chosen rows in chosen tiles, the bits that head_forward saw, a tile of W read once for all its rows.
//
// A row has `slots` places for tiles; pair = (index into `rows`) · slots + place. Tile t's pairs are pairs[t · capacity ..][..
// counts[t]], and a pair's 256 logits go to logits[pair · 256 ..], −∞ past the vocabulary. Where `pairs` is null each of the
// first counts[0] rows wants every tile, tile t in place t. Block (t, i) computes pairs 128·i .. 128·(i + 1) of tile t.
template <class T>
__device__ void head_tiles(float* logits, const T* hidden, const T* weight, const uint32_t* rows, const uint32_t* pairs,
                           const uint32_t* counts, int capacity, int slots, int v, int c, int hidden_stride, int weight_stride) {
  const int tile = blockIdx.x, first = blockIdx.y * kTileRows;
  const int count = int(counts[pairs != nullptr ? tile : 0]);
  if (first >= count) return;
  const auto pair = [=](int i) { return pairs != nullptr ? size_t(pairs[size_t(tile) * capacity + i]) : size_t(i) * slots + tile; };
  const auto row = [=](int i) { return hidden + size_t(rows[pair(first + i < count ? first + i : first) / slots]) * hidden_stride; };
  Sums sums;
  HeadTile<T>::multiply(sums, HeadTile<T>::LoadA::gather(c, row),
                        HeadTile<T>::LoadB::of(weight, tile * kVocabularyTile, v, weight_stride, c), c, dynamic_shared<T>());
  for (int i = 0; i < kThreadRows; ++i) {
    const int at = first + Mine<T>::row() + 8 * i;
    if (at >= count) return;
    float* out = logits + pair(at) * kVocabularyTile;
    for (int j = 0; j < 16; j += 2) {
      const int column = Mine<T>::column() + 4 * j, left = v - tile * kVocabularyTile - column;
      const float two[2] = {left > 0 ? logit(sums, i, j) : -INFINITY, left > 1 ? logit(sums, i, j + 1) : -INFINITY};
      store<2>(out + column, two);
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) head_tiles_f32(float* logits, const float* hidden, const float* weight, const uint32_t* rows, const uint32_t* pairs, const uint32_t* counts, int capacity, int slots, int v, int c, int hidden_stride, int weight_stride) { head_tiles(logits, hidden, weight, rows, pairs, counts, capacity, slots, v, c, hidden_stride, weight_stride); }
extern "C" __global__ void __launch_bounds__(256) head_tiles_bf16(float* logits, const bf16* hidden, const bf16* weight, const uint32_t* rows, const uint32_t* pairs, const uint32_t* counts, int capacity, int slots, int v, int c, int hidden_stride, int weight_stride) { head_tiles(logits, hidden, weight, rows, pairs, counts, capacity, slots, v, c, hidden_stride, weight_stride); }
