// The entry points of libcuda that the driver calls, by their names in the library.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "emu/launch.h"
#include "stub.h"

namespace stub {
namespace {

enum Status {
  kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNoDevice = 100, kInvalidDevice = 101, kNotFound = 500,
  kNotReady = 600,
};
constexpr size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xA5, kFreshByte = 0xFF;
constexpr unsigned kDefaultShared = 48 << 10, kMaxShared = 99 << 10;
constexpr size_t kMaxEvents = 80;
constexpr uintptr_t kContext = 0xC0DE;

struct Event {
  bool recorded = false, passed = false;
  Stream* stream = nullptr;
};
struct Module {};
struct Function {
  std::string name;
  toedit_entry entry;
  unsigned shared = kDefaultShared;
};

std::recursive_mutex mutex;
std::map<uint64_t, size_t> device_memory, host_memory;
std::set<void*> streams, events, modules;
std::map<std::string, Function> functions;
// Host memory of copies that are under way.
std::multiset<uint64_t> copied;
size_t used = 0;
int sticky = 0, contexts = 0;
long long allocations = 0, launches = 0, copies = 0;
thread_local bool is_current = false;

using Lock = std::lock_guard<std::recursive_mutex>;

bool inside(const std::map<uint64_t, size_t>& memory, uint64_t address, size_t bytes) {
  auto next = memory.upper_bound(address);
  if (next == memory.begin()) return false;
  const auto& [start, size] = *--next;
  return bytes <= size && address - start <= size - bytes;
}

// A variable `k:code`: whether this is the k-th call, from 1, and then the code.
int fault(const char* name, long long count) {
  const char* value = std::getenv(name);
  if (!value || std::atoll(value) != count) return 0;
  return std::atoi(std::strchr(value, ':') + 1);
}

void check_guards(const char* call) {
  for (const auto& [start, size] : device_memory)
    for (size_t i = 0; i < kGuard; ++i) {
      const auto* before = reinterpret_cast<unsigned char*>(start) - kGuard;
      if (before[i] != kGuardByte || before[kGuard + size + i] != kGuardByte) misuse(call, "wrote past an allocation");
    }
}

unsigned char* allocate(size_t bytes) {
  const size_t all = (bytes + 2 * kGuard + 255) / 256 * 256;
  auto* start = static_cast<unsigned char*>(std::aligned_alloc(256, all));
  std::memset(start, kGuardByte, all);
  return start + kGuard;
}

void check_live(const char* call, const std::set<void*>& all, void* handle) {
  if (!all.count(handle)) misuse(call, "a handle that is not live");
}

// An asynchronous copy between host and device.
int copy(const char* call, uint64_t device, void* host, size_t bytes, void* stream, bool to_device) {
  if (sticky) return sticky;
  check_context(call);
  check_device(call, device, bytes);
  if (!inside(host_memory, reinterpret_cast<uint64_t>(host), bytes)) misuse(call, "host memory that is not pinned");
  if (const int code = fault("STUB_COPY", ++copies)) return sticky = code;
  auto* memory = reinterpret_cast<void*>(device);
  const auto mark = copied.insert(reinterpret_cast<uint64_t>(host));
  checked(call, stream)->work.push_back([=] {
    to_device ? std::memcpy(memory, host, bytes) : std::memcpy(host, memory, bytes);
    copied.erase(mark);
  });
  return kSuccess;
}

}  // namespace

[[noreturn]] void misuse(const char* call, const char* why) {
  std::fprintf(stderr, "stub: %s: %s\n", call, why);
  _exit(kMisused);
}

void check_context(const char* call) {
  if (!is_current) misuse(call, "no context is current on this thread");
}

void check_device(const char* call, uint64_t address, size_t bytes) {
  if (!inside(device_memory, address, bytes)) misuse(call, "outside every allocation");
}

Stream* checked(const char* call, void* stream) {
  check_live(call, streams, stream);
  return static_cast<Stream*>(stream);
}

void flush(Stream* stream) {
  while (!stream->work.empty()) {
    auto next = std::move(stream->work.front());
    stream->work.pop_front();
    next();
  }
}

long long setting(const char* name, long long otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoll(value) : otherwise;
}

}  // namespace stub

using namespace stub;

extern "C" {

int cuInit(unsigned) { return int(setting("STUB_INIT", kSuccess)); }

int cuDriverGetVersion(int* version) {
  *version = int(setting("STUB_DRIVER", 13000));
  return kSuccess;
}

int cuDeviceGetCount(int* count) {
  *count = int(setting("STUB_DEVICES", 1));
  return kSuccess;
}

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal < setting("STUB_DEVICES", 1) ? kSuccess : kInvalidDevice;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
  const int capability = int(setting("STUB_CAPABILITY", 80));
  if (attribute != 75 && attribute != 76) misuse("cuDeviceGetAttribute", "unknown to the stub");
  *value = attribute == 75 ? capability / 10 : capability % 10;
  return kSuccess;
}

