// The gradients of attention.cu's q, k and v from that of its output, dout, with weights computed again from lse:
//   delta[i, h] = Σ_d dout[i, h, d] · out[i, h, d],   ds_ij = p_ij · (dout[i, h]·v[j, g] − delta[i, h])
//   dq[i, h] = scale · Σ_j ds_ij k[j, g],   dk[j, g] = scale · Σ_{h, i} ds_ij q[i, h],   dv[j, g] = Σ_{h, i} p_ij dout[i, h]
// dqkv [T, (H + 2·KV)·D], dout and out [T, H·D], lse and delta [T, H]; h over the heads of group g, i over i >= j.
//
// A block owns rows of one side and streams those of the other past them: rows of queries sum dq, and rows of keys sum dk
// and dv over all heads of their group. The grid is (count, blocks of keys + blocks of queries) over the tiles of the
// forward pass; weights are computed twice, but nothing is added by two blocks. Keys come first, and the tiles with the
// most queries first of all, so that no block starts a long one when others are done. Where registers or shared memory
// do not hold a tile, it has several blocks: for parts of its rows, or one for dk and one for dv.
//
// Tiles start at the document's first token, and sums go over heads, then rows in ascending order: the bits of a
// document's gradients do not depend on the batch.
#include "attention.cuh"

// What a block computes.
enum class Wanted { dq, dk, dv, dkv };

// Rows that belong together: queries and dout, or keys and values.
template <class T> struct Pair {
  const T* a;
  const T* b;
  int a_stride, b_stride;
};

template <class T> struct Gradient {
  T* dqkv;
  const T* dout;
  const float* lse;
  const float* delta;
  const T* qkv;
  const uint32_t* tiles;
  int heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride;
  float scale;

  __device__ __forceinline__ Pair<T> queries(size_t row, int head) const {
    const size_t column = size_t(head) * head_dim;
    return {qkv + row * qkv_stride + column, dout + row * dout_stride + column, qkv_stride, dout_stride};
  }
  __device__ __forceinline__ Pair<T> keys(size_t row, int head) const {
    const T* key = qkv + row * qkv_stride + size_t(heads + head) * head_dim;
    return {key, key + kv_heads * head_dim, qkv_stride, qkv_stride};
  }
};

// e^x of bf16 weights is 2^(x · log₂ e), to which their rounding is nothing.
template <class T> constexpr float kUnit = sizeof(T) == 2 ? 1.4426950408889634f : 1.0f;
template <class T> __device__ __forceinline__ float weight(float score, float lse) {
  if constexpr (sizeof(T) == 2) return exp2_approx(score - lse);
  else return expf(score - lse);
}

// What a query's weights and their gradients take; a row past the document's end has no weight.
struct Statistics {
  float lse = INFINITY, delta = 0.0f;
};
template <class T>
__device__ __forceinline__ Statistics statistics(const Gradient<T>& op, size_t document, int row, int tokens, int head) {
  if (row >= tokens) return {};
  const size_t at = (document + row) * op.heads + head;
  return {op.lse[at] * kUnit<T>, op.delta[at]};
}

// Starts to copy R rows of a pair, one matrix behind the other.
template <int D, int R, class T>
__device__ __forceinline__ void load_pair(T* to, const Pair<T>& from, int rows, int head_dim) {
  load_tile<D, R>(to, from.a, rows, head_dim, from.a_stride);
  load_tile<D, R>(to + R * kPitch<T, D>, from.b, rows, head_dim, from.b_stride);
}

// K rows of the other side in shared memory. Of queries there are statistics too: lse [K], then delta [K].
template <class T> struct Others {
  const T* a;
  const T* b;
  const float* statistics;
  int first;
};

