// Embedding: the residual stream of each token starts as its row of a table, plus that of its position where the model
// learned one.
//
//   x[t, c] = table[ids[t], c] (+ learned[positions[t], c])        x [T, C], table [V, C], learned [P, C]
//
// A block per token. Bound by memory: a row of each table read, a row of x written.
#include "vector.cuh"

template <class T>
__device__ void embedding_forward(float* x, const T* table, const float* learned, uint32_t id, uint32_t position, int c,
                                  int x_stride, int table_stride, int learned_stride) {
  x += size_t(blockIdx.x) * x_stride;
  table += size_t(id) * table_stride;
  const float* added = learned ? learned + size_t(position) * learned_stride : nullptr;
  const bool vectors = aligned<4>(x) && aligned<4>(table) && aligned<4>(added);
  each_column<4>(c, vectors, [&](int i, auto lanes) {
    float v[lanes.count];
    load(v, table + i);
    if (added) {
      float p[lanes.count];
      load(p, added + i);
      for (int j = 0; j < lanes.count; ++j) v[j] += p[j];
    }
    store(x + i, v);
  });
}

// learned: may be null.
extern "C" __global__ void __launch_bounds__(256) embedding_forward_f32(float* x, const float* table, const float* learned, const uint32_t* ids, const uint32_t* positions, int c, int x_stride, int table_stride, int learned_stride) {
  embedding_forward(x, table, learned, ids[blockIdx.x], positions[blockIdx.x], c, x_stride, table_stride, learned_stride);
}
extern "C" __global__ void __launch_bounds__(256) embedding_forward_bf16(float* x, const bf16* table, const float* learned, const uint32_t* ids, const uint32_t* positions, int c, int x_stride, int table_stride, int learned_stride) {
  embedding_forward(x, table, learned, ids[blockIdx.x], positions[blockIdx.x], c, x_stride, table_stride, learned_stride);
}
