// The entry points of libcublasLt that the driver calls. It multiplies as documented for column-major matrices, summing in
// another order than the kernels do, and refuses what would let a row's bits depend on the batch. Products over rows may be
// split, in the one way that adds in order.
#include <cstring>
#include <vector>

#include "stub.h"

namespace {

enum { kSuccess = 0, kNotSupported = 15, kR32 = 0, kR16 = 14, kCompute32 = 68, kOpN = 0, kOpT = 1, kBias = 4 };

// Of the library that looks best by its estimate and of the one that must be taken.
constexpr uint64_t kSplit = 2, kWhole = 1;
constexpr uint64_t kRows = 4096;
constexpr uint32_t kSideBySide = 2;

struct Description { int compute, scale, transpose_a = kOpN, transpose_b = kOpN, epilogue = 1, bias_kind = -1; uint64_t bias = 0; };
struct Layout { int kind; uint64_t rows, columns; int64_t stride; };
struct Preferences { uint64_t workspace = 0; uint32_t reductions = ~0u, alignment[4] = {256, 256, 256, 256}; };
// Parts of a sum over k, and how they are added up.
struct Algorithm { uint64_t splits, reduction, data[6]; };
struct Heuristic { Algorithm algorithm; size_t workspace; int state; float waves; int reserved[4]; };

size_t bytes(int kind) { return kind == kR16 ? 2 : 4; }

float load(const Layout& layout, uint64_t start, uint64_t row, uint64_t column) {
  const uint64_t place = start + (column * uint64_t(layout.stride) + row) * bytes(layout.kind);
  if (layout.kind == kR32) return *reinterpret_cast<const float*>(place);
  const uint32_t bits = uint32_t(*reinterpret_cast<const uint16_t*>(place)) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

void store(const Layout& layout, uint64_t start, uint64_t row, uint64_t column, float single) {
  const uint64_t place = start + (column * uint64_t(layout.stride) + row) * bytes(layout.kind);
  uint32_t bits;
  std::memcpy(&bits, &single, 4);
  if (layout.kind == kR32) *reinterpret_cast<float*>(place) = single;
  else *reinterpret_cast<uint16_t*>(place) = single != single ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// All columns, or rows, one behind the other.
std::vector<float> lines(const Layout& layout, uint64_t start, bool by_row) {
  std::vector<float> values(layout.rows * layout.columns);
  for (uint64_t column = 0; column < layout.columns; ++column)
    for (uint64_t row = 0; row < layout.rows; ++row)
      values[by_row ? row * layout.columns + column : column * layout.rows + row] = load(layout, start, row, column);
  return values;
}

// The caller's Dᵀ = Bᵀ·Aᵀ: its rows are columns here, and its A, the second operand here, is transposed where rows are what
// is summed over.
bool over_rows(const Description& description) { return description.transpose_b == kOpT; }

// The products' sum from the last on, every eighth in one: the low bits are not those of the kernels.
float dot(const float* a, const float* b, uint64_t count) {
  float sums[8] = {};
  for (; count >= 8; count -= 8)
    for (uint64_t i = 1; i <= 8; ++i) sums[i - 1] += a[count - i] * b[count - i];
  for (uint64_t i = 0; i < count; ++i) sums[i] += a[i] * b[i];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

// Checks that a matrix lies in one allocation.
void check(const char* name, const Layout& layout, uint64_t start) {
  if (start % 16 || layout.stride * bytes(layout.kind) % 16) stub::misuse(name, "less aligned than asked for");
  stub::check_device(name, start, (size_t(layout.columns - 1) * size_t(layout.stride) + layout.rows) * bytes(layout.kind));
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return size_t(stub::setting("STUB_CUBLASLT", 130000)); }

int cublasLtCreate(void** handle) {
  stub::check_context("cublasLtCreate");
  if (const int code = int(stub::setting("STUB_CUBLASLT_CREATE", kSuccess))) return code;
  *handle = new char;
  return kSuccess;
}

int cublasLtDestroy(void* handle) {
  delete static_cast<char*>(handle);
  return kSuccess;
}

int cublasLtMatmulDescCreate(void** made, int compute, int scale) {
  *made = new Description{compute, scale};
  return kSuccess;
}

int cublasLtMatmulDescSetAttribute(void* to, int attribute, const void* value, size_t size) {
  auto* description = static_cast<Description*>(to);
  switch (attribute) {
    case 3: std::memcpy(&description->transpose_a, value, size); break;
    case 4: std::memcpy(&description->transpose_b, value, size); break;
    case 7: std::memcpy(&description->epilogue, value, size); break;
    case 8: std::memcpy(&description->bias, value, size); break;
    case 26: std::memcpy(&description->bias_kind, value, size); break;
    default: stub::misuse("cublasLtMatmulDescSetAttribute", "unknown to the stub");
  }
  return kSuccess;
}

int cublasLtMatmulDescDestroy(void* description) {
  delete static_cast<Description*>(description);
  return kSuccess;
}

int cublasLtMatrixLayoutCreate(void** made, int kind, uint64_t rows, uint64_t columns, int64_t stride) {
  *made = new Layout{kind, rows, columns, stride};
  return kSuccess;
}

int cublasLtMatrixLayoutDestroy(void* layout) {
  delete static_cast<Layout*>(layout);
  return kSuccess;
}

int cublasLtMatmulPreferenceCreate(void** made) {
  *made = new Preferences;
  return kSuccess;
}

int cublasLtMatmulPreferenceSetAttribute(void* to, int attribute, const void* value, size_t size) {
  auto* preferences = static_cast<Preferences*>(to);
  if (attribute == 1) std::memcpy(&preferences->workspace, value, size);
  else if (attribute == 3) std::memcpy(&preferences->reductions, value, size);
  else if (attribute >= 5 && attribute <= 8) std::memcpy(&preferences->alignment[attribute - 5], value, size);
  else stub::misuse("cublasLtMatmulPreferenceSetAttribute", "unknown to the stub");
  return kSuccess;
}

int cublasLtMatmulPreferenceDestroy(void* preferences) {
  delete static_cast<Preferences*>(preferences);
  return kSuccess;
}

int cublasLtMatmulAlgoGetHeuristic(void*, void* operation, void*, void* b, void*, void*, void* asked, int count, Heuristic* found,
                                   int* returned) {
  if (const int code = int(stub::setting("STUB_HEURISTIC", kSuccess))) return code;
  const auto* preferences = static_cast<Preferences*>(asked);
  const bool splits = over_rows(*static_cast<Description*>(operation));
  if (preferences->reductions != (splits ? kSideBySide : 0))
    stub::misuse("cublasLtMatmulAlgoGetHeuristic", "reductions that do not keep the bits");
  for (uint32_t alignment : preferences->alignment)
    if (alignment != 16) stub::misuse("cublasLtMatmulAlgoGetHeuristic", "another alignment than the buffers have");
  if (!splits && static_cast<Layout*>(b)->columns != kRows) stub::misuse("cublasLtMatmulAlgoGetHeuristic", "another count of rows");
  std::memset(found, 0, sizeof(Heuristic) * size_t(count));
  // The best by its estimate splits k whether it may or not; the next needs too much room.
  found[0].algorithm = {kSplit, splits ? kSideBySide : 0, {}};
  found[1].algorithm.splits = kWhole;
  found[1].workspace = preferences->workspace + 1;
  found[2].algorithm.splits = kWhole;
  *returned = stub::setting("STUB_CUBLASLT_ONLY_SPLIT", 0) ? 1 : 3;
  return kSuccess;
}

int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, void* value, size_t size, size_t*) {
  const uint32_t splits = uint32_t(algorithm->splits), reduction = uint32_t(algorithm->reduction), none = 0;
  std::memcpy(value, attribute == 2 ? &splits : attribute == 3 ? &reduction : &none, size);
  return kSuccess;
}

int cublasLtMatmul(void*, void* operation, const float* alpha, uint64_t a, void* a_layout, uint64_t b, void* b_layout,
                   const float* beta, uint64_t c, void* c_layout, uint64_t d, void* d_layout, const Algorithm* algorithm,
                   uint64_t workspace, size_t workspace_bytes, void* stream) {
  const char* name = "cublasLtMatmul";
  stub::check_context(name);
  if (const int code = int(stub::setting("STUB_MATMUL", kSuccess))) return code;
  const auto& description = *static_cast<Description*>(operation);
  const auto &A = *static_cast<Layout*>(a_layout), &B = *static_cast<Layout*>(b_layout), &D = *static_cast<Layout*>(d_layout);
  const bool by_rows = over_rows(description), split = algorithm->splits != kWhole;
  if (split && (!by_rows || algorithm->reduction != kSideBySide)) stub::misuse(name, "an algorithm that splits k");
  if (description.compute != kCompute32 || description.scale != kR32) stub::misuse(name, "sums are not f32");
  if (c != d || c_layout != d_layout) stub::misuse(name, "a sum that is not in place");
  if (!by_rows && D.columns != kRows) stub::misuse(name, "another count of rows");
  const bool transposed = description.transpose_a == kOpT;
  const uint64_t M = transposed ? A.columns : A.rows, K = transposed ? A.rows : A.columns;
  const uint64_t N = by_rows ? B.rows : B.columns, depth = by_rows ? B.columns : B.rows;
  if (K != depth || D.rows != M || D.columns != N || A.kind != B.kind) stub::misuse(name, "shapes that do not fit");
  check("cublasLtMatmul A", A, a), check("cublasLtMatmul B", B, b), check("cublasLtMatmul D", D, d);
  stub::check_device(name, workspace, workspace_bytes);
  const bool bias = description.epilogue == kBias;
  if (bias && description.bias_kind != D.kind) stub::misuse(name, "bias of another type");
  if (bias) stub::check_device(name, description.bias, D.rows * bytes(D.kind));
  stub::flush(stub::checked(name, stream));
  const auto left = lines(A, a, !transposed), right = lines(B, b, by_rows);
  const Layout biases{D.kind, D.rows, 1, 8};
  for (uint64_t n = 0; n < N; ++n)
    for (uint64_t m = 0; m < M; ++m) {
      float sum = *alpha * dot(&left[m * K], &right[n * K], K);
      if (*beta != 0) sum += *beta * load(D, d, m, n);
      if (bias) sum += load(biases, description.bias, m, 0);
      store(D, d, m, n, sum);
    }
  return kSuccess;
}

}  // extern "C"
