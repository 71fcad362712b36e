// Rotary positions, in place: within each query and key head, values i and i + half are rotated by the angle of their
// token's position; what lies past 2·half stays.
//
//   (a, b) = (a cos - b sin, b cos + a sin),  a = qkv[t, h·D + i],  b = qkv[t, h·D + half + i]
//
// qkv [T, (H + 2·KV)·D], whose first H + KV heads are rotated; cos, sin [P, half]. A block per token, a vector of pairs
// per thread. Bound by memory: queries and keys read and written once; a token's cosines stay in cache.
#include "vector.cuh"

template <int N, class T>
__device__ __forceinline__ void rotate(T* low, T* high, const float* cos, const float* sin) {
  float a[N], b[N], c[N], s[N];
  load(a, low);
  load(b, high);
  load(c, cos);
  load(s, sin);
  for (int i = 0; i < N; ++i) {
    const float rotated = a[i] * c[i] - b[i] * s[i];
    b[i] = b[i] * c[i] + a[i] * s[i];
    a[i] = rotated;
  }
  store(low, a);
  store(high, b);
}

// Rotates all heads of a token, N pairs at a time; `half` is a multiple of N.
template <int N, class T>
__device__ void rotate_heads(T* row, const float* cos, const float* sin, int heads, int head_dim, int half) {
  const int vectors = half / N;
  for (int i = threadIdx.x; i < heads * vectors; i += blockDim.x) {
    const int head = i / vectors, pair = i % vectors * N;
    T* low = row + head * head_dim + pair;
    rotate<N>(low, low + half, cos + pair, sin + pair);
  }
}

template <class T>
__device__ void rope_forward(T* qkv, const float* cos, const float* sin, uint32_t position, int heads, int head_dim,
                             int half, int stride) {
  constexpr int N = kLanes<T>;
  qkv += size_t(blockIdx.x) * stride;
  cos += size_t(position) * half;
  sin += size_t(position) * half;
  const bool vectors = half % N == 0 && head_dim % N == 0 && stride % N == 0;
  if (vectors) {
    rotate_heads<N>(qkv, cos, sin, heads, head_dim, half);
  } else {
    rotate_heads<1>(qkv, cos, sin, heads, head_dim, half);
  }
}

extern "C" __global__ void __launch_bounds__(256) rope_forward_f32(float* qkv, const float* cos, const float* sin, const uint32_t* positions, int heads, int head_dim, int half, int stride) {
  rope_forward(qkv, cos, sin, positions[blockIdx.x], heads, head_dim, half, stride);
}
extern "C" __global__ void __launch_bounds__(256) rope_forward_bf16(bf16* qkv, const float* cos, const float* sin, const uint32_t* positions, int heads, int head_dim, int half, int stride) {
  rope_forward(qkv, cos, sin, positions[blockIdx.x], heads, head_dim, half, stride);
}
