// Normalisation of rows of C values, layer or RMS, over the f32 residual stream x [T, C] or inside qkv.
//
//   layer   norm(x) = (x - mean) · rstd · weight + bias,    rstd = 1 / √(mean((x - mean)²) + eps)
//   RMS     norm(x) = x · rstd · weight + bias,             rstd = 1 / √(mean(x²) + eps)
//
//   forward       out[i] = norm(x[rows[i]])                   out [count, C], inputs of a product
//   add_forward   x[i] += norm(y[i])                          norms that come after (OLMo-2)
//   heads         qkv[t, offset + g·C ..] = norm(the same)    in place; C is a head (Qwen3) or all heads (OLMo-2)
//
// Bound by memory, so a row is read once and waits in registers, up to 24 values per thread: a warp takes a row of up
// to 768 values, a block a longer one. A row that does not come in vectors of 4 values, or exceeds a block's registers,
// is read again from cache for each of its sums. Differences from the mean are squared only once the mean is known:
// E[x²] - mean² would cancel. How a row is summed depends on its length and its place within a matrix's row alone.
#include "reduce.cuh"
#include "vector.cuh"

constexpr int kValues = 24;  // of a row, in one thread's registers
constexpr int kWarpRow = kWarp * kValues;

struct Layer {
  static constexpr bool kCentred = true;
};

struct Rms {
  static constexpr bool kCentred = false;
};

// Threads that share a row.
struct Warp {
  static __device__ __forceinline__ int rank() { return threadIdx.x % kWarp; }
  static __device__ __forceinline__ int size() { return kWarp; }
  static __device__ __forceinline__ float sum(float v) { return warp_reduce<Sum>(v); }
};

struct Block {
  static __device__ __forceinline__ int rank() { return threadIdx.x; }
  static __device__ __forceinline__ int size() { return blockDim.x; }
  static __device__ __forceinline__ float sum(float v) { return block_reduce<Sum>(v, dynamic_shared<float>()); }
};

// Weight and bias may be null.
struct Parameters {
  const float* weight;
  const float* bias;
  float eps;
  float share;  // 1 / C
};

// A row that waits in registers: thread r of a team holds the vectors r, r + size, r + 2·size, ...
template <class Team, class T> struct Resident {
  static constexpr int kVectors = kValues / 4;
  int c;
  float value[kVectors][4];

  __device__ __forceinline__ Resident(const T* row, int c) : c(c) {
    for (int k = 0; k < kVectors; ++k)
      if (column(k) < c) load(value[k], row + column(k));
  }

  static __device__ __forceinline__ int column(int k) { return (k * Team::size() + Team::rank()) * 4; }

  // Calls f(column, values) for each of the thread's vectors.
  template <class F> __device__ __forceinline__ void each(F f) {
    for (int k = 0; k < kVectors; ++k)
      if (column(k) < c) f(column(k), value[k]);
  }
};

// A row that is read from memory each time, value by value: any length, any alignment.
template <class Team, class T> struct Reread {
  const T* row;
  int c;

  __device__ __forceinline__ Reread(const T* row, int c) : row(row), c(c) {}

  template <class F> __device__ __forceinline__ void each(F f) {
    for (int i = Team::rank(); i < c; i += Team::size()) {
      float v[1] = {to_float(row[i])};
      f(i, v);
    }
  }
};

template <class Team, class Row, class F> __device__ __forceinline__ float sum(Row& row, F f) {
  float total = 0.0f;
  row.each([&](int, const auto& values) {
    for (float v : values) total += f(v);
  });
  return Team::sum(total);
}

template <int N> __device__ __forceinline__ void scale(float (&v)[N], const Parameters& norm, int column) {
  float p[N];
  if (norm.weight) {
    load(p, norm.weight + column);
    for (int i = 0; i < N; ++i) v[i] *= p[i];
  }
  if (norm.bias) {
    load(p, norm.bias + column);
    for (int i = 0; i < N; ++i) v[i] += p[i];
  }
}

// Normalises a row and hands it to `write(column, values)`.
template <class Kind, class Team, class Row, class Write>
__device__ __forceinline__ void normalise(Row row, const Parameters& norm, Write write) {
  const float shift = Kind::kCentred ? sum<Team>(row, [](float v) { return v; }) * norm.share : 0.0f;
  const float squares = sum<Team>(row, [=](float v) { return (v - shift) * (v - shift); });
  const float rstd = rsqrtf(squares * norm.share + norm.eps);
  row.each([&](int column, auto& values) {
    for (float& v : values) v = (v - shift) * rstd;
    scale(values, norm, column);
    write(column, values);
  });
}

// Calls `f(row)` for each of this block's rows: one per warp where rows are short, else one per block.
template <class F> __device__ __forceinline__ void each_row(int count, int c, F f) {
  const int warps = blockDim.x / kWarp;
  const int row = c <= kWarpRow ? blockIdx.x * warps + threadIdx.x / kWarp : blockIdx.x;
  if (row < count) f(row);
}

// Chooses a way by the row's length; `vectors` says that the row is aligned for 4 values, as well as what is written.
template <class Kind, class T, class Write>
__device__ __forceinline__ void normalise_row(const T* x, const Parameters& norm, int c, bool vectors, Write write) {
  vectors = vectors && c % 4 == 0;
  if (c <= kWarpRow) {
    if (vectors) normalise<Kind, Warp>(Resident<Warp, T>(x, c), norm, write);
    else normalise<Kind, Warp>(Reread<Warp, T>(x, c), norm, write);
  } else {
    if (vectors && c <= kValues * int(blockDim.x)) normalise<Kind, Block>(Resident<Block, T>(x, c), norm, write);
    else normalise<Kind, Block>(Reread<Block, T>(x, c), norm, write);
  }
}

