// usage: isa CASE: compares an instruction with the PTX ISA's definition, for every lane and bit.
#include <cstring>
#include <map>
#include <random>
#include <span>

#include "launch.hpp"

namespace {
#include "isa.cu"

std::mt19937 random_bits(7);

// shfl.sync as the ISA words it, with the segment mask and clamp that CUDA passes for a width of 32.
int source_lane(int which, unsigned lane, unsigned b) {
  const unsigned clamp = which == 2 ? 0u : 31u, segment = 0, bval = b & 31u;
  const int max_lane = int((lane & segment) | (clamp & ~segment)), min_lane = int(lane & segment);
  int j = 0;
  bool valid = false;
  switch (which) {
    case 0: j = min_lane | int(bval & ~segment), valid = j <= max_lane; break;
    case 1: j = int(lane ^ bval), valid = j <= max_lane; break;
    case 2: j = int(lane) - int(bval), valid = j >= max_lane; break;
    case 3: j = int(lane) + int(bval), valid = j <= max_lane; break;
  }
  return valid ? j : int(lane);
}

// Two warps; the lanes' distances are equal or each their own.
void check_shuffle(int which, bool reversed) {
  for (int round = 0; round < 128; ++round) {
    std::vector<int> by(64), i(64);
    std::vector<float> f(64);
    std::vector<double> d(64);
    std::vector<unsigned long long> u(64);
    for (int t = 0; t < 64; ++t) {
      by[t] = round < 64 ? round - 16 : int(random_bits());
      i[t] = 1000 + t, f[t] = 0.5f + float(t), d[t] = 1e-300 * t, u[t] = (1ull << 63) + unsigned(t);
    }
    run<shuffles>({{1, 1, 1}, 64}, reversed, which, in(by), i.data(), f.data(), d.data(), u.data());
    for (int t = 0; t < 64; ++t) {
      const int s = t / 32 * 32 + source_lane(which, unsigned(t % 32), unsigned(by[t]));
      require(i[t] == 1000 + s && f[t] == 0.5f + float(s), "another lane's value");
      require(d[t] == 1e-300 * s && u[t] == (1ull << 63) + unsigned(s), "another lane's value");
    }
  }
}

void check_ballot(bool reversed) {
  for (int round = 0; round < 64; ++round) {
    std::vector<int> votes(64);
    for (int& vote : votes) vote = int(random_bits() % 3) - 1;
    std::vector<unsigned> out(64);
    run<ballot>({{1, 1, 1}, 64}, reversed, out.data(), in(votes));
    for (int t = 0; t < 64; ++t) {
      unsigned expected = 0;
      for (int l = 0; l < 32; ++l)
        if (votes[t / 32 * 32 + l] != 0) expected += 1u << l;
      require(out[t] == expected, "wrong votes");
    }
  }
}

float random_bf16() { return to_float(from_float<bf16>(std::normal_distribution<float>()(random_bits))); }
void put_half(uint32_t& word, int half, float v) {
  const uint32_t bits = __float_as_uint(v) >> 16;
  word = half == 0 ? (word & 0xffff0000u) | bits : (word & 0xffffu) | bits << 16;
}

// The fragments of mma.m16n8k16 in the ISA's words: element i of a thread's multiplicands and sums.
struct Place {
  int row, col;
};
Place place_a(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {(0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8, in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place place_b(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0), group};
}
Place place_c(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
}

void check_mma(bool reversed) {
  for (int round = 0; round < 64; ++round) {
    float A[16][16], B[16][8], C[16][8];
    for (float& v : std::span(A[0], 256)) v = random_bf16();
    for (float& v : std::span(B[0], 128)) v = random_bf16();
    for (float& v : std::span(C[0], 128)) v = random_bf16() * 1.7f;
    std::vector<uint32_t> a(32 * 4), b(32 * 2);
    std::vector<float> d(32 * 4);
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 8; ++i) put_half(a[lane * 4 + i / 2], i % 2, A[place_a(lane, i).row][place_a(lane, i).col]);
      for (int i = 0; i < 4; ++i) put_half(b[lane * 2 + i / 2], i % 2, B[place_b(lane, i).row][place_b(lane, i).col]);
      for (int i = 0; i < 4; ++i) d[lane * 4 + i] = C[place_c(lane, i).row][place_c(lane, i).col];
    }
    run<mma>({{1, 1, 1}, 32}, reversed, d.data(), in(a), in(b));
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n)
        for (int k = 0; k < 16; ++k) C[m][n] += A[m][k] * B[k][n];
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const auto [row, col] = place_c(lane, i);
        require(d[lane * 4 + i] == C[row][col], "wrong sum");
      }
  }
}

void check_tiles(bool reversed) {
  std::vector<uint32_t> a(3 * 64 * 8), b(3 * 64 * 6);
  for (uint32_t& v : a) put_half(v, 0, random_bf16()), put_half(v, 1, random_bf16());
  for (uint32_t& v : b) put_half(v, 0, random_bf16()), put_half(v, 1, random_bf16());
  std::vector<float> d[2];
  for (int together : {0, 1}) {
    d[together].resize(64 * 24);
    run<tiles>({{1, 1, 1}, 64}, reversed, d[together].data(), in(a), in(b), together);
  }
  require(d[0] == d[1] && d[0][0] != 0.0f, "not as one by one");
}

// Threads 8·i to 8·i + 7 give the rows of matrix i, of which a thread gets elements 2·(lane % 4) and the next of row
// lane / 4; with .trans, of the matrix read column by column.
void check_ldmatrix(bool transposed, bool reversed) {
  const int stride = 24, rows = 64;
  std::vector<bf16> memory(rows * stride);
  for (size_t i = 0; i < memory.size(); ++i) memory[i].bits = uint16_t(i * 7 + 1);
  for (int round = 0; round < 64; ++round) {
    std::vector<int> at(32);
    for (int& v : at) v = int(random_bits() % rows) * stride + int(random_bits() % 3) * 8;
    std::vector<uint32_t> out(32 * 4);
    const Grid grid{{1, 1, 1}, 32, memory.size() * sizeof(bf16)};
    run<ldmatrix>(grid, reversed, out.data(), in(memory), in(at), int(memory.size()), int(transposed));
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i)
        for (int half = 0; half < 2; ++half) {
          const int major = lane / 4, minor = lane % 4 * 2 + half;
          const int row = transposed ? minor : major, col = transposed ? major : minor;
          const uint16_t expected = memory[size_t(at[size_t(8 * i + row)] + col)].bits;
          require(uint16_t(out[size_t(lane * 4 + i)] >> (16 * half)) == expected, "another element");
        }
  }
}

const std::map<std::string, void (*)(bool)> kCases = {
    {"shfl", [](bool reversed) { check_shuffle(0, reversed); }},
    {"shfl_xor", [](bool reversed) { check_shuffle(1, reversed); }},
    {"shfl_up", [](bool reversed) { check_shuffle(2, reversed); }},
    {"shfl_down", [](bool reversed) { check_shuffle(3, reversed); }},
    {"ballot", check_ballot},
    {"mma", check_mma},
    {"tiles", check_tiles},
    {"ldmatrix", [](bool reversed) { check_ldmatrix(false, reversed); }},
    {"ldmatrix_trans", [](bool reversed) { check_ldmatrix(true, reversed); }},
};
}  // namespace

int main(int count, char** names) {
  require(count == 2 && kCases.count(names[1]), "no such case");
  for (bool reversed : {false, true}) kCases.at(names[1])(reversed);
  print("");
}
