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
#include "norm.cuh"
#include "norm_backward.cuh"

constexpr int kValues = 24;  // of a row, in one thread's registers
constexpr int kWarpRow = kWarp * kValues;

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
  vectors = vectors && norm.vectors() && c % 4 == 0;
  if (c <= kWarpRow) {
    if (vectors) normalise<Kind, Warp>(Resident<Warp, T, kValues>(x, c), norm, write);
    else normalise<Kind, Warp>(Reread<Warp, T>(x, c), norm, write);
  } else {
    if (vectors && c <= kValues * int(blockDim.x)) normalise<Kind, Block>(Resident<Block, T, kValues>(x, c), norm, write);
    else normalise<Kind, Block>(Reread<Block, T>(x, c), norm, write);
  }
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

// weight, dweight and dbias may be null.
extern "C" __global__ void __launch_bounds__(512, 1) layer_norm_backward_f32(float* dx, const float* x, const float* dy, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int x_stride, int dy_stride, int dx_stride, float eps) {
  norm_forward_backward<Layer>(dx, x, dy, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, x_stride, dy_stride, dx_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) layer_norm_backward_bf16(float* dx, const float* x, const bf16* dy, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int x_stride, int dy_stride, int dx_stride, float eps) {
  norm_forward_backward<Layer>(dx, x, dy, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, x_stride, dy_stride, dx_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) rms_norm_backward_f32(float* dx, const float* x, const float* dy, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int x_stride, int dy_stride, int dx_stride, float eps) {
  norm_forward_backward<Rms>(dx, x, dy, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, x_stride, dy_stride, dx_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) rms_norm_backward_bf16(float* dx, const float* x, const bf16* dy, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int x_stride, int dy_stride, int dx_stride, float eps) {
  norm_forward_backward<Rms>(dx, x, dy, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, x_stride, dy_stride, dx_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) layer_norm_add_backward_f32(float* dy, const float* y, const float* dx, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int y_stride, int dx_stride, int dy_stride, float eps) {
  norm_add_backward<Layer>(dy, y, dx, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, y_stride, dx_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) layer_norm_add_backward_bf16(bf16* dy, const float* y, const float* dx, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int y_stride, int dx_stride, int dy_stride, float eps) {
  norm_add_backward<Layer>(dy, y, dx, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, y_stride, dx_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) rms_norm_add_backward_f32(float* dy, const float* y, const float* dx, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int y_stride, int dx_stride, int dy_stride, float eps) {
  norm_add_backward<Rms>(dy, y, dx, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, y_stride, dx_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) rms_norm_add_backward_bf16(bf16* dy, const float* y, const float* dx, const float* weight, float* dweight, float* dbias, int count, int chunk, int c, int y_stride, int dx_stride, int dy_stride, float eps) {
  norm_add_backward<Rms>(dy, y, dx, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, count, chunk}, c, y_stride, dx_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) layer_norm_heads_backward_f32(float* dqkv, const float* qkv, const float* weight, float* dweight, float* dbias, int tokens, int groups, int chunk, int c, int offset, int stride, int dqkv_stride, float eps) {
  norm_heads_backward<Layer>(dqkv, qkv, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, tokens * groups, chunk}, groups, c, offset, stride, dqkv_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) layer_norm_heads_backward_bf16(bf16* dqkv, const bf16* qkv, const float* weight, float* dweight, float* dbias, int tokens, int groups, int chunk, int c, int offset, int stride, int dqkv_stride, float eps) {
  norm_heads_backward<Layer>(dqkv, qkv, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, tokens * groups, chunk}, groups, c, offset, stride, dqkv_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) rms_norm_heads_backward_f32(float* dqkv, const float* qkv, const float* weight, float* dweight, float* dbias, int tokens, int groups, int chunk, int c, int offset, int stride, int dqkv_stride, float eps) {
  norm_heads_backward<Rms>(dqkv, qkv, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, tokens * groups, chunk}, groups, c, offset, stride, dqkv_stride);
}
extern "C" __global__ void __launch_bounds__(512, 1) rms_norm_heads_backward_bf16(bf16* dqkv, const bf16* qkv, const float* weight, float* dweight, float* dbias, int tokens, int groups, int chunk, int c, int offset, int stride, int dqkv_stride, float eps) {
  norm_heads_backward<Rms>(dqkv, qkv, {weight, nullptr, eps, 1.0f / c}, {dweight, dbias, tokens * groups, chunk}, groups, c, offset, stride, dqkv_stride);
}
