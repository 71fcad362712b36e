// Kernels with one fault each, which the emulator must find, and their sound neighbours.
#include "device.cuh"

constexpr unsigned kAll = 0xffffffffu;

// Each thread reads what another has written; `barrier` tells whether they wait for each other.
extern "C" __global__ void neighbour(float* out, int barrier) {
  float* s = dynamic_shared<float>();
  s[threadIdx.x] = float(threadIdx.x);
  if (barrier) __syncthreads();
  out[threadIdx.x] = s[(threadIdx.x + 33) % blockDim.x];
}

// The barrier that is missing is the one before a place is written again.
extern "C" __global__ void reuse(float* out, int barrier) {
  float* s = dynamic_shared<float>();
  float sum = 0.0f;
  for (int i = 0; i < 3; ++i) {
    s[threadIdx.x] = float(threadIdx.x * (i + 1));
    __syncthreads();
    sum += s[blockDim.x - 1 - threadIdx.x];
    if (barrier) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

// The same within a warp.
extern "C" __global__ void neighbour_lane(float* out, int barrier) {
  float* s = dynamic_shared<float>();
  s[threadIdx.x] = float(threadIdx.x);
  if (barrier) __syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ 5];
}

extern "C" __global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void warp_leaves(float* out) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void mixed_collectives(float* out) {
  float v = 1.0f;
  if (threadIdx.x % 32 < 20) v = __shfl_xor_sync(kAll, v, 1);
  else v = float(__ballot_sync(kAll, 1));
  out[threadIdx.x] = v;
}

extern "C" __global__ void shuffle_or_barrier(float* out) {
  float v = 1.0f;
  if (threadIdx.x % 32 == 31) __syncthreads();
  else v = __shfl_down_sync(kAll, v, 1);
  out[threadIdx.x] = v;
}

extern "C" __global__ void partial_mask(unsigned* out, int which, unsigned mask) {
  unsigned v = threadIdx.x;
  if (which == 0) v = __shfl_sync(mask, v, 0);
  if (which == 1) v = __shfl_xor_sync(mask, v, 1);
  if (which == 2) v = __shfl_up_sync(mask, v, 1);
  if (which == 3) v = __shfl_down_sync(mask, v, 1);
  if (which == 4) v = __ballot_sync(mask, 1);
  if (which == 5) __syncwarp(mask);
  out[threadIdx.x] = v;
}

// 16-byte accesses, `offset` values of bf16 off their place.
extern "C" __global__ void misaligned(bf16* memory, int which, int offset) {
  bf16* s = dynamic_shared<bf16>() + threadIdx.x * 16;
  bf16* g = memory + threadIdx.x * 16;
  uint32_t r[4];
  if (which == 0) g[0] = load16<uint4>(g + offset).x ? g[0] : g[1];
  if (which == 1) store16(g + offset, float4{0.0f, 0.0f, 0.0f, 0.0f});
  if (which == 2) ldmatrix_x4(r, s + offset);
  if (which == 3) ldmatrix_x4_trans(r, s + offset);
  if (which == 4) cp_async_16(s + offset, g);
  if (which == 5) cp_async_16(s, g + offset);
  cp_async_commit();
  cp_async_wait<0>();
}

// Shared-memory instructions on memory that is not the block's.
extern "C" __global__ void not_shared(bf16* memory, int which, int past) {
  bf16* s = past ? dynamic_shared<bf16>() + past : memory;
  uint32_t r[4];
  if (which == 0) ldmatrix_x4(r, s);
  if (which == 1) cp_async_16(s, memory);
}

extern "C" __global__ void overrun_shared(float* out, int index) {
  float* s = dynamic_shared<float>();
  s[threadIdx.x] = 0.0f;
  if (threadIdx.x == 5) s[index] = 1.0f;
  out[threadIdx.x] = s[threadIdx.x];
}

extern "C" __global__ void overrun_global(float* out, int index) {
  out[threadIdx.x] = 1.0f;
  if (threadIdx.x == 5) out[index] = 2.0f;
}

extern "C" __global__ void overread_global(float* out, const float* in, int index) {
  out[threadIdx.x] = in[threadIdx.x == 5 ? index : int(threadIdx.x)];
}

// What shared memory holds before anything is written, in each block anew.
extern "C" __global__ void unwritten(float* out) {
  float* s = dynamic_shared<float>();
  out[blockIdx.x * blockDim.x + threadIdx.x] = s[threadIdx.x];
  s[threadIdx.x] = 1.0f;
}

// Three groups of copies: out[stage][group] before any wait, and after waits for the first and for all.
extern "C" __global__ void copies(float* out, const float* from, int bytes) {
  float* s = dynamic_shared<float>() + threadIdx.x * 12;
  for (int g = 0; g < 3; ++g) {
    cp_async_16(s + g * 4, from + g * 4, bytes);
    cp_async_commit();
  }
  float* mine = out + threadIdx.x * 36;
  for (int i = 0; i < 12; ++i) mine[i] = s[i];
  cp_async_wait<2>();
  for (int i = 0; i < 12; ++i) mine[12 + i] = s[i];
  cp_async_wait<0>();
  for (int i = 0; i < 12; ++i) mine[24 + i] = s[i];
}

// A copy that no group holds is not waited for.
extern "C" __global__ void uncommitted(float* out, const float* from) {
  float* s = dynamic_shared<float>() + threadIdx.x * 4;
  cp_async_16(s, from);
  cp_async_wait<0>();
  out[threadIdx.x] = s[0];
}

extern "C" __global__ void copy_size(const float* from, int bytes) {
  cp_async_16(dynamic_shared<float>() + threadIdx.x * 4, from, bytes);
  cp_async_commit();
  cp_async_wait<0>();
}

// Fails in one block only.
extern "C" __global__ void in_one_block(float* out) {
  if (blockIdx.x == 1 && blockIdx.y == 2 && blockIdx.z == 3 && threadIdx.x == 7) store16(out + 1, float4{});
}

// Which block and thread ran, of how many.
extern "C" __global__ void where(unsigned* out) {
  const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[b * blockDim.x + threadIdx.x] = b * 1000 + threadIdx.x;
}
