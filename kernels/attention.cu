// Causal grouped-query attention over packed documents, each document on its own, with g = h / (H / KV):
//   out[i, h] = Σ_{j<=i} p_ij v[j, g],  p_ij = e^(scale · q[i, h]·k[j, g] − lse[i, h])
//   lse[i, h] = ln Σ_{j<=i} e^(scale · q[i, h]·k[j, g])
// qkv [T, (H + 2·KV)·D], out [T, H·D], lse [T, H] or null: what a backward needs to have the weights again. `scale` is
// positive, D even.
//
// `tiles` lists the tiles of queries, {first row, first row of the document, end row of the document} each; the grid is
// (count, H). Scores stay in registers (online softmax): a block reads its queries once and streams the keys and values
// up to its last query through shared memory, in tiles that start at the document's first token. So what a row is
// computed from, and in which order, depends on its document's earlier tokens alone, not on the batch or the device.
//
// Warps own rows: they share nothing but what is copied in. In bf16 a warp has 32 queries (16 where D > 128), so that
// each fragment of keys or values feeds two products; one would take no longer than its reading from shared memory. The
// sum is that of the rounded weights, so that rounding them does not change their share.
//
// D is padded to the next of 32, 64, 96, 128, 256 with zeros in shared memory.
#include "attention_backward.cuh"

// ---- bf16: tensor cores ----

constexpr int kKeys = 64;

// What a warp holds of its 16·M queries. Value i of a lane lies in row lane / 4 + i / 2 · 8 and column lane % 4 · 2 +
// i % 2 of a 16×8 tile; two such tiles lie side by side.
template <int D> struct Rows {
  static constexpr int M = D <= 128 ? 2 : 1;
  static constexpr int kQueries = kWarps * 16 * M;
  static constexpr int kStages = D <= 96 ? 3 : 2;
  static constexpr bool kHeld = D <= 64;  // the queries stay in registers

  using Scores = float[kKeys / 16][M][2][4];
  using Weights = uint32_t[kKeys / 16][M][4];

  float out[D / 16][M][2][4] = {};
  float max[M][2], sum[M][2] = {};
  uint32_t query[kHeld ? D / 16 : 1][M][4];
};

template <int D> __device__ __forceinline__ void hold_queries(Rows<D>& rows, const bf16* queries) {
  for (int m = 0; m < Rows<D>::M; ++m)
    for (int d = 0; d < D / 16; ++d)
      ldmatrix_x4(rows.query[d][m], queries + m * 16 * kPitch<bf16, D> + d * 16 + by_rows<D>());
}

// s += q·kᵀ for one tile of keys.
template <int D>
__device__ __forceinline__ void add_scores(
    typename Rows<D>::Scores& s, const Rows<D>& rows, const bf16* queries, const bf16* keys) {
  constexpr int M = Rows<D>::M;
  const auto held = [&](uint32_t (&a)[M][4], int d) {
    for (int m = 0; m < M; ++m)
      for (int i = 0; i < 4; ++i) a[m][i] = rows.query[d][m][i];
  };
  if constexpr (Rows<D>::kHeld) add_scores<D>(s, held, keys);
  else add_scores<D>(s, SharedRows<D>{queries + by_rows<D>()}, keys);
}

// Leaves out the keys past each row's own token. `ahead` is the tile's first key less the warp's first row.
template <int D> __device__ __forceinline__ void mask(typename Rows<D>::Scores& s, int ahead) {
  const int lane = threadIdx.x % kWarp;
  ahead += lane % 4 * 2 - lane / 4;
#pragma unroll
  for (int m = 0; m < Rows<D>::M; ++m)
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
      for (int i = 0; i < 4; ++i)
        if (ahead + n * 8 + i % 2 > m * 16 + i / 2 * 8) s[n / 2][m][n % 2][i] = -INFINITY;
}