// The other side's rows on their way through S tiles of shared memory: rows first … end of each head of a group, or of one
// head of keys.
template <class T, int D, int K, int S, bool of_queries> struct OtherSide {
  static_assert(S == 1 || S == 2);
  static constexpr int kTile = 2 * K * kPitch<T, D>;
  const Gradient<T>& op;
  T* memory;
  size_t document;
  int first, end, head, row;  // of the tile that is under way
  int step = 0;
  Statistics held = {};  // of this thread's row in it

  __device__ __forceinline__ OtherSide(const Gradient<T>& op, T* memory, size_t document, int first, int end, int head)
      : op(op), memory(memory), document(document), first(first), end(end), head(head), row(first) {
    if constexpr (S == 2) fetch();
  }

  // Starts on the tile at `row` of `head`.
  __device__ __forceinline__ void fetch() {
    const Pair<T> from = of_queries ? op.queries(document + row, head) : op.keys(document + row, head);
    load_pair<D, K>(memory + step % S * kTile, from, end - row, op.head_dim);
    cp_async_commit();
    if (of_queries && threadIdx.x < K) held = statistics(op, document, row + int(threadIdx.x), end, head);
  }

  // Calls f(tile) for every tile of `heads` heads.
  template <class F> __device__ __forceinline__ void each(int heads, const F& f) {
    for (int left = heads; left > 0;) {
      if constexpr (S == 1) {
        __syncthreads();
        fetch();
      }
      T* landed = memory + step % S * kTile;
      float* numbers = reinterpret_cast<float*>(memory + S * kTile) + step % S * 2 * K;
      if (of_queries && threadIdx.x < K) {
        numbers[threadIdx.x] = held.lse;
        numbers[K + threadIdx.x] = held.delta;
      }
      cp_async_wait<0>();
      __syncthreads();  // it has landed, and all threads have done with the one before
      const Others<T> tile = {landed, landed + K * kPitch<T, D>, numbers, row};
      ++step;
      row += K;
      if (row >= end) {
        row = first;
        ++head;
        --left;
      }
      if (S == 2 && left > 0) fetch();
      f(tile);
    }
  }
};

// A warp: kRows rows of its own, their sums, and how it adds K other rows to them.
template <class T, int D, Wanted wanted> struct Warp;

template <int D, Wanted wanted> struct Warp<bf16, D, wanted> {
  static constexpr bool kQueries = wanted == Wanted::dq, kA = wanted != Wanted::dv, kB = wanted >= Wanted::dv;
  static constexpr int M = D <= 64 || (kQueries && D <= 128) ? 2 : 1, kRows = 16 * M;
  static constexpr int K = D <= 96 || (!kQueries && D == 128) ? 32 : 16, N = K / 16;
  static constexpr int kStages = D <= 128 ? 2 : 1;
  static constexpr int kMemory = 0;  // beyond its rows

  using Scores = float[N][M][2][4];
  using Weights = uint32_t[N][M][4];

  float a[kA ? D / 16 : 1][M][2][4] = {};  // dq or dk, less the scale
  float b[kB ? D / 16 : 1][M][2][4] = {};  // dv
  Statistics own[M][2];                    // of queries

  __device__ __forceinline__ static int row(int m, int half) { return m * 16 + half * 8 + threadIdx.x % kWarp / 4; }

  __device__ __forceinline__ void begin(const Gradient<bf16>& op, size_t document, int first, int tokens, int head) {
    if constexpr (kQueries)
      for (int m = 0; m < M; ++m)
        for (int half = 0; half < 2; ++half) own[m][half] = statistics(op, document, first + row(m, half), tokens, head);
  }

  // Turns scores and products with dout into weights and their gradients; zero where a key lies past its query.
  __device__ __forceinline__ void weigh(
      Weights& p, Weights& ds, const Scores& s, const Scores& dp, const Others<bf16>& others, int ahead, float unit) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < K / 8; ++n) {
      float lse[2], delta[2];
      if constexpr (!kQueries) {
        load<2>(lse, others.statistics + n * 8 + column);
        load<2>(delta, others.statistics + K + n * 8 + column);
      }
#pragma unroll
      for (int m = 0; m < M; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float weights[2], gradients[2];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const Statistics query = kQueries ? own[m][half] : Statistics{lse[i], delta[i]};
            const int past = (kQueries ? 1 : -1) * (ahead + n * 8 + column + i - row(m, half));
            const float* at = &s[n / 2][m][n % 2][2 * half + i];
            weights[i] = past > 0 ? 0.0f : weight<bf16>(*at * unit, query.lse);
            if constexpr (kA)
              gradients[i] = past > 0 ? 0.0f : weights[i] * (dp[n / 2][m][n % 2][2 * half + i] - query.delta);
          }
          p[n / 2][m][n % 2 * 2 + half] = pack_bf16(weights[0], weights[1]);
          if constexpr (kA) ds[n / 2][m][n % 2 * 2 + half] = pack_bf16(gradients[0], gradients[1]);
        }
    }
  }

  // `rows` and those `pair` behind are the warp's own; `ahead` is the first other row less the first own one.
  __device__ __forceinline__ void add(
      const bf16* rows, int pair, bf16*, const Others<bf16>& others, int ahead, float scale) {
    rows += by_rows<D>();
    Scores s = {}, dp = {};
    add_scores<D>(s, SharedRows<D>{rows}, others.a);
    if constexpr (kA) add_scores<D>(dp, SharedRows<D>{rows + pair}, others.b);
    Weights p, ds;
    weigh(p, ds, s, dp, others, ahead, scale * kUnit<bf16>);
    if constexpr (kB) add_values<D>(b, p, others.b);
    if constexpr (kA) add_values<D>(a, ds, others.a);
  }

  template <class Sums>
  __device__ __forceinline__ static void write(
      bf16* to, const Sums& sums, float scale, bf16* memory, int count, int head_dim, int stride) {
    float factor[M][2];
    for (auto& pair : factor) pair[0] = pair[1] = scale;
    write_rows<D>(to, sums, factor, memory, count, head_dim, stride);
  }
};

