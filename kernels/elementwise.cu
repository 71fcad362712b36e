// What is done to each value of a matrix alone.
//
//   convert   out[r, i] = x[r, i] rounded to T                     f32 rows as inputs of a product
//   clamp     x[r, i] = min(max(x[r, i], -limit), limit)           in place (OLMo); NaN stays NaN
//
// A block per row. Bound by memory: each value read and written once.
#include "vector.cuh"

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
