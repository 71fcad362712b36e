// Attention of new tokens behind cached ones, with g = h / (H / KV), for each row r at position i of its sequence:
//   out[r, h] = Σ_{j<=i} p_j v[j, g],  p_j = e^(scale · q[r, h]·k[j, g]) / Σ_{j<=i} e^(scale · q[r, h]·k[j, g])
// qkv [T, (H + 2·KV)·D] holds the new rows, cache [·, 2·KV·D] the keys and values of each sequence, row by row from its
// first; out [T, H·D]. `places` [T] has {the sequence's first row of the cache, position} of each row. `scale` is positive,
// D even.
//
// decode_append copies the new keys and values behind those that are there; decode_attend reads them with the rest.
// Nothing but a row's position decides how its sum is cut: a warp has every eighth tile of 32 keys, counted from the
// sequence's first token, and warps are merged in order. So a row's bits are the same alone and in any batch, read as part
// of a prompt or one by one.
//
// Bytes moved: 4·KV·D·(i + 1) for a row of bf16. Few rows are at work at a time, so a block has one row and up to four of
// the heads that share keys; a lane has a key of the tile for the scores, and columns for the sum.
#include "reduce.cuh"
#include "vector.cuh"

constexpr int kDecodeWarps = 8, kHeads = 4;

template <class T> struct Decode {
  T* out;
  const T* qkv;
  const T* cache;
  const uint32_t* places;
  int heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride;
  float scale;
};

// What a warp has of its keys: the largest score, the sum of weights, and the weighted sum of values, of which a lane has
// columns 2·lane and 2·lane + 1 of each 64.
template <int D> struct Partial {
  static constexpr int kPairs = (D + 63) / 64;
  float out[kHeads][kPairs][2] = {};
  float max[kHeads], sum[kHeads] = {};
};

// s[h] = q[h]·k for this lane's key.
template <int D, class T>
__device__ __forceinline__ void scores(float (&s)[kHeads], const float* queries, const T* key, int head_dim, int count) {
  const auto add = [&](int d, auto lanes) {
    constexpr int N = decltype(lanes)::count;
    float k[N];
    load<N>(k, key + d);
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (h < count)
        for (int i = 0; i < N; ++i) s[h] += queries[h * D + d + i] * k[i];
  };
  constexpr int N = kLanes<T>;
  const int whole = head_dim % N == 0 ? head_dim : 0;  // else heads start anywhere, but D is even
#pragma unroll 2
  for (int d = 0; d < whole; d += N) add(d, Lanes<N>{});
  for (int d = whole; d < head_dim; d += 2) add(d, Lanes<2>{});
}

// Brings what the warp holds to the maximum over old and new scores, and turns these into weights.
template <int D>
__device__ __forceinline__ void softmax(float (&s)[kHeads], Partial<D>& part, bool seen, int count, float scale) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (h >= count) continue;
    const float score = seen ? s[h] : -INFINITY;
    const float max = Max::merge(part.max[h], warp_reduce<Max>(score));
    const float rescale = expf((part.max[h] - max) * scale), p = expf((score - max) * scale);
    part.max[h] = max;
    part.sum[h] = part.sum[h] * rescale + p;
    for (auto& pair : part.out[h])
      for (float& out : pair) out *= rescale;
    s[h] = p;
  }
}

// out += p·v over the keys of a tile, in order.
template <int D, class T>
__device__ __forceinline__ void add_values(
    Partial<D>& part, const float (&p)[kHeads], const T* values, int keys, int stride, int head_dim, int count) {
  const int column = threadIdx.x % kWarp * 2;
#pragma unroll 4
  for (int key = 0; key < kWarp; ++key) {
    float weight[kHeads];
    for (int h = 0; h < kHeads; ++h) weight[h] = __shfl_sync(kFullWarp, p[h], key);
    if (key >= keys) continue;
#pragma unroll
    for (int n = 0; n < Partial<D>::kPairs; ++n) {
      float v[2] = {};
      if (column + 64 * n < head_dim) load<2>(v, values + size_t(key) * stride + column + 64 * n);
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
        if (h < count)
          for (int i = 0; i < 2; ++i) part.out[h][n][i] += weight[h] * v[i];
    }
  }
}