template <int D, Wanted wanted> struct Warp<float, D, wanted> {
  static constexpr bool kQueries = wanted == Wanted::dq, kA = wanted != Wanted::dv, kB = wanted >= Wanted::dv;
  static constexpr int R = D <= 128 ? 8 : 2, kRows = R;
  static constexpr int K = kWarp, kStages = 1;
  static constexpr int kMemory = 2 * R * kWarp;  // p and ds [R, 32]

  float a[kA ? R : 1][D / kWarp] = {};
  float b[kB ? R : 1][D / kWarp] = {};
  Statistics own[R];

  __device__ __forceinline__ void begin(const Gradient<float>& op, size_t document, int first, int tokens, int head) {
    if constexpr (kQueries)
      for (int r = 0; r < R; ++r) own[r] = statistics(op, document, first + r, tokens, head);
  }

  __device__ __forceinline__ void add(
      const float* rows, int pair, float* weights, const Others<float>& others, int ahead, float scale) {
    const int lane = threadIdx.x % kWarp;
    float s[R] = {}, dp[R] = {};
    add_scores<D>(s, rows, others.a + lane * kPitch<float, D>);
    add_scores<D>(dp, rows + pair, others.b + lane * kPitch<float, D>);
    __syncwarp();  // all lanes have read the weights of the tile before
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const Statistics query = kQueries ? own[r] : Statistics{others.statistics[lane], others.statistics[K + lane]};
      const int past = (kQueries ? 1 : -1) * (ahead + lane - r);
      const float p = past > 0 ? 0.0f : weight<float>(s[r] * scale, query.lse);
      if constexpr (kB) weights[r * kWarp + lane] = p;
      weights[(R + r) * kWarp + lane] = past > 0 ? 0.0f : p * (dp[r] - query.delta);
    }
    __syncwarp();
    if constexpr (kB) add_values<D>(b, weights, others.b);
    add_values<D>(a, weights + R * kWarp, others.a);
  }

  __device__ __forceinline__ static void write(
      float* to, const float (&sums)[R][D / kWarp], float scale, float*, int count, int head_dim, int stride) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int n = 0; n < D / kWarp; ++n)
        if (r < count && lane + n * kWarp < head_dim) to[size_t(r) * stride + lane + n * kWarp] = sums[r][n] * scale;
  }
};

