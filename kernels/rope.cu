// Rotary positions, in place: within each query and key head, values i and i + half are rotated by the angle of their
// token's position; what lies past 2·half stays.
//
//   (a, b) = (a cos - b sin, b cos + a sin),  a = qkv[t, h·D + i],  b = qkv[t, h·D + half + i]
//
// `direction` is 1, or −1 to rotate back: the transpose, and so the gradient.
//
// qkv [T, (H + 2·KV)·D], whose first H + KV heads are rotated; cos, sin [P, half], rows without gaps. A block per
// token, a vector of pairs per thread. Bound by memory: queries and keys read and written once; a token's cosines stay
// in cache. A position outside the tables makes its pairs NaN: the host checks them, and what slips through shows.
#include "vector.cuh"

// A token's row of the tables, null where they have none, and the sign of the sines.
struct Angles {
  const float* cos;
  const float* sin;
  float direction;
};

template <int N, class T>
__device__ __forceinline__ void rotate(T* low, T* high, const Angles& angles, int pair) {
  float a[N], b[N], c[N], s[N];
  load(a, low);
  load(b, high);
  if (angles.cos) {
    load(c, angles.cos + pair);
    load(s, angles.sin + pair);
    for (float& sin : s) sin *= angles.direction;
  } else {
    for (int i = 0; i < N; ++i) c[i] = s[i] = NAN;
  }
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
__device__ __forceinline__ void rotate_heads(T* row, const Angles& angles, int heads, int head_dim, int half) {
  const int vectors = half / N;
  for (int i = threadIdx.x; i < heads * vectors; i += blockDim.x) {
    const int pair = i % vectors * N;
    T* low = row + i / vectors * head_dim + pair;
    rotate<N>(low, low + half, angles, pair);
  }
}

// `rows` of the tables.
template <class T>
__device__ void rope_forward(T* qkv, const float* cos, const float* sin, const uint32_t* positions, int heads,
                             int head_dim, int rows, int half, int stride, float direction) {
  constexpr int N = kLanes<T>;
  T* row = qkv + size_t(blockIdx.x) * stride;
  const size_t at = size_t(positions[blockIdx.x]) * half;
  const bool known = positions[blockIdx.x] < uint32_t(rows);
  const Angles angles = {known ? cos + at : nullptr, known ? sin + at : nullptr, direction};
  if (half % N == 0 && head_dim % N == 0 && aligned<N>(row)) rotate_heads<N>(row, angles, heads, head_dim, half);
  else rotate_heads<1>(row, angles, heads, head_dim, half);
}

extern "C" __global__ void __launch_bounds__(256) rope_forward_f32(float* qkv, const float* cos, const float* sin, const uint32_t* positions, int heads, int head_dim, int rows, int half, int stride, float direction) {
  rope_forward(qkv, cos, sin, positions, heads, head_dim, rows, half, stride, direction);
}
extern "C" __global__ void __launch_bounds__(256) rope_forward_bf16(bf16* qkv, const float* cos, const float* sin, const uint32_t* positions, int heads, int head_dim, int rows, int half, int stride, float direction) {
  rope_forward(qkv, cos, sin, positions, heads, head_dim, rows, half, stride, direction);
}
