// What is done to each value of a matrix alone, and sums of its columns.
//
//   convert          out[r, i] = x[r, i] rounded to T                     f32 rows as inputs of a product
//   clamp            x[r, i] = min(max(x[r, i], -limit), limit)           in place (OLMo); NaN stays NaN
//   clamp_backward   dx[r, i] = 0 where |x[r, i]| > limit                 in place; x before it was clamped
//   column_sums      sums[k, i] = Σ x[r, i] over the kth chunk of rows    the gradient of a bias, in two stages
//   column_sums_add  out[i] += Σ_k sums[k, i]
//
// A block per row, or per chunk and strip of columns. Bound by memory: each value read and written once.
#include "columns.cuh"

template <class T> __device__ void convert_forward(T* out, const float* x, int n, int out_stride, int x_stride) {
  out += size_t(blockIdx.x) * out_stride;
  x += size_t(blockIdx.x) * x_stride;
  each_column<4>(n, aligned<4>(out) && aligned<4>(x), [&](int i, auto lanes) {
    float v[lanes.count];
    load(v, x + i);
    store(out + i, v);
  });
}

extern "C" __global__ void __launch_bounds__(256) convert_forward_f32(float* out, const float* x, int n, int out_stride, int x_stride) {
  convert_forward(out, x, n, out_stride, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) convert_forward_bf16(bf16* out, const float* x, int n, int out_stride, int x_stride) {
  convert_forward(out, x, n, out_stride, x_stride);
}

template <class T> __device__ void clamp_forward(T* x, int n, int stride, float limit) {
  x += size_t(blockIdx.x) * stride;
  each_column<kLanes<T>>(n, aligned<kLanes<T>>(x), [&](int i, auto lanes) {
    float v[lanes.count];
    load(v, x + i);
    for (float& value : v) value = value > limit ? limit : value < -limit ? -limit : value;
    store(x + i, v);
  });
}

extern "C" __global__ void __launch_bounds__(256) clamp_forward_f32(float* x, int n, int stride, float limit) {
  clamp_forward(x, n, stride, limit);
}
extern "C" __global__ void __launch_bounds__(256) clamp_forward_bf16(bf16* x, int n, int stride, float limit) {
  clamp_forward(x, n, stride, limit);
}

template <class T> __device__ void clamp_backward(T* dx, const T* x, int n, int dx_stride, int x_stride, float limit) {
  constexpr int N = kLanes<T>;
  dx += size_t(blockIdx.x) * dx_stride;
  x += size_t(blockIdx.x) * x_stride;
  each_column<N>(n, aligned<N>(dx) && aligned<N>(x), [&](int i, auto lanes) {
    float v[lanes.count], d[lanes.count];
    load(v, x + i);
    load(d, dx + i);
    for (int j = 0; j < lanes.count; ++j) d[j] = v[j] > limit || v[j] < -limit ? 0.0f : d[j];
    store(dx + i, d);
  });
}

extern "C" __global__ void __launch_bounds__(256) clamp_backward_f32(float* dx, const float* x, int n, int dx_stride, int x_stride, float limit) {
  clamp_backward(dx, x, n, dx_stride, x_stride, limit);
}
extern "C" __global__ void __launch_bounds__(256) clamp_backward_bf16(bf16* dx, const bf16* x, int n, int dx_stride, int x_stride, float limit) {
  clamp_backward(dx, x, n, dx_stride, x_stride, limit);
}

// The block (x, y) takes strip x of chunk y.
template <class T> __device__ void column_sums(float* sums, const T* x, int rows, int chunk, int n, int stride) {
  const int first = blockIdx.y * chunk;
  sums += size_t(blockIdx.y) * n;
  x += size_t(first) * stride;
  const bool vectors = aligned<kLanes<T>>(x) && stride % kLanes<T> == 0;
  sum_columns<T>(blockIdx.x * kStrip<T>, n, min(chunk, rows - first), vectors, [=](int r) { return x + size_t(r) * stride; },
                 [=](int i, float sum) { sums[i] = sum; });
}

extern "C" __global__ void __launch_bounds__(256, 4) column_sums_f32(float* sums, const float* x, int rows, int chunk, int n, int stride) {
  column_sums(sums, x, rows, chunk, n, stride);
}
extern "C" __global__ void __launch_bounds__(256, 4) column_sums_bf16(float* sums, const bf16* x, int rows, int chunk, int n, int stride) {
  column_sums(sums, x, rows, chunk, n, stride);
}

extern "C" __global__ void __launch_bounds__(512, 2) column_sums_add(float* out, const float* sums, int chunks, int n) {
  sum_columns<float>(blockIdx.x * kStrip<float>, n, chunks, aligned<4>(sums) && n % 4 == 0,
                     [=](int k) { return sums + size_t(k) * n; }, [=](int i, float sum) { out[i] += sum; });
}
