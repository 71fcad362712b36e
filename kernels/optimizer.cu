// AdamW over flat buffers, and the norm of the gradient that it is clipped by. With g = scale · gradient:
//
//   step             weight -= lr · decay · weight               of the first `decayed` elements
//                    m = β1·m + (1 - β1)·g,  v = β2·v + (1 - β2)·g²
//                    weight -= lr / (1 - β1^t) · m / (√v / √(1 - β2^t) + eps)
//                    rounded = weight                            as products read it
//   sum_of_squares   Σ gradient²                                 a partial sum in double for each block
//
// One pass over everything: 28 bytes per element moved, 30 with bf16 weights. A thread takes 4 values of each buffer.
#include "reduce.cuh"
#include "vector.cuh"

// The factors of one step.
struct Step {
  float scale;      // of the gradient
  float keep;       // 1 - lr · decay
  float beta1, beta2;
  float rate;       // lr / (1 - β1^t)
  float root;       // √(1 - β2^t)
  float eps;
};

__device__ __forceinline__ void update(float& weight, float gradient, float& m, float& v, bool decays, const Step& step) {
  const float g = step.scale * gradient;
  if (decays) weight *= step.keep;
  m += (1.0f - step.beta1) * (g - m);
  v = step.beta2 * v + (1.0f - step.beta2) * g * g;
  weight -= step.rate * (m / (sqrtf(v) / step.root + step.eps));
}

// N values from `i` on; `decays(k)` for the kth of them.
template <int N, class T>
__device__ __forceinline__ void update_at(size_t i, float* weight, const float* gradient, float* m, float* v, T* rounded,
                                          uint64_t decayed, const Step& step) {
  float w[N], g[N], first[N], second[N];
  load(g, gradient + i);
  load(w, weight + i);
  load(first, m + i);
  load(second, v + i);
  for (int k = 0; k < N; ++k) update(w[k], g[k], first[k], second[k], i + k < decayed, step);
  store(weight + i, w);
  store(m + i, first);
  store(v + i, second);
  if (rounded) store(rounded + i, w);
}

template <class T>
__device__ void adamw_step(float* weight, const float* gradient, float* m, float* v, T* rounded, uint64_t n,
                           uint64_t decayed, const Step& step) {
  constexpr int N = 4;
  const size_t first = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  const bool vectors = aligned<N>(weight) && aligned<N>(gradient) && aligned<N>(m) && aligned<N>(v) && aligned<N>(rounded);
  if (vectors && first + N <= n) {
    update_at<N>(first, weight, gradient, m, v, rounded, decayed, step);
  } else {
    for (size_t i = first; i < first + N && i < n; ++i)
      update_at<1>(i, weight, gradient, m, v, rounded, decayed, step);
  }
}

// rounded: may be null.
extern "C" __global__ void __launch_bounds__(256) adamw_step_f32(float* weight, const float* gradient, float* exp_avg, float* exp_avg_sq, float* rounded, uint64_t n, uint64_t decayed, float scale, float keep, float beta1, float beta2, float rate, float root, float eps) {
  adamw_step(weight, gradient, exp_avg, exp_avg_sq, rounded, n, decayed, {scale, keep, beta1, beta2, rate, root, eps});
}
extern "C" __global__ void __launch_bounds__(256) adamw_step_bf16(float* weight, const float* gradient, float* exp_avg, float* exp_avg_sq, bf16* rounded, uint64_t n, uint64_t decayed, float scale, float keep, float beta1, float beta2, float rate, float root, float eps) {
  adamw_step(weight, gradient, exp_avg, exp_avg_sq, rounded, n, decayed, {scale, keep, beta1, beta2, rate, root, eps});
}

// A block takes each kth tile of 4 values per thread, k blocks.
extern "C" __global__ void __launch_bounds__(256) sum_of_squares(double* sums, const float* values, uint64_t n) {
  constexpr int N = 4;
  const bool vectors = aligned<N>(values);
  const size_t stride = size_t(gridDim.x) * blockDim.x * N;
  double sum = 0.0;
#pragma unroll 4
  for (size_t first = (size_t(blockIdx.x) * blockDim.x + threadIdx.x) * N; first < n; first += stride) {
    float v[N] = {};
    if (vectors && first + N <= n) load(v, values + first);
    else
      for (int k = 0; k < N; ++k) v[k] = first + k < n ? values[first + k] : 0.0f;
    for (float value : v) sum += double(value) * value;
  }
  sum = block_reduce<Sum>(sum, dynamic_shared<double>());
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