// x += v
template <int N> __device__ __forceinline__ void add(float* x, const float (&v)[N]) {
  float sum[N];
  load(sum, x);
  for (int i = 0; i < N; ++i) sum[i] += v[i];
  store(x, sum);
}

// Rows of x and out start on 16 bytes. `rows` may be null; a row that x does not have gives NaN.
template <class Kind, class T>
__device__ void norm_forward(T* out, const float* x, Parameters norm, const uint32_t* rows, int count, int c,
                             int x_rows, int x_stride, int out_stride) {
  each_row(count, c, [&](int row) {
    uint32_t from = rows ? rows[row] : row;
    if (from >= uint32_t(x_rows)) {
      from = 0;
      norm.eps = NAN;
    }
    T* to = out + size_t(row) * out_stride;
    normalise_row<Kind>(x + size_t(from) * x_stride, norm, c, true, [=](int i, const auto& v) { store(to + i, v); });
  });
}

// Rows of x and y start on 16 bytes.
template <class Kind>
__device__ void norm_add_forward(float* x, const float* y, const Parameters& norm, int count, int c, int x_stride,
                                 int y_stride) {
  each_row(count, c, [&](int row) {
    float* to = x + size_t(row) * x_stride;
    normalise_row<Kind>(y + size_t(row) * y_stride, norm, c, true, [=](int i, const auto& v) { add(to + i, v); });
  });
}

// Rows of qkv start on 16 bytes.
template <class Kind, class T>
__device__ void norm_heads_forward(T* qkv, const Parameters& norm, int tokens, int groups, int c, int offset,
                                   int stride) {
  each_row(tokens * groups, c, [&](int row) {
    T* group = qkv + size_t(row / groups) * stride + offset + row % groups * c;
    normalise_row<Kind>(group, norm, c, offset % 4 == 0, [=](int i, const auto& v) { store(group + i, v); });
  });
}

// weight, bias and rows may be null.
extern "C" __global__ void __launch_bounds__(1024) layer_norm_forward_f32(float* out, const float* x, const float* weight, const float* bias, const uint32_t* rows, int count, int c, int x_rows, int x_stride, int out_stride, float eps) {
  norm_forward<Layer>(out, x, {weight, bias, eps, 1.0f / c}, rows, count, c, x_rows, x_stride, out_stride);
}
extern "C" __global__ void __launch_bounds__(1024) layer_norm_forward_bf16(bf16* out, const float* x, const float* weight, const float* bias, const uint32_t* rows, int count, int c, int x_rows, int x_stride, int out_stride, float eps) {
  norm_forward<Layer>(out, x, {weight, bias, eps, 1.0f / c}, rows, count, c, x_rows, x_stride, out_stride);
}
extern "C" __global__ void __launch_bounds__(1024) rms_norm_forward_f32(float* out, const float* x, const float* weight, const float* bias, const uint32_t* rows, int count, int c, int x_rows, int x_stride, int out_stride, float eps) {
  norm_forward<Rms>(out, x, {weight, bias, eps, 1.0f / c}, rows, count, c, x_rows, x_stride, out_stride);
}
extern "C" __global__ void __launch_bounds__(1024) rms_norm_forward_bf16(bf16* out, const float* x, const float* weight, const float* bias, const uint32_t* rows, int count, int c, int x_rows, int x_stride, int out_stride, float eps) {
  norm_forward<Rms>(out, x, {weight, bias, eps, 1.0f / c}, rows, count, c, x_rows, x_stride, out_stride);
}
extern "C" __global__ void __launch_bounds__(1024) layer_norm_add_forward(float* x, const float* y, const float* weight, const float* bias, int count, int c, int x_stride, int y_stride, float eps) {
  norm_add_forward<Layer>(x, y, {weight, bias, eps, 1.0f / c}, count, c, x_stride, y_stride);
}
extern "C" __global__ void __launch_bounds__(1024) rms_norm_add_forward(float* x, const float* y, const float* weight, const float* bias, int count, int c, int x_stride, int y_stride, float eps) {
  norm_add_forward<Rms>(x, y, {weight, bias, eps, 1.0f / c}, count, c, x_stride, y_stride);
}
extern "C" __global__ void __launch_bounds__(1024) layer_norm_heads_forward_f32(float* qkv, const float* weight, const float* bias, int tokens, int groups, int c, int offset, int stride, float eps) {
  norm_heads_forward<Layer>(qkv, {weight, bias, eps, 1.0f / c}, tokens, groups, c, offset, stride);
}
extern "C" __global__ void __launch_bounds__(1024) layer_norm_heads_forward_bf16(bf16* qkv, const float* weight, const float* bias, int tokens, int groups, int c, int offset, int stride, float eps) {
  norm_heads_forward<Layer>(qkv, {weight, bias, eps, 1.0f / c}, tokens, groups, c, offset, stride);
}
extern "C" __global__ void __launch_bounds__(1024) rms_norm_heads_forward_f32(float* qkv, const float* weight, const float* bias, int tokens, int groups, int c, int offset, int stride, float eps) {
  norm_heads_forward<Rms>(qkv, {weight, bias, eps, 1.0f / c}, tokens, groups, c, offset, stride);
}
extern "C" __global__ void __launch_bounds__(1024) rms_norm_heads_forward_bf16(bf16* qkv, const float* weight, const float* bias, int tokens, int groups, int c, int offset, int stride, float eps) {
  norm_heads_forward<Rms>(qkv, {weight, bias, eps, 1.0f / c}, tokens, groups, c, offset, stride);
}