// The rows of a part of a tile, for one of their heads.
template <int D, Wanted wanted, class T> __device__ void gradient(const Gradient<T>& op, Queries tile, int part, int head) {
  using Warp = ::Warp<T, D, wanted>;
  constexpr int kRows = kWarps * Warp::kRows, kPair = kRows * kPitch<T, D>;
  constexpr bool kQueries = Warp::kQueries;
  tile.first += part * kRows;
  if (tile.first >= tile.tokens) return;
  const int offset = threadIdx.x / kWarp * Warp::kRows, first = tile.first + offset, group = op.heads / op.kv_heads;
  T* rows = dynamic_shared<T>();
  T* weights = rows + 2 * kPair + threadIdx.x / kWarp * Warp::kMemory;
  const size_t start = tile.document + tile.first;
  load_pair<D, kRows>(rows, kQueries ? op.queries(start, head) : op.keys(start, head), tile.tokens - tile.first, op.head_dim);
  OtherSide<T, D, Warp::K, Warp::kStages, !kQueries> others(
      op, rows + 2 * kPair + kWarps * Warp::kMemory, tile.document, kQueries ? 0 : tile.first,
      kQueries ? min(tile.first + kRows, tile.tokens) : tile.tokens, kQueries ? head / group : head * group);
  rows += offset * kPitch<T, D>;

  Warp warp;
  warp.begin(op, tile.document, first, tile.tokens, head);
  others.each(kQueries ? 1 : group, [&](const Others<T>& tile_of_others) {
    const int ahead = tile_of_others.first - first;
    const bool seen = kQueries ? ahead < Warp::kRows : ahead + Warp::K > 0;  // by any of the warp's rows
    if (seen && first < tile.tokens) warp.add(rows, kPair, weights, tile_of_others, ahead, op.scale);
  });
  const int count = tile.tokens - first;
  if (count <= 0) return;
  T* to = op.dqkv + (tile.document + first) * op.dqkv_stride + size_t(kQueries ? head : op.heads + head) * op.head_dim;
  if constexpr (Warp::kA) Warp::write(to, warp.a, op.scale, rows, count, op.head_dim, op.dqkv_stride);
  to += kQueries ? 0 : op.kv_heads * op.head_dim;
  if constexpr (Warp::kB) Warp::write(to, warp.b, 1.0f, rows + kPair, count, op.head_dim, op.dqkv_stride);
}

template <int D, class T> __device__ void attention_backward(const Gradient<T>& op) {
  constexpr bool kSplit = sizeof(T) == 2 && D > 128;  // a block for dk and one for dv
  constexpr int kTile = sizeof(T) == 2 ? (D <= 128 ? 128 : 64) : (D <= 128 ? 32 : 16);
  constexpr int kKeyParts = kSplit ? 2 : kTile / (kWarps * Warp<T, D, Wanted::dkv>::kRows);
  constexpr int kQueryParts = kTile / (kWarps * Warp<T, D, Wanted::dq>::kRows);
  const int y = blockIdx.y, of_keys = op.kv_heads * kKeyParts;
  if (y >= of_keys) {
    const int part = (y - of_keys) % kQueryParts, head = (y - of_keys) / kQueryParts;
    return gradient<D, Wanted::dq>(op, tile_of(op.tiles, blockIdx.x), part, head);
  }
  const Queries tile = tile_of(op.tiles, gridDim.x - 1 - blockIdx.x);
  const int part = y % kKeyParts, head = y / kKeyParts;
  if constexpr (!kSplit) gradient<D, Wanted::dkv>(op, tile, part, head);
  else if (part == 0) gradient<D, Wanted::dk>(op, tile, 0, head);
  else gradient<D, Wanted::dv>(op, tile, 0, head);
}

// A block per row, its warps take heads in turn.
template <class T>
__device__ void attention_delta(
    float* delta, const T* dout, const T* out, int heads, int head_dim, int dout_stride, int out_stride) {
  const int lane = threadIdx.x % kWarp;
  for (int head = threadIdx.x / kWarp; head < heads; head += blockDim.x / kWarp) {
    const T* a = dout + size_t(blockIdx.x) * dout_stride + size_t(head) * head_dim;
    const T* b = out + size_t(blockIdx.x) * out_stride + size_t(head) * head_dim;
    float sum = 0.0f;
    for (int d = 2 * lane; d < head_dim; d += 2 * kWarp) {
      float x[2], y[2];
      load<2>(x, a + d);
      load<2>(y, b + d);
      sum += x[0] * y[0] + x[1] * y[1];
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) delta[size_t(blockIdx.x) * heads + head] = sum;
  }
}
