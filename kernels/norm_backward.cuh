// The gradients of norm.cu's inputs and parameters. With n = (x - mean) · rstd and g = dy · weight:
//
//   dx = rstd · (g - mean(g) - n · mean(g · n))               RMS: without mean(g)
//   dweight += Σ_rows dy · n,  dbias += Σ_rows dy             here a sum for each chunk of rows; elementwise adds them
//
//   backward         dx[i] += that                            of forward, all rows
//   add_backward     dy[i] = that, of y[i], given dx[i]       of add_forward
//   heads_backward   dqkv[t, offset + g·C ..] = that          in place
//
// On the way back nothing is kept from the forward pass, since x is needed anyway: a thread holds up to 16 values each of
// x, dy and dx, all read at once; a block takes a chunk of rows and sums the gradients of parameters in shared memory.
#pragma once
#include "norm.cuh"

// What a row is taken back from, and to; `kAdds`: it is added to dx.
template <class XType, class GType, class DType, bool kAddsTo> struct Step {
  using X = XType;
  using G = GType;
  using D = DType;
  static constexpr bool kAdds = kAddsTo;
  const X* x;
  const G* dy;
  D* dx;
};

// Of each of three rows, in one thread's registers.
constexpr int kStepValues = 16;
constexpr int kStepWarpRow = kWarp * kStepValues;
constexpr int kStepBlockRow = 512 * kStepValues;

template <class TeamType, class S> struct ResidentStep {
  using Team = TeamType;
  Resident<Team, typename S::X, kStepValues> x;
  Resident<Team, typename S::G, kStepValues> dy;
  Resident<Team, typename S::D, kStepValues> dx;  // before

  __device__ __forceinline__ ResidentStep(const S& step, int c)
      : x(step.x, c), dy(step.dy, c), dx(step.dx, S::kAdds ? c : 0) {}

  template <class F> __device__ __forceinline__ void each(F f) {
#pragma unroll
    for (int k = 0; k < x.kVectors; ++k)
      if (x.column(k) < x.c) f(x.column(k), x.value[k], dy.value[k], dx.value[k]);
  }
};

template <class TeamType, class S> struct RereadStep {
  using Team = TeamType;
  S step;
  int c;

  __device__ __forceinline__ RereadStep(const S& step, int c) : step(step), c(c) {}

  template <class F> __device__ __forceinline__ void each(F f) {
    for (int i = Team::rank(); i < c; i += Team::size()) {
      float x[1] = {to_float(step.x[i])}, dy[1] = {to_float(step.dy[i])};
      float dx[1] = {S::kAdds ? to_float(step.dx[i]) : 0.0f};
      f(i, x, dy, dx);
    }
  }
};

template <int N> __device__ __forceinline__ void load_weight(float (&w)[N], const Parameters& norm, int column) {
  if (norm.weight) load(w, norm.weight + column);
  else
    for (float& weight : w) weight = 1.0f;
}

// Takes a row back and hands it to `write(column, n, dy, dx)`.
template <class Kind, class Team, bool kAdds, class Rows, class Write>
__device__ __forceinline__ void differentiate(Rows rows, const Parameters& norm, Write write) {
  const float shift = Kind::kCentred ? sum<Team>(rows, [](float v) { return v; }) * norm.share : 0.0f;
  float sums[3] = {};  // of (x - shift)², g · (x - shift) and g
  rows.each([&](int column, const auto& x, const auto& dy, const auto&) {
    constexpr int N = sizeof x / sizeof *x;
    float w[N];
    load_weight(w, norm, column);
    for (int i = 0; i < N; ++i) {
      const float v = x[i] - shift, g = dy[i] * w[i];
      sums[0] += v * v;
      sums[1] += g * v;
      sums[2] += g;
    }
  });
  Team::sum(sums);
  const float rstd = rsqrtf(sums[0] * norm.share + norm.eps);
  const float along = sums[1] * norm.share * rstd, level = Kind::kCentred ? sums[2] * norm.share : 0.0f;
  rows.each([&](int column, auto& x, auto& dy, auto& dx) {
    constexpr int N = sizeof x / sizeof *x;
    float w[N];
    load_weight(w, norm, column);
    for (int i = 0; i < N; ++i) {
      x[i] = (x[i] - shift) * rstd;
      const float d = rstd * (dy[i] * w[i] - level - x[i] * along);
      dx[i] = kAdds ? dx[i] + d : d;
    }
    write(column, x, dy, dx);
  });
}

// A parameter's gradient over a block's rows, summed by each team in shared memory, or, of rows too long for that, where
// it goes.
struct Partial {
  float* out;   // null where nobody wants it
  float* sums;  // [teams, C]
  int teams, c;

