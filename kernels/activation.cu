// Activations of the MLP, gated or not:
//
//   out[r, i] = act(x[r, i]) (· up[r, i])                          out, x, up [T, I]; out may be x or up
//
//   gelu       x/2 · (1 + erf(x/√2))
//   gelu_tanh  x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
//   silu       x / (1 + e^-x)
//
// A block per row, 16 bytes of each operand at a time. Bound by memory, just: some 25 instructions for 4 to 6 bytes.
#include "vector.cuh"

struct Gelu {
  static __device__ __forceinline__ float of(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
};

struct GeluTanh {
  static __device__ __forceinline__ float of(float x) {
    return 0.5f * x * (1.0f + tanhf(0.7978846f * (x + 0.044715f * x * x * x)));
  }
};

struct Silu {
  static __device__ __forceinline__ float of(float x) { return x / (1.0f + expf(-x)); }
};

template <class Activation, class T>
__device__ void activation_forward(T* out, const T* x, const T* up, int n, int out_stride, int x_stride) {
  constexpr int N = kLanes<T>;
  out += size_t(blockIdx.x) * out_stride;
  x += size_t(blockIdx.x) * x_stride;
  if (up) up += size_t(blockIdx.x) * x_stride;
  each_column<N>(n, aligned<N>(out) && aligned<N>(x) && aligned<N>(up), [&](int i, auto lanes) {
    float v[lanes.count];
    load(v, x + i);
    for (float& value : v) value = Activation::of(value);
    if (up) {
      float factor[lanes.count];
      load(factor, up + i);
      for (int j = 0; j < lanes.count; ++j) v[j] *= factor[j];
    }
    store(out + i, v);
  });
}

// up: null where there is no gate, else rows as far apart as x's.
extern "C" __global__ void __launch_bounds__(256) gelu_forward_f32(float* out, const float* x, const float* up, int n, int out_stride, int x_stride) {
  activation_forward<Gelu>(out, x, up, n, out_stride, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) gelu_forward_bf16(bf16* out, const bf16* x, const bf16* up, int n, int out_stride, int x_stride) {
  activation_forward<Gelu>(out, x, up, n, out_stride, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) gelu_tanh_forward_f32(float* out, const float* x, const float* up, int n, int out_stride, int x_stride) {
  activation_forward<GeluTanh>(out, x, up, n, out_stride, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) gelu_tanh_forward_bf16(bf16* out, const bf16* x, const bf16* up, int n, int out_stride, int x_stride) {
  activation_forward<GeluTanh>(out, x, up, n, out_stride, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) silu_forward_f32(float* out, const float* x, const float* up, int n, int out_stride, int x_stride) {
  activation_forward<Silu>(out, x, up, n, out_stride, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) silu_forward_bf16(bf16* out, const bf16* x, const bf16* up, int n, int out_stride, int x_stride) {
  activation_forward<Silu>(out, x, up, n, out_stride, x_stride);
}
