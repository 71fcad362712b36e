// Embedding: the residual stream of each token starts as its row of a table, plus that of its position where the model
// learned one.
//
//   x[t, c] = table[ids[t], c] (+ learned[positions[t], c])        x [T, C], table [V, C], learned [P, C]
//
//   backward   dtable[id, c] += Σ dx[t, c] over the t with ids[t] = id, in order; of dlearned the same, by positions
//
// A block per token. Bound by memory: a row of each table read, a row of x written. An id or a position outside its
// table gives a row of NaN: the host checks them, and what slips through shows. The way back takes a block per distinct id
// and strip of columns, from the host's list of runs: no two blocks add to the same place.
#include "columns.cuh"

template <class T> struct Table {
  const T* data;
  int rows, stride;

  __device__ __forceinline__ bool has(uint32_t row) const { return row < uint32_t(rows); }
  __device__ __forceinline__ const T* row(uint32_t row) const { return data + size_t(row) * stride; }
};

// x = from (+ added)
template <class T> __device__ __forceinline__ void sum_rows(float* x, const T* from, const float* added, int c) {
  each_column<4>(c, aligned<4>(x) && aligned<4>(from) && aligned<4>(added), [&](int i, auto lanes) {
    float v[lanes.count];
    load(v, from + i);
    if (added) {
      float p[lanes.count];
      load(p, added + i);
      for (int j = 0; j < lanes.count; ++j) v[j] += p[j];
    }
    store(x + i, v);
  });
}

template <class T>
__device__ void embedding_forward(float* x, const Table<T>& table, const Table<float>& learned, const uint32_t* ids,
                                  const uint32_t* positions, int c, int x_stride) {
  const uint32_t id = ids[blockIdx.x], position = positions[blockIdx.x];
  x += size_t(blockIdx.x) * x_stride;
  if (!table.has(id) || (learned.data && !learned.has(position))) {
    for (int i = threadIdx.x; i < c; i += blockDim.x) x[i] = NAN;
  } else {
    sum_rows(x, table.row(id), learned.data ? learned.row(position) : nullptr, c);
  }
}

// learned: may be null.
extern "C" __global__ void __launch_bounds__(256) embedding_forward_f32(float* x, const float* table, const float* learned, const uint32_t* ids, const uint32_t* positions, int c, int table_rows, int learned_rows, int x_stride, int table_stride, int learned_stride) {
  const Table<float> places = {learned, learned_rows, learned_stride};
  embedding_forward<float>(x, {table, table_rows, table_stride}, places, ids, positions, c, x_stride);
}
extern "C" __global__ void __launch_bounds__(256) embedding_forward_bf16(float* x, const bf16* table, const float* learned, const uint32_t* ids, const uint32_t* positions, int c, int table_rows, int learned_rows, int x_stride, int table_stride, int learned_stride) {
  const Table<float> places = {learned, learned_rows, learned_stride};
  embedding_forward<bf16>(x, {table, table_rows, table_stride}, places, ids, positions, c, x_stride);
}

// A run is an id, where it begins in `order`, and its length; `order` holds the rows of dx, those of a run ascending.
extern "C" __global__ void __launch_bounds__(128, 8) embedding_backward(float* dtable, const float* dx, const uint32_t* runs, const uint32_t* order, int c, int table_rows, int dx_stride, int dtable_stride) {
  const uint32_t* run = runs + size_t(blockIdx.x) * 3;
  if (run[0] >= uint32_t(table_rows)) return;
  const uint32_t* tokens = order + run[1];
  float* out = dtable + size_t(run[0]) * dtable_stride;
  sum_columns<float>(blockIdx.y * kStrip<float>, c, int(run[2]), aligned<4>(dx) && dx_stride % 4 == 0,
                     [=](int k) { return dx + size_t(tokens[k]) * dx_stride; },
                     [=](int i, float sum) { out[i] += sum; });
}
