// usage: faults CASE: runs kernels with a planted fault, and prints what the emulator says.
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "launch.hpp"

namespace {
#include "faults.cu"

using Case = std::function<void()>;

template <class T> struct Aligned {  // 16-byte blocks, so that vectors may be read from it
  explicit Aligned(size_t n) : blocks(n * sizeof(T) / 16 + 1) {}
  const T* in() { return data(); }
  T* data() { return reinterpret_cast<T*>(blocks.data()); }
  std::vector<float4> blocks;
};

// Whether both orders of threads leave the same bits.
template <auto kernel> void compare(bool barrier) {
  std::vector<float> ascending(64), descending(64);
  run<kernel>({{1, 1, 1}, 64, 256}, false, ascending.data(), int(barrier));
  run<kernel>({{1, 1, 1}, 64, 256}, true, descending.data(), int(barrier));
  std::cout << (std::memcmp(ascending.data(), descending.data(), 256) ? "differ" : "equal") << '\n';
}

// Prints the error of either order.
template <auto kernel, class... A> void fault(const Grid& grid, A... a) {
  for (bool reversed : {false, true}) {
    std::vector<float> out(1024);
    print(launch<kernel>(grid, reversed, out.data(), a...));
  }
}

// Prints the error of each access that a kernel numbers.
template <auto kernel, class T, class A> void each(int count, const Grid& grid, A a) {
  for (int which = 0; which < count; ++which) {
    Aligned<T> memory(4096);
    print(launch<kernel>(grid, false, memory.data(), which, a));
  }
}

void unwritten_memory() {
  std::vector<float> out(128);
  print(launch<unwritten>({{2, 1, 1}, 64, 256}, false, out.data()));
  for (float v : out) require(std::isnan(v), "not NaN");
}

// A buffer of 63 floats between guards of the host's making, of which the kernel reads one at `index`.
void overread(int index) {
  std::vector<float> memory(64 + 63 + 65, 1.0f), out(32);
  float* const in = memory.data() + 64;
  const auto guards = [&](auto change) { change(memory.data(), 64 * sizeof(float)), change(in + 63, 65 * sizeof(float)); };
  guards(toedit_forbid);
  print(launch<overread_global>({{1, 1, 1}, 32}, false, out.data(), static_cast<const float*>(in), index));
  guards(toedit_allow);
}

void copies_land(int bytes) {
  Aligned<float> from(12);
  for (int i = 0; i < 12; ++i) from.data()[i] = float(i + 1);
  std::vector<float> out(32 * 36);
  print(launch<copies>({{1, 1, 1}, 32, 32 * 48}, false, out.data(), from.in(), bytes));
  for (int stage = 0; stage < 3; ++stage, std::cout << '\n')
    for (int i = 0; i < 12; ++i) std::cout << out[31 * 36 + stage * 12 + i] << ' ';
}

void never_committed() {
  Aligned<float> from(4);
  std::vector<float> out(32);
  print(launch<uncommitted>({{1, 1, 1}, 32, 512}, false, out.data(), from.in()));
  require(std::isnan(out[0]), "it landed");
}

void sizes_of_copies() {
  Aligned<float> from(4);
  for (int bytes : {-1, 0, 17}) print(launch<copy_size>({{1, 1, 1}, 32, 512}, false, from.in(), bytes));
}

void limits() {
  std::vector<unsigned> out(1024);
  const Grid grids[] = {{{1, 1, 1}, 48},        {{1, 1, 1}, 0},          {{1, 1, 1}, 1056},          {{1, 0, 1}, 32},
                        {{1, 1, 65536}, 32}, {{1, 1, 1}, 32, 101377}, {{1, 1, 1}, 1024, 101376}};
  for (const Grid& grid : grids) print(launch<where>(grid, false, out.data()));
}

void coordinates() {
  for (bool reversed : {false, true}) {
    std::vector<unsigned> out(2 * 3 * 4 * 64);
    run<where>({{2, 3, 4}, 64}, reversed, out.data());
    for (size_t i = 0; i < out.size(); ++i) require(out[i] == i / 64 * 1000 + i % 64, "another thread");
  }
  fault<in_one_block>({{3, 3, 4}, 32});
}

// After an error, launches of any size work.
void recovers() {
  for (uint32_t threads : {64u, 32u, 256u}) {
    std::vector<float> out(256);
    require(!launch<divergent_barrier>({{1, 1, 1}, threads}, false, out.data()).empty(), "no error");
    run<neighbour>({{1, 1, 1}, threads, 1024}, true, out.data(), 1);
    for (uint32_t t = 0; t < threads; ++t) require(out[t] == float((t + 33) % threads), "wrong");
  }
  print("");
}

void several_hosts() {
  std::vector<std::thread> hosts;
  for (int host = 0; host < 4; ++host)
    hosts.emplace_back([host] {
      for (int i = 0; i < 200; ++i) {
        std::vector<float> out(64);
        const bool wrong = (host + i) % 2 != 0;
        const Grid grid{{1, 1, 1}, 64, 256};
        const std::string error = wrong ? launch<divergent_barrier>(grid, false, out.data())
                                        : launch<neighbour>(grid, false, out.data(), 1);
        require(error.empty() != wrong, "mixed up: " + error);
        if (!wrong) require(out[3] == 36.0f, "wrong");
      }
    });
  for (std::thread& host : hosts) host.join();
  print("");
}

// What is mapped after a host thread's end, maybe where its stacks were, may be read.
void memory_after_stacks() {
  constexpr size_t kBytes = size_t(400) << 20, kStep = 8;
  std::thread([] {
    std::vector<float> out(1024);
    run<neighbour>({{1, 1, 1}, 1024, 4096}, false, out.data(), 1);
    require(!launch<divergent_barrier>({{1, 1, 1}, 1024}, false, out.data()).empty(), "no error");
  }).join();
  void* memory = mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(memory != MAP_FAILED, "no memory");
  const volatile char* bytes = static_cast<char*>(memory);
  bool fresh = true;
  for (size_t i = 0; i < kBytes; i += kStep) fresh &= bytes[i] == 0;
  require(fresh, "not fresh");
  munmap(memory, kBytes);
  print("");
}

const std::map<std::string, Case> kCases = {
    {"missing_barrier", [] { compare<neighbour>(false); }},
    {"barrier", [] { compare<neighbour>(true); }},
    {"missing_reuse_barrier", [] { compare<reuse>(false); }},
    {"reuse_barrier", [] { compare<reuse>(true); }},
    {"missing_warp_barrier", [] { compare<neighbour_lane>(false); }},
    {"warp_barrier", [] { compare<neighbour_lane>(true); }},
    {"divergent_barrier", [] { fault<divergent_barrier>({{1, 1, 1}, 64}); }},
    {"warp_leaves", [] { fault<warp_leaves>({{1, 1, 1}, 64}); }},
    {"mixed_collectives", [] { fault<mixed_collectives>({{1, 1, 1}, 64}); }},
    {"shuffle_or_barrier", [] { fault<shuffle_or_barrier>({{1, 1, 1}, 32}); }},
    {"partial_mask", [] { each<partial_mask, unsigned>(6, {{1, 1, 1}, 32}, 0xffffu); }},
    {"misaligned", [] { each<misaligned, bf16>(6, {{1, 1, 1}, 32, 2048}, 4); }},
    {"aligned", [] { each<misaligned, bf16>(6, {{1, 1, 1}, 32, 2048}, 8); }},
    {"not_shared", [] { each<not_shared, bf16>(2, {{1, 1, 1}, 32, 2048}, 0); }},
    {"past_shared", [] { each<not_shared, bf16>(2, {{1, 1, 1}, 32, 2048}, 1024); }},
    {"overrun_shared", [] { fault<overrun_shared>({{1, 1, 1}, 64, 256}, 64); }},
    {"underrun_shared", [] { fault<overrun_shared>({{1, 1, 1}, 64, 256}, -1); }},
    {"overrun_global", [] { fault<overrun_global>({{1, 1, 1}, 64}, 1024); }},
    {"read_inside", [] { overread(62); }},
    {"overread_global", [] { overread(63); }},
    {"underread_global", [] { overread(-1); }},
    {"unwritten", unwritten_memory},
    {"copies", [] { copies_land(16); }},
    {"short_copies", [] { copies_land(8); }},
    {"uncommitted", never_committed},
    {"sizes_of_copies", sizes_of_copies},
    {"limits", limits},
    {"coordinates", coordinates},
    {"recovers", recovers},
    {"several_hosts", several_hosts},
    {"memory_after_stacks", memory_after_stacks},
};
}  // namespace

int main(int count, char** names) {
  require(count == 2 && kCases.count(names[1]), "no such case");
  kCases.at(names[1])();
}