// Merges the warps in order and writes the heads. `memory` holds for each warp and head a maximum, a sum and D values.
template <int D, class T>
__device__ void write(const Decode<T>& op, Partial<D>& part, float* memory, T* out, int count) {
  constexpr int kPart = D + 2;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int h = 0; h < count; ++h) {
    float* own = memory + (warp * kHeads + h) * kPart;
    const float sum = warp_reduce<Sum>(part.sum[h]);
    if (lane == 0) own[0] = part.max[h], own[1] = sum;
    for (int n = 0; n < Partial<D>::kPairs; ++n)
      for (int i = 0; i < 2; ++i)
        if (2 * lane + 64 * n < D) own[2 + 2 * lane + 64 * n + i] = part.out[h][n][i];
  }
  __syncthreads();
  for (int index = threadIdx.x; index < count * op.head_dim; index += blockDim.x) {
    const int h = index / op.head_dim, column = index % op.head_dim;
    const auto of_warp = [&](int w) { return memory + (w * kHeads + h) * kPart; };
    float max = -INFINITY, sum = 0.0f, value = 0.0f;
    for (int w = 0; w < kDecodeWarps; ++w) max = Max::merge(max, of_warp(w)[0]);
    for (int w = 0; w < kDecodeWarps; ++w) {
      // A warp without keys has nothing, and a maximum of −∞.
      const float factor = of_warp(w)[0] == -INFINITY ? 0.0f : expf((of_warp(w)[0] - max) * op.scale);
      sum += of_warp(w)[1] * factor;
      value += of_warp(w)[2 + column] * factor;
    }
    out[index] = from_float<T>(value / sum);
  }
}

// Grid: rows, and the groups of up to four heads that share keys.
template <int D, class T> __device__ void decode_attend(const Decode<T>& op) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int shared = op.heads / op.kv_heads, groups = (shared + kHeads - 1) / kHeads;
  const int kv_head = blockIdx.y / groups, first = blockIdx.y % groups * kHeads, count = min(kHeads, shared - first);
  const size_t row = blockIdx.x, head = size_t(kv_head * shared + first) * op.head_dim;
  const int keys = int(op.places[2 * row + 1]) + 1;
  const T* cache = op.cache + size_t(op.places[2 * row]) * op.cache_stride + size_t(kv_head) * op.head_dim;
  const int values = op.kv_heads * op.head_dim;

  float* queries = dynamic_shared<float>();
  float* memory = queries + kHeads * D;
  const T* query = op.qkv + row * op.qkv_stride + head;
  for (int i = threadIdx.x; i < count * op.head_dim; i += blockDim.x)
    queries[i / op.head_dim * D + i % op.head_dim] = to_float(query[i]);
  __syncthreads();

  Partial<D> part;
  for (float& max : part.max) max = -INFINITY;
  for (int tile = warp * kWarp; tile < keys; tile += kDecodeWarps * kWarp) {
    const T* from = cache + size_t(tile) * op.cache_stride;
    float s[kHeads] = {};
    if (tile + lane < keys) scores<D>(s, queries, from + size_t(lane) * op.cache_stride, op.head_dim, count);
    softmax<D>(s, part, tile + lane < keys, count, op.scale);
    add_values<D>(part, s, from + values, keys - tile, op.cache_stride, op.head_dim, count);
  }
  write<D>(op, part, memory, op.out + row * op.out_stride + head, count);
}

// Copies `width` values of each row to its place. Grid: rows.
template <class T>
__device__ void decode_append(T* cache, const T* kv, const uint32_t* places, int width, int kv_stride, int cache_stride) {
  const size_t row = blockIdx.x;
  T* to = cache + (size_t(places[2 * row]) + places[2 * row + 1]) * cache_stride;
  const T* from = kv + row * kv_stride;
  constexpr int N = kLanes<T>;
  each_column<N>(width, aligned<N>(from), [&](int first, auto lanes) {
    constexpr int M = decltype(lanes)::count;
    float v[M];
    load<M>(v, from + first);
    store<M>(to + first, v);
  });
}

extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d32_f32(float* out, const float* qkv, const float* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<32>(Decode<float>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d64_f32(float* out, const float* qkv, const float* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<64>(Decode<float>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d96_f32(float* out, const float* qkv, const float* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<96>(Decode<float>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d128_f32(float* out, const float* qkv, const float* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<128>(Decode<float>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d256_f32(float* out, const float* qkv, const float* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<256>(Decode<float>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d32_bf16(bf16* out, const bf16* qkv, const bf16* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<32>(Decode<bf16>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d64_bf16(bf16* out, const bf16* qkv, const bf16* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<64>(Decode<bf16>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d96_bf16(bf16* out, const bf16* qkv, const bf16* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<96>(Decode<bf16>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d128_bf16(bf16* out, const bf16* qkv, const bf16* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<128>(Decode<bf16>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(256, 2) decode_attend_d256_bf16(bf16* out, const bf16* qkv, const bf16* cache, const uint32_t* places, int heads, int kv_heads, int head_dim, int qkv_stride, int cache_stride, int out_stride, float scale) {
  decode_attend<256>(Decode<bf16>{out, qkv, cache, places, heads, kv_heads, head_dim, qkv_stride, cache_stride, out_stride, scale});
}
extern "C" __global__ void __launch_bounds__(128) decode_append_f32(float* cache, const float* kv, const uint32_t* places, int width, int kv_stride, int cache_stride) {
  decode_append(cache, kv, places, width, kv_stride, cache_stride);
}
extern "C" __global__ void __launch_bounds__(128) decode_append_bf16(bf16* cache, const bf16* kv, const uint32_t* places, int width, int kv_stride, int cache_stride) {
  decode_append(cache, kv, places, width, kv_stride, cache_stride);
}
