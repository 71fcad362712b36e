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

__device__ __forceinline__ Queries tile_of(const uint32_t* tiles, unsigned index) {
  const uint32_t* tile = tiles + size_t(3) * index;
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

// ---- bf16: products by tensor cores. A warp has 16·M rows; of a 16×8 tile, value i of a lane lies in row lane / 4 +
// i / 2 · 8 and column lane % 4 · 2 + i % 2. Two such tiles lie side by side. ----

// Where this lane reads a 16×16 tile for ldmatrix: its four 8×8 matrices in order of rows, or of columns.
template <int D> __device__ __forceinline__ int by_rows() {
  return threadIdx.x % 16 * kPitch<bf16, D> + threadIdx.x % kWarp / 16 * 8;
}
template <int D> __device__ __forceinline__ int by_columns() {
  return (threadIdx.x % kWarp / 16 * 8 + threadIdx.x % 8) * kPitch<bf16, D> + threadIdx.x / 8 % 2 * 8;
}

// d += a·b: b has 16 rows of 16 columns.
template <int M>
__device__ __forceinline__ void multiply(float (&d)[M][2][4], const uint32_t (&a)[M][4], const uint32_t (&b)[4]) {
  const uint32_t halves[2][2] = {{b[0], b[1]}, {b[2], b[3]}};
  mma_tiles(d, a, halves);
}

// A warp's rows in shared memory as the left operand of a product; `at` is this lane's place in the first.
template <int D> struct SharedRows {
  const bf16* at;
  template <int M> __device__ __forceinline__ void operator()(uint32_t (&a)[M][4], int d) const {
    for (int m = 0; m < M; ++m) ldmatrix_x4(a[m], at + m * 16 * kPitch<bf16, D> + d * 16);
  }
};

// s += a·bᵀ: `left(tiles, d)` gives columns 16·d and on of a; b has 16·N rows.
template <int D, int M, int N, class Left>
__device__ __forceinline__ void add_scores(float (&s)[N][M][2][4], const Left& left, const bf16* b) {
  b += by_columns<D>();
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
    uint32_t a[M][4];
    left(a, d);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      uint32_t tile[4];
      ldmatrix_x4(tile, b + n * 16 * kPitch<bf16, D> + d * 16);
      multiply(s[n], a, tile);
    }
  }
}

// out += p·b: p has 16·N columns of weights, b as many rows.
template <int D, int M, int N>
__device__ __forceinline__ void add_values(
    float (&out)[D / 16][M][2][4], const uint32_t (&p)[N][M][4], const bf16* b) {
  b += by_rows<D>();
#pragma unroll
  for (int k = 0; k < N; ++k)
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      uint32_t tile[4];
      ldmatrix_x4_trans(tile, b + k * 16 * kPitch<bf16, D> + n * 16);
      multiply(out[n], p[k], tile);
    }
}

// Copies a warp's rows from shared memory, N values at a time.
template <int D, int N>
__device__ __forceinline__ void copy_rows(bf16* to, const bf16* from, int rows, int width, int stride) {
  for (int i = threadIdx.x % kWarp; i < rows * (D / N); i += kWarp) {
    const int row = i / (D / N), column = i % (D / N) * N;
    if (column >= width) continue;
    float v[N];
    load<N>(v, from + row * kPitch<bf16, D> + column);
    store<N>(to + size_t(row) * stride + column, v);
  }
}

// Writes up to `count` of a warp's rows, each times its factor, by way of `memory`, so that they leave in wide accesses.
template <int D, int M>
__device__ __forceinline__ void write_rows(bf16* to, const float (&rows)[D / 16][M][2][4], const float (&factor)[M][2],
                                           bf16* memory, int count, int head_dim, int stride) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        const float* pair = &rows[n / 2][m][n % 2][2 * half];
        const int row = m * 16 + half * 8 + lane / 4;
        store<2>(memory + row * kPitch<bf16, D> + n * 8 + lane % 4 * 2,
                 {pair[0] * factor[m][half], pair[1] * factor[m][half]});
      }
  __syncwarp();
  count = min(count, 16 * M);
  if (head_dim % 8 == 0) copy_rows<D, 8>(to, memory, count, head_dim, stride);
  else copy_rows<D, 2>(to, memory, count, head_dim, stride);
}

// ---- f32: a warp has R rows; lane j has the scores of row j of a tile of 32, and columns j, j + 32, … of the output ----

// s += a·b of the lane's row b.
template <int D, int R>
__device__ __forceinline__ void add_scores(float (&s)[R], const float* a, const float* b) {
#pragma unroll 4
  for (int d = 0; d < D; d += 4) {
    float other[4];
    load<4>(other, b + d);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float own[4];
      load<4>(own, a + r * kPitch<float, D> + d);
      for (int i = 0; i < 4; ++i) s[r] += own[i] * other[i];
    }
  }
}

// out += p·b for a tile of 32 rows b; `weights` is p [R, 32].
template <int D, int R>
__device__ __forceinline__ void add_values(float (&out)[R][D / kWarp], const float* weights, const float* b) {
  b += threadIdx.x % kWarp;
  for (int k = 0; k < kWarp; k += 4) {
    float v[4][D / kWarp];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      for (int n = 0; n < D / kWarp; ++n) v[i][n] = b[(k + i) * kPitch<float, D> + n * kWarp];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float p[4];
      load<4>(p, weights + r * kWarp + k);
      for (int i = 0; i < 4; ++i)
        for (int n = 0; n < D / kWarp; ++n) out[r][n] += p[i] * v[i][n];
    }
  }
}