  // `partials` [chunks, C] may be null; takes what it needs of `shared`, and holds zeros behind the next barrier.
  __device__ __forceinline__ Partial(float* partials, float*& shared, int teams, int c)
      : out(partials ? partials + size_t(blockIdx.x) * c : nullptr), sums(out), teams(teams), c(c) {
    if (!out) return;
    if (c <= kStepBlockRow) {
      sums = shared;
      shared += teams * c;
    }
    for (int i = threadIdx.x; i < teams * c; i += blockDim.x) sums[i] = 0.0f;
  }

  template <int N> __device__ __forceinline__ void add_to(int team, int column, const float (&v)[N]) const {
    if (out) add(sums + team * c + column, v);
  }

  // Behind a barrier: adds the teams' sums in order.
  __device__ __forceinline__ void finish() const {
    if (sums == out) return;
    for (int i = threadIdx.x; i < c; i += blockDim.x) {
      float total = sums[i];
      for (int team = 1; team < teams; ++team) total += sums[team * c + i];
      out[i] = total;
    }
  }
};

// What the gradients of parameters go to, one row for each chunk of `rows` rows out of `count`.
struct Chunks {
  float* dweight;
  float* dbias;
  int count, rows;
};

// Takes every kth row of a chunk back, k = `dweight.teams`, from the one of this thread's team on.
template <class Kind, class Rows, class Place>
__device__ __forceinline__ void each_step(int team, int first, int end, const Parameters& norm, const Partial& dweight,
                                          const Partial& dbias, Place place) {
  for (int row = first + team; row < end; row += dweight.teams) {
    const auto step = place(row);
    differentiate<Kind, typename Rows::Team, step.kAdds>(Rows(step, dweight.c), norm, [&](int column, auto& n, auto& dy, auto& dx) {
      store(step.dx + column, dx);
      for (int i = 0; i < int(sizeof n / sizeof *n); ++i) n[i] *= dy[i];
      dweight.add_to(team, column, n);
      dbias.add_to(team, column, dy);
    });
  }
}

// `place(row)` is the row's Step. `vectors` says that its rows are aligned for 4 values.
template <class Kind, class Place>
__device__ __forceinline__ void norm_backward(const Chunks& chunks, const Parameters& norm, int c, bool vectors, Place place) {
  using S = decltype(place(0));
  const bool narrow = c <= kStepWarpRow;
  const int teams = narrow ? blockDim.x / kWarp : 1, team = narrow ? threadIdx.x / kWarp : 0;
  float* shared = dynamic_shared<float>() + 3 * kWarp;
  const Partial dweight(chunks.dweight, shared, teams, c), dbias(chunks.dbias, shared, teams, c);
  vectors = vectors && norm.vectors() && c % 4 == 0 && c <= kStepBlockRow;
  __syncthreads();
  const int first = blockIdx.x * chunks.rows, end = min(first + chunks.rows, chunks.count);
  if (narrow) {
    if (vectors) each_step<Kind, ResidentStep<Warp, S>>(team, first, end, norm, dweight, dbias, place);
    else each_step<Kind, RereadStep<Warp, S>>(team, first, end, norm, dweight, dbias, place);
  } else {
    if (vectors) each_step<Kind, ResidentStep<Block, S>>(team, first, end, norm, dweight, dbias, place);
    else each_step<Kind, RereadStep<Block, S>>(team, first, end, norm, dweight, dbias, place);
  }
  __syncthreads();
  dweight.finish();
  dbias.finish();
}

// Rows of x, dy and dx start on 16 bytes; so in the two below.
template <class Kind, class T>
__device__ void norm_forward_backward(float* dx, const float* x, const T* dy, const Parameters& norm, const Chunks& chunks, int c,
                                      int x_stride, int dy_stride, int dx_stride) {
  norm_backward<Kind>(chunks, norm, c, true, [=](int row) {
    return Step<float, T, float, true>{x + size_t(row) * x_stride, dy + size_t(row) * dy_stride, dx + size_t(row) * dx_stride};
  });
}

template <class Kind, class T>
__device__ void norm_add_backward(T* dy, const float* y, const float* dx, const Parameters& norm, const Chunks& chunks, int c,
                                  int y_stride, int dx_stride, int dy_stride) {
  norm_backward<Kind>(chunks, norm, c, true, [=](int row) {
    return Step<float, float, T, false>{y + size_t(row) * y_stride, dx + size_t(row) * dx_stride, dy + size_t(row) * dy_stride};
  });
}

template <class Kind, class T>
__device__ void norm_heads_backward(T* dqkv, const T* qkv, const Parameters& norm, const Chunks& chunks, int groups, int c,
                                    int offset, int stride, int dqkv_stride) {
  norm_backward<Kind>(chunks, norm, c, offset % 4 == 0, [=](int row) {
    const size_t token = row / groups;
    const int column = offset + row % groups * c;
    T* dy = dqkv + token * dqkv_stride + column;
    return Step<T, T, T, false>{qkv + token * stride + column, dy, dy};
  });
}
