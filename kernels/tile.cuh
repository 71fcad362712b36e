// The main loop of every product. A block computes 128 rows and `Columns` columns of A·B:
//
//   acc[m, n] = Σ_k A[m, k] · B[n, k]
//
// Operands lie in memory with either index contiguous. They pass through shared memory in stages of 64 bytes of k (32
// values of bf16, 16 of f32), copied asynchronously `Stages` deep; each warp keeps 64×64 sums in registers.
//
// bf16 multiplies by mma.sync, f32 by fused multiply-adds. Either way an output is one chain over k in ascending order
// (bf16: in steps of 16) that does not depend on the layout, the tile's width or the place in it. So a product computed
// again, alone or among others, has the same bits.
//
// A warp's 64×64 outputs need 8 KiB of shared memory for 2¹⁷ multiply-adds, which keeps the tensor cores ahead of shared
// memory; its 128 sums and two sets of fragments need about 200 registers.
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

constexpr int kTileRows = 128;
constexpr int kWarpTile = 64;

// Steps of k in a stage.
template <class T> constexpr int kDepth = 4 * kLanes<T>;

// The index that is contiguous in an operand: [outer, k] or [k, outer], `outer` being a row or a column of the output.
enum class Runs { over_k, over_outer };

// An operand's part of a stage in shared memory, cut into chunks of 16 bytes.
template <class T, int Outer, Runs runs> struct Panel {
  static constexpr int kOuter = Outer;
  static constexpr bool kOverK = runs == Runs::over_k;
  static constexpr int kRows = kOverK ? Outer : kDepth<T>;
  static constexpr int kChunks = (kOverK ? kDepth<T> : Outer) / kLanes<T>;
  static constexpr int kSize = Outer * kDepth<T>;

  // Where a chunk lies. Eight rows of one column of chunks, which is what an instruction reads, fall on all 32 banks. f32
  // over the outer index is read along rows and needs no turn.
  static __device__ __forceinline__ unsigned at(unsigned row, unsigned chunk) {
    const unsigned turn = kOverK ? row / 2 % 4 : sizeof(T) == 2 ? row % 8 : 0;
    return (row * kChunks + (chunk ^ turn)) * kLanes<T>;
  }
};

// A thread's share of the copies of one operand. k past the end becomes zeros. Rows and columns past the output's end are
// copies of others: what is computed of them is not used.
template <class T, class P, int Threads> struct Loader {
  static constexpr int kCopies = P::kRows * P::kChunks / Threads;
  static constexpr int kStep = Threads / P::kChunks;

  const T* from[kCopies];
  size_t advance;  // from one stage to the next
  int left;        // values of k from this thread's first one to the end

  // The part of an operand from row or column `first` of `outer` on.
  static __device__ __forceinline__ Loader of(const T* data, int first, int outer, int stride, int k) {
    if constexpr (P::kOverK) {
      return gather(k, [=](int i) { return data + size_t(first + i < outer ? first + i : first) * stride; });
    } else {
      const int column = first + first_value();
      const T* start = data + size_t(first_row()) * stride + (column < outer ? column : first);
      Loader loader{{}, size_t(kDepth<T>) * stride, k - first_row()};
      for (int i = 0; i < kCopies; ++i) loader.from[i] = start + size_t(i * kStep) * stride;
      return loader;
    }
  }

  // Rows of k values from anywhere: `row(i)` is where row i of the tile starts.
  template <class Row> static __device__ __forceinline__ Loader gather(int k, Row row) {
    Loader loader{{}, size_t(kDepth<T>), k - first_value()};
    for (int i = 0; i < kCopies; ++i) loader.from[i] = row(first_row() + i * kStep) + first_value();
    return loader;
  }

  // Copies the next stage to `panel`.
  __device__ __forceinline__ void load(T* panel) {
    for (int i = 0; i < kCopies; ++i) {
      const int values = P::kOverK ? left : left > i * kStep ? kLanes<T> : 0;
      const int bytes = values >= kLanes<T> ? 16 : values > 0 ? values * int(sizeof(T)) : 0;
      cp_async_16(panel + P::at(first_row() + i * kStep, threadIdx.x % P::kChunks), from[i], bytes);
      from[i] += advance;
    }
    left -= kDepth<T>;
  }

 private:
  static __device__ __forceinline__ int first_row() { return threadIdx.x / P::kChunks; }
  static __device__ __forceinline__ int first_value() { return threadIdx.x % P::kChunks * kLanes<T>; }
};

// A thread's sums: output (16·i + lane/4 + 8·(r/2), 8·j + lane%4·2 + r%2) of its warp, as mma.sync has them.
struct Sums {
  float at[4][8][4] = {};
};

// A warp's work on a stage, in two halves: the second comes when the next stage is there and this one may be overwritten.
template <class T, class A, class B> struct Multiplier;

