// Activations of the MLP, gated or not:
//
//   out[r, i] = act(x[r, i]) (· up[r, i])                          out, x, up [T, I]; out may be x or up
//
//   gelu       x/2 · (1 + erf(x/√2))
//   gelu_tanh  x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
//   silu       x / (1 + e^-x)
//
//   backward   x[r, i] = dy[r, i] · act'(x[r, i]) (· up[r, i]),  up[r, i] = dy[r, i] · act(x[r, i])     in place
//
// A block per row, 16 bytes of each operand at a time. Bound by memory, just: some 25 instructions for 4 to 6 bytes.
#include "vector.cuh"

// act(x) = x · share(x), so act'(x) = share(x) + x · share'(x); `slope` is share'.
struct Gelu {
  static __device__ __forceinline__ float share(float x) { return 0.5f * (1.0f + erff(x * 0.70710678f)); }
  static __device__ __forceinline__ float slope(float x, float) { return 0.3989423f * expf(-0.5f * x * x); }
};

struct GeluTanh {
  static __device__ __forceinline__ float share(float x) {
    return 0.5f * (1.0f + tanhf(0.7978846f * (x + 0.044715f * x * x * x)));
  }
  // Far out, where x² overflows, the share is 0 or 1.
  static __device__ __forceinline__ float slope(float x, float share) {
    return 2.0f * share * (1.0f - share) * 0.7978846f * (1.0f + 0.134145f * min(x * x, 1e6f));
  }
};

struct Silu {
  static __device__ __forceinline__ float share(float x) { return 1.0f / (1.0f + expf(-x)); }
  static __device__ __forceinline__ float slope(float, float share) { return share * (1.0f - share); }
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
    for (float& value : v) value *= Activation::share(value);
    if (up) {
      float factor[lanes.count];
      load(factor, up + i);
      for (int j = 0; j < lanes.count; ++j) v[j] *= factor[j];
    }
    store(out + i, v);
  });
}

template <class Activation, class T>
__device__ void activation_backward(T* x, T* up, const T* dy, int n, int x_stride, int dy_stride) {
  constexpr int N = kLanes<T>;
  x += size_t(blockIdx.x) * x_stride;
  dy += size_t(blockIdx.x) * dy_stride;
  if (up) up += size_t(blockIdx.x) * x_stride;
  each_column<N>(n, aligned<N>(x) && aligned<N>(up) && aligned<N>(dy), [&](int i, auto lanes) {
    float v[lanes.count], d[lanes.count], factor[lanes.count];
    load(v, x + i);
    load(d, dy + i);
    if (up) load(factor, up + i);
    for (int j = 0; j < lanes.count; ++j) {
      const float share = Activation::share(v[j]), value = v[j] * share;
      const float slope = share + v[j] * Activation::slope(v[j], share);
      v[j] = d[j] * slope * (up ? factor[j] : 1.0f);
      d[j] *= value;
    }
    store(x + i, v);
    if (up) store(up + i, d);
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
extern "C" __global__ void __launch_bounds__(256) gelu_backward_f32(float* x, float* up, const float* dy, int n, int x_stride, int dy_stride) {
  activation_backward<Gelu>(x, up, dy, n, x_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(256) gelu_backward_bf16(bf16* x, bf16* up, const bf16* dy, int n, int x_stride, int dy_stride) {
  activation_backward<Gelu>(x, up, dy, n, x_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(256) gelu_tanh_backward_f32(float* x, float* up, const float* dy, int n, int x_stride, int dy_stride) {
  activation_backward<GeluTanh>(x, up, dy, n, x_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(256) gelu_tanh_backward_bf16(bf16* x, bf16* up, const bf16* dy, int n, int x_stride, int dy_stride) {
  activation_backward<GeluTanh>(x, up, dy, n, x_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(256) silu_backward_f32(float* x, float* up, const float* dy, int n, int x_stride, int dy_stride) {
  activation_backward<Silu>(x, up, dy, n, x_stride, dy_stride);
}
extern "C" __global__ void __launch_bounds__(256) silu_backward_bf16(bf16* x, bf16* up, const bf16* dy, int n, int x_stride, int dy_stride) {
  activation_backward<Silu>(x, up, dy, n, x_stride, dy_stride);
}
