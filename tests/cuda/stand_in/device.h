// Device of the stand-in driver (driver.cpp): memory, streams and execution.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

// Values of CUresult in cuda.h.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    LAUNCH_FAILED = 719,
    UNKNOWN = 999,
};

const char *text_of(int result) {
    switch (result) {
    case SUCCESS: return "no error";
    case INVALID_VALUE: return "invalid argument";
    case OUT_OF_MEMORY: return "out of memory";
    case NOT_INITIALIZED: return "initialization error";
    case INVALID_DEVICE: return "invalid device ordinal";
    case INVALID_IMAGE: return "device kernel image is invalid";
    case INVALID_CONTEXT: return "invalid device context";
    case NO_BINARY_FOR_GPU: return "no kernel image is available for execution on the device";
    case INVALID_HANDLE: return "invalid resource handle";
    case NOT_FOUND: return "named symbol not found";
    case NOT_READY: return "device not ready";
    case LAUNCH_FAILED: return "unspecified launch failure";
    default: return "unknown error";
    }
}

// Ends the process for violations of the API that have no error code.
[[noreturn]] void forbidden(const char *what, ...) {
    va_list args;
    va_start(args, what);
    fprintf(stderr, "stand-in driver: ");
    vfprintf(stderr, what, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

typedef std::chrono::steady_clock Clock;

struct Stream;

// One recording of an event.
struct Mark {
    std::weak_ptr<Stream> stream;
    // Number of items queued on the stream before it.
    uint64_t place = 0;
    bool reached = false;
    Clock::time_point time;
};

struct Work {
    enum Kind { ToDevice, ToHost, Marked, Wait, Launch } kind;
    // Copies; `data` holds the driver's copy of memory that is not page-locked.
    uint64_t device = 0;
    char *host = nullptr;
    size_t bytes = 0;
    std::vector<char> data;
    std::shared_ptr<Mark> mark;
    struct Function *function = nullptr;
    unsigned grid[3] = {}, block[3] = {}, shared = 0;
    std::vector<std::vector<uint64_t>> params;

    explicit Work(Kind kind) : kind(kind) {}
};

struct Stream {
    std::deque<Work> work;
    uint64_t given = 0, begun = 0;
};

struct Event {
    bool timed;
    std::shared_ptr<Mark> mark;
};

typedef int (*Run)(const char *, const unsigned *, const unsigned *, unsigned, void **,
                   const unsigned *, unsigned, int, uint64_t, char *, size_t);
typedef int (*Sizes)(const char *, unsigned *, unsigned);

struct Module {
    void *library;
    Run run;
    Sizes sizes;
};

struct Function {
    std::string name;
    Module *module;
    std::vector<unsigned> sizes;
};

// Guard words with recognisable values, like in tests/cuda/emulator.rs.
const uint64_t FENCE = 0xfffffffffffffff1ull;
const size_t FENCES = 32, ALIGNMENT = 256;
const size_t LARGEST_SHARED = 48 << 10;

struct Allocation {
    std::unique_ptr<char[]> memory;
    size_t bytes;
    uint64_t *fence;
};

struct Driver {
    std::mutex mutex;
    bool initialised = false;
    int retained = 0;
    // Set by a kernel that failed; the context is then unusable.
    int broken = SUCCESS;
    std::map<void *, std::shared_ptr<Stream>> streams;
    std::map<void *, std::unique_ptr<Event>> events;
    std::map<void *, std::unique_ptr<Module>> modules;
    std::map<void *, std::unique_ptr<Function>> functions;
    std::map<uint64_t, Allocation> allocations;
    std::map<char *, std::unique_ptr<char[]>> locked;
    std::map<char *, size_t> locked_bytes;
    // Freed memory, kept until no earlier work can use it.
    std::vector<Allocation> quarantine;
    std::map<std::string, long> calls;
    uint64_t launches = 0;
};

Driver &driver() {
    static Driver *one = new Driver;
    return *one;
}

char context; // Its address is the context.
thread_local void *current;

size_t memory_size() {
    const char *bytes = getenv("MAEUM_STAND_IN_MEMORY");
    return bytes ? strtoull(bytes, nullptr, 10) : size_t(1) << 30;
}

// Counts the call; returns true if this one must fail.
bool fails(Driver &d, const char *name) {
    const long count = ++d.calls[name];
    const char *wanted = getenv("MAEUM_STAND_IN_FAILS");
    if (!wanted)
        return false;
    const char *colon = strchr(wanted, ':');
    return colon && strlen(name) == size_t(colon - wanted) &&
           strncmp(wanted, name, colon - wanted) == 0 && count == atol(colon + 1);
}

// Begins a call: takes the lock, and fails if requested.
#define BEGIN(name)                                                                                \
    Driver &d = driver();                                                                          \
    std::lock_guard<std::mutex> guard(d.mutex);                                                    \
    if (fails(d, name))                                                                            \
        return strstr(name, "Alloc") ? OUT_OF_MEMORY : UNKNOWN;                                    \
    if (!d.initialised)                                                                            \
        return NOT_INITIALIZED

// Begins a call that needs a context.
#define BEGIN_IN_CONTEXT(name)                                                                     \
    BEGIN(name);                                                                                   \
    if (current != &context || d.retained == 0)                                                    \
        return INVALID_CONTEXT;                                                                    \
    if (d.broken != SUCCESS)                                                                       \
    return d.broken

bool on_device(Driver &d, uint64_t address, size_t bytes) {
    auto after = d.allocations.upper_bound(address);
    if (after == d.allocations.begin())
        return false;
    auto &[start, allocation] = *std::prev(after);
    return address - start <= allocation.bytes && bytes <= allocation.bytes - (address - start);
}

bool is_locked(Driver &d, const char *address, size_t bytes) {
    auto after = d.locked_bytes.upper_bound(const_cast<char *>(address));
    if (after == d.locked_bytes.begin())
        return false;
    auto &[start, size] = *std::prev(after);
    return size_t(address - start) <= size && bytes <= size - size_t(address - start);
}

bool fences_hold(const Allocation &allocation) {
    for (size_t i = 0; i < FENCES; i++)
        if (allocation.fence[i] != FENCE)
            return false;
    return true;
}

int execute(Driver &d, Work &work);

// Executes the first `place` items ever queued on a stream.
int catch_up(Driver &d, Stream &stream, uint64_t place) {
    while (stream.begun < place && !stream.work.empty()) {
        Work work = std::move(stream.work.front());
        stream.work.pop_front();
        stream.begun++;
        if (int result = execute(d, work))
            return d.broken = result;
    }
    return SUCCESS;
}

int catch_up_all(Driver &d) {
    for (auto &[handle, stream] : d.streams)
        if (int result = catch_up(d, *stream, UINT64_MAX))
            return result;
    d.quarantine.clear();
    return SUCCESS;
}

int reach(Driver &d, Mark &mark) {
    std::shared_ptr<Stream> stream = mark.stream.lock();
    return stream ? catch_up(d, *stream, mark.place) : SUCCESS;
}

int execute(Driver &d, Work &work) {
    switch (work.kind) {
    case Work::ToDevice:
    case Work::ToHost: {
        if (!on_device(d, work.device, work.bytes)) {
            fprintf(stderr, "stand-in driver: memory was freed before a copy was done\n");
            return LAUNCH_FAILED;
        }
        char *device = reinterpret_cast<char *>(work.device);
        if (work.kind == Work::ToHost)
            memcpy(work.host, device, work.bytes);
        else
            memcpy(device, work.host ? work.host : work.data.data(), work.bytes);
        return SUCCESS;
    }
    case Work::Marked:
        work.mark->reached = true;
        work.mark->time = Clock::now();
        return SUCCESS;
    case Work::Wait:
        return reach(d, *work.mark);
    case Work::Launch: {
        std::vector<void *> params;
        for (auto &p : work.params)
            params.push_back(p.data());
        const Function &f = *work.function;
        char error[512] = "";
        const int shuffled = 2;
        if (f.module->run(f.name.c_str(), work.grid, work.block, work.shared, params.data(),
                          f.sizes.data(), f.sizes.size(), shuffled, d.launches++, error,
                          sizeof error)) {
            fprintf(stderr, "stand-in driver: %s: %s\n", f.name.c_str(), error);
            return LAUNCH_FAILED;
        }
        for (auto &[start, allocation] : d.allocations)
            if (!fences_hold(allocation)) {
                fprintf(stderr, "stand-in driver: %s wrote past the end of a buffer\n", f.name.c_str());
                return LAUNCH_FAILED;
            }
        return SUCCESS;
    }
    }
    return UNKNOWN;
}

void give(Stream &stream, Work &&work) {
    stream.given++;
    stream.work.push_back(std::move(work));
}

Stream *find_stream(Driver &d, void *handle) {
    auto found = d.streams.find(handle);
    return found == d.streams.end() ? nullptr : found->second.get();
}

Event *find_event(Driver &d, void *handle) {
    auto found = d.events.find(handle);
    return found == d.events.end() ? nullptr : found->second.get();
}

} // namespace
