// What kernels of attention share: their parameters, and the way of queries, keys and values into shared memory.
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

constexpr int kWarps = 4, kThreads = kWarps * kWarp;

template <class T> struct Attention {
  T* out;
  float* lse;
  const T* qkv;
  const uint32_t* tiles;
  int count, heads, kv_heads, head_dim, qkv_stride, out_stride;
  float scale;
};

// Padding of 16 bytes puts eight rows on different banks.
template <class T, int D> constexpr int kPitch = D + kLanes<T>;

// A block's queries; rows count from the document's first.
struct Queries {
  size_t document;
  int tokens, first;
};

__device__ __forceinline__ Queries queries_of_block(const uint32_t* tiles) {
  const uint32_t* tile = tiles + size_t(3) * blockIdx.x;
  return {tile[1], int(tile[2] - tile[1]), int(tile[0] - tile[1])};
}

// Starts to copy up to R rows, `stride` apart, to shared memory. Missing rows and columns become zero.
template <int D, int R, class T>
__device__ __forceinline__ void load_tile(T* to, const T* from, int rows, int head_dim, int stride) {
  constexpr int N = kLanes<T>, kAcross = (D == 96 ? 128 : D) / N;
  const int column = threadIdx.x % kAcross * N;
  if (column >= D) return;
#pragma unroll 2
  for (int row = threadIdx.x / kAcross; row < R; row += kThreads / kAcross) {
    const T* source = row < rows ? from + size_t(row) * stride : from;
    const int width = row < rows ? head_dim : 0;
    T* target = to + row * kPitch<T, D> + column;
    if (head_dim % N == 0) {
      cp_async_16(target, column < width ? source + column : source, column < width ? 16 : 0);
    } else {  // heads start anywhere, but D is even
      for (int i = 0; i < N; i += 2) {
        float pair[2] = {};
        if (column + i < width) load<2>(pair, source + column + i);
        store<2>(target + i, pair);
      }
    }
  }
}

// The keys and values that a block reads stream through S tiles of shared memory, in turn: K₀ V₀ K₁ V₁ …
template <class T, int D, int K, int S> struct Stream {
  static constexpr int kTile = K * kPitch<T, D>;
  T* memory;
  const T* keys;
  int values;  // from a head's keys to its values
  int tokens, head_dim, stride;
  int step = 0;

  __device__ __forceinline__ void fetch(int index) {
    const int first = index / 2 * K;
    const T* from = keys + size_t(first) * stride + index % 2 * values;
    if (first < tokens) load_tile<D, K>(memory + index % S * kTile, from, tokens - first, head_dim, stride);
    cp_async_commit();
  }

  __device__ __forceinline__ void start() {
    for (int index = 0; index < S - 1; ++index) fetch(index);
  }

  // The next tile, landed. All threads have done with the one before it, so a new one takes its place.
  __device__ __forceinline__ const T* next() {
    cp_async_wait<S - 2>();
    __syncthreads();
    fetch(step + S - 1);
    return memory + step++ % S * kTile;
  }
};

template <int D, int K, int S, class T>
__device__ Stream<T, D, K, S> keys_and_values(const Attention<T>& op, const Queries& queries, int end, T* memory) {
  const int head = blockIdx.y / (op.heads / op.kv_heads);
  const T* keys = op.qkv + queries.document * op.qkv_stride + size_t(op.heads + head) * op.head_dim;
  return {memory, keys, op.kv_heads * op.head_dim, end, op.head_dim, op.qkv_stride};
}

template <int D, int R, class T> __device__ void load_queries(T* to, const Attention<T>& op, const Queries& queries) {
  const size_t row = queries.document + queries.first;
  const T* from = op.qkv + row * op.qkv_stride + size_t(blockIdx.y) * op.head_dim;
  load_tile<D, R>(to, from, queries.tokens - queries.first, op.head_dim, op.qkv_stride);
}