int cuDevicePrimaryCtxRetain(void** context, int) {
  Lock lock(mutex);
  ++contexts;
  *context = reinterpret_cast<void*>(kContext);
  return int(setting("STUB_CONTEXT", kSuccess));
}

int cuDevicePrimaryCtxRelease_v2(int) {
  Lock lock(mutex);
  if (--contexts < 0) misuse("cuDevicePrimaryCtxRelease", "released more often than retained");
  const bool empty = device_memory.empty() && host_memory.empty() && streams.empty() && events.empty() && modules.empty();
  if (contexts == 0 && !sticky && !empty) misuse("cuDevicePrimaryCtxRelease", "something was not given back");
  return sticky;
}

int cuCtxSetCurrent(void* context) {
  if (context != reinterpret_cast<void*>(kContext) || contexts < 1) misuse("cuCtxSetCurrent", "not a live context");
  is_current = true;
  return sticky;
}

int cuMemGetInfo_v2(size_t* free, size_t* total) {
  check_context("cuMemGetInfo");
  *total = size_t(setting("STUB_MEMORY", 1ll << 34));
  *free = *total - used;
  return sticky;
}

int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  Lock lock(mutex);
  check_context("cuMemAlloc");
  if (sticky) return sticky;
  if (bytes == 0) return kInvalidValue;
  if (used + bytes > size_t(setting("STUB_MEMORY", 1ll << 34))) return kOutOfMemory;
  if (const int code = fault("STUB_ALLOC", ++allocations)) return code;
  auto* start = allocate(bytes);
  std::memset(start, kFreshByte, bytes);
  *address = reinterpret_cast<uint64_t>(start);
  device_memory[*address] = bytes;
  used += bytes;
  return kSuccess;
}

int cuMemFree_v2(uint64_t address) {
  Lock lock(mutex);
  check_context("cuMemFree");
  if (sticky) return sticky;
  if (!device_memory.count(address)) misuse("cuMemFree", "not an allocation, or freed twice");
  for (void* stream : streams) flush(static_cast<Stream*>(stream));
  check_guards("cuMemFree");
  used -= device_memory[address];
  device_memory.erase(address);
  std::free(reinterpret_cast<unsigned char*>(address) - kGuard);
  return kSuccess;
}

int cuMemHostAlloc(void** start, size_t bytes, unsigned) {
  Lock lock(mutex);
  check_context("cuMemHostAlloc");
  if (const int code = int(setting("STUB_HOST_ALLOC", 0))) return code;
  *start = allocate(bytes);
  host_memory[reinterpret_cast<uint64_t>(*start)] = bytes;
  return sticky;
}

int cuMemFreeHost(void* start) {
  Lock lock(mutex);
  check_context("cuMemFreeHost");
  if (sticky) return sticky;
  const auto found = host_memory.find(reinterpret_cast<uint64_t>(start));
  if (found == host_memory.end()) misuse("cuMemFreeHost", "not pinned memory, or freed twice");
  const auto next = copied.lower_bound(found->first);
  if (next != copied.end() && *next < found->first + found->second) misuse("cuMemFreeHost", "a copy is under way");
  host_memory.erase(found);
  std::free(static_cast<unsigned char*>(start) - kGuard);
  return kSuccess;
}

int cuMemsetD8Async(uint64_t address, unsigned char byte, size_t bytes, void* stream) {
  Lock lock(mutex);
  check_context("cuMemsetD8Async");
  if (sticky) return sticky;
  check_device("cuMemsetD8Async", address, bytes);
  checked("cuMemsetD8Async", stream)->work.push_back([=] { std::memset(reinterpret_cast<void*>(address), byte, bytes); });
  return kSuccess;
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
  Lock lock(mutex);
  check_context("cuMemcpyDtoDAsync");
  if (sticky) return sticky;
  check_device("cuMemcpyDtoDAsync", to, bytes);
  check_device("cuMemcpyDtoDAsync", from, bytes);
  checked("cuMemcpyDtoDAsync", stream)->work.push_back([=] {
    std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  });
  return kSuccess;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
  Lock lock(mutex);
  return copy("cuMemcpyHtoDAsync", to, const_cast<void*>(from), bytes, stream, true);
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
  Lock lock(mutex);
  return copy("cuMemcpyDtoHAsync", from, to, bytes, stream, false);
}

int cuStreamCreate(void** stream, unsigned) {
  Lock lock(mutex);
  check_context("cuStreamCreate");
  streams.insert(*stream = new Stream);
  return sticky;
}

int cuStreamDestroy_v2(void* stream) {
  Lock lock(mutex);
  check_context("cuStreamDestroy");
  if (sticky) return sticky;
  flush(checked("cuStreamDestroy", stream));
  streams.erase(stream);
  return kSuccess;
}