// The maximum over the four lanes that share a row, and their sum.
__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(kFullWarp, v, 1));
  return fmaxf(v, __shfl_xor_sync(kFullWarp, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(kFullWarp, v, 1);
  return v + __shfl_xor_sync(kFullWarp, v, 2);
}

// Brings what a warp holds to the maximum over old and new scores, and turns these into rounded weights 2^((s − max) · c),
// in the layout of a product's operand. NaN is passed over in the maximum and shows in the weights.
template <int D>
__device__ __forceinline__ void softmax(
    typename Rows<D>::Weights& p, const typename Rows<D>::Scores& s, Rows<D>& rows, float c) {
#pragma unroll
  for (int m = 0; m < Rows<D>::M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float max = rows.max[m][half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
        for (int i = 0; i < 2; ++i) max = fmaxf(max, s[n / 2][m][n % 2][2 * half + i]);
      max = quad_max(max);
      const float rescale = exp2_approx((rows.max[m][half] - max) * c);
      rows.max[m][half] = max;
      rows.sum[m][half] *= rescale;
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
        for (int i = 0; i < 2; ++i) rows.out[n / 2][m][n % 2][2 * half + i] *= rescale;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        const float* pair = &s[n / 2][m][n % 2][2 * half];
        const uint32_t weights = pack_bf16(exp2_approx((pair[0] - max) * c), exp2_approx((pair[1] - max) * c));
        rows.sum[m][half] += low_float(weights) + high_float(weights);
        p[n / 2][m][n % 2 * 2 + half] = weights;
      }
    }
}

// Divides by the sums and writes a warp's rows by way of `memory`.
template <int D>
__device__ __forceinline__ void write(const Attention<bf16>& op, Rows<D>& rows, bf16* memory, size_t first, int count) {
  const int lane = threadIdx.x % kWarp;
  float share[Rows<D>::M][2];
#pragma unroll
  for (int m = 0; m < Rows<D>::M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = m * 16 + half * 8 + lane / 4;
      const float sum = quad_sum(rows.sum[m][half]);
      share[m][half] = 1.0f / sum;
      if (op.lse && lane % 4 == 0 && row < count)
        op.lse[(first + row) * op.heads + blockIdx.y] = rows.max[m][half] * op.scale + logf(sum);
    }
  bf16* out = op.out + first * op.out_stride + size_t(blockIdx.y) * op.head_dim;
  write_rows<D>(out, rows.out, share, memory, count, op.head_dim, op.out_stride);
}

template <int D> __device__ void attention_forward(const Attention<bf16>& op) {
  using Warp = Rows<D>;
  if (blockIdx.x >= unsigned(op.count)) return;
  const Queries block = tile_of(op.tiles, blockIdx.x);
  const int offset = threadIdx.x / kWarp * 16 * Warp::M, first = block.first + offset;
  const int end = min(block.first + Warp::kQueries, block.tokens);
  bf16* queries = dynamic_shared<bf16>();
  auto stream = keys_and_values<D, kKeys, Warp::kStages>(op, block, end, queries + Warp::kQueries * kPitch<bf16, D>);
  load_queries<D, Warp::kQueries>(queries, op, block);
  queries += offset * kPitch<bf16, D>;
  stream.start();

  Warp rows;
  for (auto& max : rows.max) max[0] = max[1] = -INFINITY;
  const bf16* keys = stream.next();
  if constexpr (Warp::kHeld) hold_queries(rows, queries);
  for (int key = 0; key < end; key += kKeys) {
    const bool seen = first < end && key < first + 16 * Warp::M;  // by any of the warp's rows
    typename Warp::Weights p;
    if (seen) {
      typename Warp::Scores s = {};
      add_scores<D>(s, rows, queries, keys);
      if (key + kKeys > first + 1) mask<D>(s, key - first);
      softmax<D>(p, s, rows, op.scale * 1.4426950408889634f);
    }
    const bf16* values = stream.next();
    if (seen) add_values<D>(rows.out, p, values);
    keys = stream.next();
  }
  if (first < end) write<D>(op, rows, queries, block.document + first, end - first);
}

// ---- f32: lane j has key j of a tile in the scores, and columns j, j + 32, … of the output ----

template <int D> struct Lane {
  static constexpr int R = D <= 128 ? 8 : 4;  // a warp's queries
  static constexpr int kQueries = kWarps * R;
  float out[R][D / kWarp] = {};
  float max[R], sum[R] = {};
};

// Leaves weights e^((s − max) · scale) in `weights` [R, 32], zero for keys past a row's own token, and brings what a warp
// holds to the new maximum. `ahead` is this lane's key less the warp's first row.
template <int D>
__device__ __forceinline__ void softmax(
    float* weights, const float (&s)[Lane<D>::R], Lane<D>& rows, int ahead, float scale) {
#pragma unroll
  for (int r = 0; r < Lane<D>::R; ++r) {
    const float score = ahead > r ? -INFINITY : s[r];
    const float max = Max::merge(rows.max[r], warp_reduce<Max>(score));
    const float rescale = expf((rows.max[r] - max) * scale), p = expf((score - max) * scale);
    rows.max[r] = max;
    rows.sum[r] = rows.sum[r] * rescale + p;
    for (float& out : rows.out[r]) out *= rescale;
    weights[r * kWarp + threadIdx.x % kWarp] = p;
  }
  __syncwarp();
}

template <int D> __device__ void write(const Attention<float>& op, const Lane<D>& rows, size_t first, int count) {
  const int lane = threadIdx.x % kWarp;
  float* out = op.out + first * op.out_stride + size_t(blockIdx.y) * op.head_dim;
#pragma unroll
  for (int r = 0; r < Lane<D>::R; ++r) {
    const float sum = warp_reduce<Sum>(rows.sum[r]);
    if (r >= count) continue;
    if (op.lse && lane == 0) op.lse[(first + r) * op.heads + blockIdx.y] = rows.max[r] * op.scale + logf(sum);
#pragma unroll
    for (int n = 0; n < D / kWarp; ++n)
      if (lane + n * kWarp < op.head_dim) out[size_t(r) * op.out_stride + lane + n * kWarp] = rows.out[r][n] / sum;
  }
}

template <int D> __device__ void attention_forward(const Attention<float>& op) {
  using Warp = Lane<D>;
  if (blockIdx.x >= unsigned(op.count)) return;
  const Queries block = tile_of(op.tiles, blockIdx.x);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, first = block.first + warp * Warp::R;
  const int end = min(block.first + Warp::kQueries, block.tokens);
  float* queries = dynamic_shared<float>();
  float* weights = queries + Warp::kQueries * kPitch<float, D>;
  auto stream = keys_and_values<D, kWarp, 2>(op, block, end, weights + Warp::kQueries * kWarp);
  load_queries<D, Warp::kQueries>(queries, op, block);
  queries += warp * Warp::R * kPitch<float, D>;
  weights += warp * Warp::R * kWarp;
  stream.start();

  Warp rows;
  for (float& max : rows.max) max = -INFINITY;
  const float* keys = stream.next();
  for (int key = 0; key < end; key += kWarp) {
    const bool seen = first < end && key < first + Warp::R;  // by any of the warp's rows
    if (seen) {
      float s[Warp::R] = {};
      add_scores<D>(s, queries, keys + lane * kPitch<float, D>);
      softmax<D>(weights, s, rows, key + lane - first, op.scale);
    }
    const float* values = stream.next();
    if (seen) add_values<D>(rows.out, weights, values);
    keys = stream.next();
  }
  if (first < end) write<D>(op, rows, block.document + first, end - first);
}

extern "C" __global__ void __launch_bounds__(128) attention_forward_d32_f32(float* out, float* lse, const float* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<32>(Attention<float>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d64_f32(float* out, float* lse, const float* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<64>(Attention<float>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d96_f32(float* out, float* lse, const float* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<96>(Attention<float>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d128_f32(float* out, float* lse, const float* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<128>(Attention<float>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d256_f32(float* out, float* lse, const float* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<256>(Attention<float>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d32_bf16(bf16* out, float* lse, const bf16* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<32>(Attention<bf16>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d64_bf16(bf16* out, float* lse, const bf16* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<64>(Attention<bf16>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d96_bf16(bf16* out, float* lse, const bf16* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<96>(Attention<bf16>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d128_bf16(bf16* out, float* lse, const bf16* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<128>(Attention<bf16>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_forward_d256_bf16(bf16* out, float* lse, const bf16* qkv, const uint32_t* tiles, int count, int heads, int kv_heads, int head_dim, int qkv_stride, int out_stride, float scale) {
  attention_forward<256>(Attention<bf16>{out, lse, qkv, tiles, count, heads, kv_heads, head_dim, qkv_stride, out_stride, scale});
}

extern "C" __global__ void __launch_bounds__(128) attention_delta_f32(float* delta, const float* dout, const float* out, int heads, int head_dim, int dout_stride, int out_stride) {
  attention_delta(delta, dout, out, heads, head_dim, dout_stride, out_stride);
}
extern "C" __global__ void __launch_bounds__(128) attention_delta_bf16(float* delta, const bf16* dout, const bf16* out, int heads, int head_dim, int dout_stride, int out_stride) {
  attention_delta(delta, dout, out, heads, head_dim, dout_stride, out_stride);
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d32_f32(float* dqkv, const float* dout, const float* lse, const float* delta, const float* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<32>(Gradient<float>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d64_f32(float* dqkv, const float* dout, const float* lse, const float* delta, const float* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<64>(Gradient<float>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d96_f32(float* dqkv, const float* dout, const float* lse, const float* delta, const float* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<96>(Gradient<float>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d128_f32(float* dqkv, const float* dout, const float* lse, const float* delta, const float* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<128>(Gradient<float>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d256_f32(float* dqkv, const float* dout, const float* lse, const float* delta, const float* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<256>(Gradient<float>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d32_bf16(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<32>(Gradient<bf16>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d64_bf16(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<64>(Gradient<bf16>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d96_bf16(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<96>(Gradient<bf16>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d128_bf16(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<128>(Gradient<bf16>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) attention_backward_d256_bf16(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, const uint32_t* tiles, int heads, int kv_heads, int head_dim, int dqkv_stride, int dout_stride, int qkv_stride, float scale) {
  attention_backward<256>(Gradient<bf16>{dqkv, dout, lse, delta, qkv, tiles, heads, kv_heads, head_dim, dqkv_stride, dout_stride, qkv_stride, scale});
}
