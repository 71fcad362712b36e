// Cross entropy of rows of logits l [V] with targets x, and its gradient:
//
//   loss      = -log p_x,    p_v = e^{l_v} / Σ_u e^{l_u}
//   dlogits_v = scale · (p_v - [v = x])
//
// The target is kept apart from the rest, m = max_{v≠x} l_v and S = Σ_{v≠x} e^{l_v - m}: the loss is exact near p = 1 and
// so is the target's gradient, -scale · (1 - p). A row whose target is to be ignored, or whose p exceeds the limit that
// `odds` = (1 - limit) / limit stands for, has neither loss nor gradient. NaN in a row, or a target past its end, gives NaN.
//
// A block per row, bound by memory: the row is read for its sum, whose maximum moves on the way, and again for the
// gradient, from cache where it fits. Then a logit costs its bytes twice and its gradient's once.
#include "reduce.cuh"
#include "vector.cuh"

constexpr uint32_t kIgnore = 0xffffffffu;

// The maximum and the sum of e^{l - max} of a thread's logits but the target.
struct Rest {
  float max = -INFINITY, sum = 0.0f;

  template <int N> __device__ __forceinline__ void add(const float (&l)[N], int first, int target) {
    float top = max;
    for (int i = 0; i < N; ++i)
      if (first + i != target) top = Max::merge(top, l[i]);
    if (top == -INFINITY) return;
    sum *= expf(max - top);
    for (int i = 0; i < N; ++i)
      if (first + i != target) sum += expf(l[i] - top);
    max = top;
  }

  // Those of the whole block, for every thread.
  __device__ __forceinline__ Rest merged(float* scratch) const {
    Rest all;
    all.max = block_reduce<Max>(max, scratch);
    all.sum = block_reduce<Sum>(max == -INFINITY ? 0.0f : sum * expf(max - all.max), scratch);
    return all;
  }
};

// `dlogits` may be null; it may be `logits`: what a thread overwrites, only it reads by then.
template <class T>
__device__ void cross_entropy_forward(float* losses, T* dlogits, const float* logits, const uint32_t* targets, int v,
                                      int stride, int gradient_stride, float scale, double odds) {
  const int row = blockIdx.x;
  const uint32_t target = targets[row];
  logits += size_t(row) * stride;
  dlogits += size_t(row) * (dlogits != nullptr ? gradient_stride : 0);
  const bool vectors = aligned<4>(logits);
  Rest rest;
  each_column<4>(v, vectors, [&](int i, auto lanes) {
    float l[lanes.count];
    load(l, logits + i);
    rest.add(l, i, target);
  });
  const float own = target < uint32_t(v) ? logits[target] : NAN;
  rest = rest.merged(dynamic_shared<float>());
  const double lead = double(own) - rest.max;
  const bool skipped = target == kIgnore || rest.sum < exp(lead) * odds;
  if (threadIdx.x == 0) {
    const double loss = lead >= 0.0 ? log1p(rest.sum * exp(-lead)) : log(rest.sum + exp(lead)) - lead;
    losses[row] = skipped ? 0.0f : float(loss);
  }
  if (dlogits == nullptr) return;
  const float base = lead >= 0.0 ? own : rest.max, others = lead >= 0.0 ? rest.sum * expf(rest.max - own) : rest.sum;
  const float share = scale / (others + expf(own - base));
  each_column<4>(v, vectors && aligned<4>(dlogits), [&](int i, auto lanes) {
    float l[lanes.count];
    load(l, logits + i);
    for (int lane = 0; lane < lanes.count; ++lane) {
      const float gradient = uint32_t(i + lane) == target ? -others * share : expf(l[lane] - base) * share;
      l[lane] = skipped ? 0.0f : gradient;
    }
    store(dlogits + i, l);
  });
}

// dlogits may be null.
extern "C" __global__ void __launch_bounds__(256) cross_entropy_forward_f32(float* losses, float* dlogits, const float* logits, const uint32_t* targets, int v, int stride, int gradient_stride, float scale, double odds) {
  cross_entropy_forward(losses, dlogits, logits, targets, v, stride, gradient_stride, scale, odds);
}
extern "C" __global__ void __launch_bounds__(256) cross_entropy_forward_bf16(float* losses, bf16* dlogits, const float* logits, const uint32_t* targets, int v, int stride, int gradient_stride, float scale, double odds) {
  cross_entropy_forward(losses, dlogits, logits, targets, v, stride, gradient_stride, scale, odds);
}