int cuEventCreate(void** event, unsigned) {
  Lock lock(mutex);
  check_context("cuEventCreate");
  events.insert(*event = new Event);
  if (events.size() > kMaxEvents) misuse("cuEventCreate", "more events at a time than copies need");
  return sticky;
}

int cuEventRecord(void* event, void* stream) {
  Lock lock(mutex);
  check_context("cuEventRecord");
  if (sticky) return sticky;
  check_live("cuEventRecord", events, event);
  auto* recorded = static_cast<Event*>(event);
  *recorded = {true, false, checked("cuEventRecord", stream)};
  // The work may outlive the event.
  recorded->stream->work.push_back([=] { if (events.count(event)) recorded->passed = true; });
  return kSuccess;
}

int cuEventQuery(void* event) {
  Lock lock(mutex);
  check_context("cuEventQuery");
  if (sticky) return sticky;
  check_live("cuEventQuery", events, event);
  const auto* asked = static_cast<Event*>(event);
  if (!asked->recorded) misuse("cuEventQuery", "the event was never recorded");
  return asked->passed ? kSuccess : kNotReady;
}

int cuEventSynchronize(void* event) {
  Lock lock(mutex);
  check_context("cuEventSynchronize");
  if (sticky) return sticky;
  check_live("cuEventSynchronize", events, event);
  auto* awaited = static_cast<Event*>(event);
  if (!awaited->recorded) misuse("cuEventSynchronize", "the event was never recorded");
  auto& work = awaited->stream->work;
  while (!awaited->passed) {
    auto next = std::move(work.front());
    work.pop_front();
    next();
  }
  return sticky;
}

int cuEventDestroy_v2(void* event) {
  Lock lock(mutex);
  check_context("cuEventDestroy");
  if (sticky) return sticky;
  check_live("cuEventDestroy", events, event);
  events.erase(event);  // Never freed: its address must not come back while work may name it.
  return kSuccess;
}

int cuModuleLoadData(void** module, const void* image) {
  Lock lock(mutex);
  check_context("cuModuleLoadData");
  uint32_t magic;
  std::memcpy(&magic, image, sizeof magic);
  if (magic != 0xBA55ED50) misuse("cuModuleLoadData", "not a fatbin");
  if (reinterpret_cast<uintptr_t>(image) % 8) misuse("cuModuleLoadData", "a fatbin that is not aligned");
  if (const int code = int(setting("STUB_MODULE", kSuccess))) return code;
  modules.insert(*module = new Module);
  return sticky;
}

int cuModuleUnload(void* module) {
  Lock lock(mutex);
  check_context("cuModuleUnload");
  if (sticky) return sticky;
  check_live("cuModuleUnload", modules, module);
  modules.erase(module);
  return kSuccess;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  Lock lock(mutex);
  check_context("cuModuleGetFunction");
  check_live("cuModuleGetFunction", modules, module);
  Dl_info self;
  dladdr(reinterpret_cast<void*>(&cuInit), &self);
  void* library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  void* entry = dlsym(library, (std::string("toedit_entry_") + name).c_str());
  if (!entry) return kNotFound;
  auto [place, _] = functions.try_emplace(name, Function{name, reinterpret_cast<toedit_entry>(entry)});
  *function = &place->second;
  return sticky;
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
  Lock lock(mutex);
  check_context("cuFuncSetAttribute");
  if (attribute != 8 || value < 0 || unsigned(value) > kMaxShared) return kInvalidValue;
  static_cast<Function*>(function)->shared = unsigned(value);
  return sticky;
}

int cuLaunchKernel(void* handle, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, void* stream, void** arguments, void** extra) {
  Lock lock(mutex);
  check_context("cuLaunchKernel");
  if (sticky) return sticky;
  auto* function = static_cast<Function*>(handle);
  const char* name = function->name.c_str();
  if (x == 0 || y == 0 || z == 0 || y > 65535 || z > 65535 || threads > 1024) return kInvalidValue;
  if (threads_y != 1 || threads_z != 1 || extra) misuse(name, "launched as the dialect does not");
  if (shared > function->shared) return kInvalidValue;
  // As on a GPU, a failing kernel shows in a later call.
  if (const int code = fault("STUB_LAUNCH", ++launches)) {
    sticky = code;
    return kSuccess;
  }
  // The values of arguments live until this returns, so the kernel runs now, behind all work before it.
  flush(checked(name, stream));
  const uint32_t grid[3] = {x, y, z};
  const char* wrong = toedit_emulate(name, function->entry, grid, threads, shared, arguments, launches % 2);
  if (wrong) misuse(name, wrong);
  check_guards(name);
  return kSuccess;
}

}  // extern "C"