template <class A, class B> struct Multiplier<bf16, A, B> {
  unsigned row, column;
  uint32_t a[2][4][4] = {}, b[2][8][2] = {};

  __device__ __forceinline__ void begin(const bf16* stage) { fetch<0>(stage); }
  __device__ __forceinline__ void first(Sums& sums, const bf16* stage) {
    fetch<1>(stage);
    multiply<0>(sums);
  }
  __device__ __forceinline__ void second(Sums& sums, const bf16* next) {
    fetch<0>(next);
    multiply<1>(sums);
  }

 private:
  // Lane 8·i + r points at row r of the i-th 8×8 matrix: A's are ordered rows first, then k, B's k first.
  template <int Half> __device__ __forceinline__ void fetch(const bf16* stage) {
    const unsigned lane = threadIdx.x % kWarp, low = lane % 16, high = lane / 16;
    for (int i = 0; i < 4; ++i) {
      const unsigned outer = row + 16 * i;
      if constexpr (A::kOverK) ldmatrix_x4(a[Half][i], stage + A::at(outer + low, 2 * Half + high));
      else ldmatrix_x4_trans(a[Half][i], stage + A::at(16 * Half + 8 * high + low % 8, outer / 8 + low / 8));
    }
    for (int j = 0; j < 8; j += 2) {
      const unsigned outer = column + 8 * j;
      uint32_t pair[4];
      if constexpr (B::kOverK) ldmatrix_x4(pair, stage + A::kSize + B::at(outer + 8 * high + low % 8, 2 * Half + low / 8));
      else ldmatrix_x4_trans(pair, stage + A::kSize + B::at(16 * Half + low, outer / 8 + high));
      for (int r = 0; r < 4; ++r) b[Half][j + r / 2][r % 2] = pair[r];
    }
  }
  template <int Half> __device__ __forceinline__ void multiply(Sums& sums) {
    mma_tiles(sums.at, a[Half], b[Half]);
  }
};

template <class A, class B> struct Multiplier<float, A, B> {
  unsigned row, column;

  __device__ __forceinline__ void begin(const float*) {}
  __device__ __forceinline__ void first(Sums& sums, const float* stage) {
    const unsigned lane = threadIdx.x % kWarp;
    for (int chunk = 0; chunk < 4; ++chunk) {
      float a[8][4];
      for (int i = 0; i < 8; ++i) fetch<A>(a[i], stage, row + 8 * i + lane / 4, chunk);
      for (int j = 0; j < 16; ++j) {
        float b[4];
        fetch<B>(b, stage + A::kSize, column + 8 * (j / 2) + lane % 4 * 2 + j % 2, chunk);
        for (int k = 0; k < 4; ++k)
          for (int i = 0; i < 8; ++i) {
            float& sum = sums.at[i / 2][j / 2][i % 2 * 2 + j % 2];
            sum = fmaf(a[i][k], b[k], sum);
          }
      }
    }
  }
  __device__ __forceinline__ void second(Sums&, const float*) {}

 private:
  // Four steps of k of one row or column.
  template <class P> static __device__ __forceinline__ void fetch(float (&v)[4], const float* panel, unsigned outer, unsigned chunk) {
    if constexpr (P::kOverK) load<4>(v, panel + P::at(outer, chunk));
    else for (int k = 0; k < 4; ++k) v[k] = panel[P::at(4 * chunk + k, outer / 4) + outer % 4];
  }
};

// A block's tile: 128 rows by `Columns`, a warp to each 64×64.
template <class T, int Columns, int Stages, Runs a_runs, Runs b_runs> struct Tile {
  static constexpr int kColumns = Columns;
  static constexpr int kWarpColumns = Columns / kWarpTile;
  static constexpr int kThreads = kTileRows / kWarpTile * kWarpColumns * kWarp;
  using A = Panel<T, kTileRows, a_runs>;
  using B = Panel<T, Columns, b_runs>;
  using LoadA = Loader<T, A, kThreads>;
  using LoadB = Loader<T, B, kThreads>;
  static constexpr int kStage = A::kSize + B::kSize;

  // Where this thread's warp stands in the tile.
  static __device__ __forceinline__ unsigned warp_row() { return threadIdx.x / kWarp / kWarpColumns * kWarpTile; }
  static __device__ __forceinline__ unsigned warp_column() { return threadIdx.x / kWarp % kWarpColumns * kWarpTile; }

  // Adds the product over k to `sums`; `shared` holds Stages · kStage values and is free afterwards.
  static __device__ __forceinline__ void multiply(Sums& sums, LoadA a, LoadB b, int k, T* shared) {
    int steps = (k + kDepth<T> - 1) / kDepth<T>;
    int to_load = steps;
    const auto load = [&](T* stage) {
      if (to_load-- > 0) {
        a.load(stage);
        b.load(stage + A::kSize);
      }
      cp_async_commit();  // an empty group keeps the count
    };
    for (int i = 0; i < Stages - 1; ++i) load(shared + i * kStage);
    Multiplier<T, A, B> warp{warp_row(), warp_column()};
    cp_async_wait<Stages - 2>();
    __syncthreads();
    warp.begin(shared);
    T *stage = shared, *last = shared + (Stages - 1) * kStage;
    for (; steps > 0; --steps) {
      load(stage == shared ? last : stage - kStage);
      warp.first(sums, stage);
      stage = stage == last ? shared : stage + kStage;
      cp_async_wait<Stages - 2>();
      __syncthreads();
      // After the last step this reads what nobody uses.
      warp.second(sums, stage);
    }
    cp_async_wait<0>();
    __syncthreads();
  }
};

// A block's place among tiles of the output. Blocks that run together share rows of A and columns of B in the L2 cache:
// bands of 16 tile rows, in a band column by column.
struct Place {
  int row, column;
};

__device__ __forceinline__ Place place(int block, int rows, int columns) {
  constexpr int kBand = 16;
  const int band = block / (kBand * columns), first = band * kBand;
  const int height = rows - first < kBand ? rows - first : kBand, within = block - first * columns;
  return {first + within % height, within / height};
}
