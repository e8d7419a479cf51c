// CPU emulator of CUDA kernels, for tests without a GPU.
//
// A .cu file is compiled as C++ after this header. Each thread of a block is a fiber, which runs
// until a barrier or its end; a thread that reads an element before another one has written it
// therefore reads a wrong value. Blocks run one after the other. Threads and blocks run in forward,
// reverse or shuffled order, chosen by the caller.
//
// Errors detected besides wrong results: a barrier that not all threads of a block (or warp) reach,
// or that they reach at different lines; writes past the end of a stack or of the dynamic shared
// memory; arguments whose number or sizes do not match the kernel. Dynamic shared memory holds NaN
// at the start of each block.
//
// To add a kernel:
// 1. Write `extern "C" __global__ void name(...)` in a file of kernels/ that includes nothing but
// "maeum.cuh", which is prepended. Arguments are pointers, scalars and structs of those, which
// `Arg::structure` lays out. Shared memory sized by the launch is `DYNAMIC_SHARED(float, name)`.
// 2. Add its name to `names`, and a new file to `SOURCES`, in src/nn/cuda/sources.rs.
// 3. Launch it through the trait `Driver` (src/nn/cuda/driver.rs), and test it like the others in
// tests/cuda/main.rs: one body for every driver of `drivers()`.
// Missing CUDA built-ins are added below.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>
#if !(defined(__x86_64__) && defined(__ELF__))
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__ __restrict
// Blocks run one after the other, so one copy per thread of the operating system suffices.
#define __shared__ static thread_local
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(emulated::shared)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulated {

enum class State { Fresh, Ready, AtBlockBarrier, AtWarpBarrier, Done };

struct Thread {
    uint3 index;
    unsigned linear;
    State state;
    int line;
    char *stack;
#if defined(__x86_64__) && defined(__ELF__)
    void *position;
#else
    ucontext_t position;
#endif
};

static const size_t STACK = 64 * 1024;
static const unsigned WARP = 32;
static const uint64_t MARK = 0x5ca1ab1e0ddba11dull;

static thread_local Thread *current;
static thread_local uint3 block_index;
static thread_local dim3 block_size;
static thread_local dim3 grid_size;
static thread_local char *shared;
static thread_local void (*kernel)(void **);
static thread_local void **arguments;
// One slot per thread of a block, for values exchanged within a warp.
static thread_local std::vector<uint64_t> *exchange;

#if defined(__x86_64__) && defined(__ELF__)
static thread_local void *scheduler;
// Saves the callee-saved registers and the stack in `*from`, and resumes `to`.
extern "C" void emulated_switch(void **from, void *to);
asm(".text\n"
    ".type emulated_switch,@function\n"
    "emulated_switch:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "movq %rsp, (%rdi)\n"
    "movq %rsi, %rsp\n"
    "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n"
    "ret\n"
    ".size emulated_switch, .-emulated_switch\n");
static void leave() { emulated_switch(&current->position, scheduler); }
#else
static thread_local ucontext_t scheduler;
static void leave() { swapcontext(&current->position, &scheduler); }
#endif

static void entry() {
    kernel(arguments);
    current->state = State::Done;
    leave();
    abort();
}

// Prepares a fiber that starts at `entry`.
static void begin(Thread &thread) {
    memcpy(thread.stack, &MARK, sizeof MARK);
#if defined(__x86_64__) && defined(__ELF__)
    // The return address is at a multiple of 16, required by the calling convention at function
    // entry.
    void **top = reinterpret_cast<void **>(thread.stack + STACK - 32);
    *top = reinterpret_cast<void *>(&entry);
    thread.position = top - 6;
#else
    getcontext(&thread.position);
    thread.position.uc_stack.ss_sp = thread.stack;
    thread.position.uc_stack.ss_size = STACK;
    thread.position.uc_link = nullptr;
    makecontext(&thread.position, entry, 0);
#endif
}

static void resume(Thread &thread) {
    current = &thread;
#if defined(__x86_64__) && defined(__ELF__)
    emulated_switch(&scheduler, thread.position);
#else
    swapcontext(&scheduler, &thread.position);
#endif
}

__attribute__((noinline)) static void barrier(State kind, int line) {
    current->state = kind;
    current->line = line;
    leave();
}

// Stacks and threads of one thread of the operating system, reused between launches.
struct Pool {
    std::vector<std::unique_ptr<char[]>> stacks;
    std::vector<char *> free;
    std::vector<Thread> threads;
    std::vector<unsigned> order;
    std::vector<uint64_t> exchange;

    char *stack() {
        if (free.empty()) {
            stacks.emplace_back(new char[STACK + 16]);
            uintptr_t at = reinterpret_cast<uintptr_t>(stacks.back().get());
            free.push_back(reinterpret_cast<char *>((at + 15) & ~uintptr_t(15)));
        }
        char *stack = free.back();
        free.pop_back();
        return stack;
    }
};

enum Order { Forward = 0, Reverse = 1, Shuffled = 2 };

struct Random {
    uint64_t state;
    unsigned below(unsigned n) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return unsigned((state >> 33) % n);
    }
};

static void arrange(std::vector<unsigned> &order, unsigned n, int how, Random &random) {
    order.resize(n);
    for (unsigned i = 0; i < n; i++)
        order[i] = how == Reverse ? n - 1 - i : i;
    if (how == Shuffled)
        for (unsigned i = n; i > 1; i--)
            std::swap(order[i - 1], order[random.below(i)]);
}

// Releases the threads of `from..to` that wait at a barrier of this kind, if all do. Returns 1 if
// released, 0 if not, -1 if the barrier can never be reached by all.
static int release(std::vector<Thread> &threads, unsigned from, unsigned to, State kind) {
    unsigned waiting = 0, done = 0;
    int line = 0;
    bool same = true;
    for (unsigned i = from; i < to; i++) {
        done += threads[i].state == State::Done;
        if (threads[i].state != kind)
            continue;
        same = same && (waiting == 0 || threads[i].line == line);
        line = threads[i].line;
        waiting++;
    }
    if (waiting == 0)
        return 0;
    if (done > 0 || !same)
        return -1;
    if (waiting < to - from)
        return 0;
    for (unsigned i = from; i < to; i++)
        threads[i].state = State::Ready;
    return 1;
}

static bool run_block(Pool &pool, int how, Random &random, char *error, size_t room) {
    unsigned n = block_size.x * block_size.y * block_size.z;
    pool.threads.resize(n);
    pool.exchange.resize(n);
    exchange = &pool.exchange;
    for (unsigned i = 0; i < n; i++) {
        Thread &t = pool.threads[i];
        t.index = {i % block_size.x, i / block_size.x % block_size.y,
                   i / (block_size.x * block_size.y)};
        t.linear = i;
        t.state = State::Fresh;
        t.stack = nullptr;
    }
    unsigned done = 0;
    for (;;) {
        arrange(pool.order, n, how, random);
        for (unsigned i : pool.order) {
            Thread &t = pool.threads[i];
            if (t.state == State::Fresh) {
                t.stack = pool.stack();
                begin(t);
            } else if (t.state != State::Ready) {
                continue;
            }
            resume(t);
            if (memcmp(t.stack, &MARK, sizeof MARK) != 0) {
                snprintf(error, room, "thread %u overran its stack", i);
                return false;
            }
            if (t.state == State::Done) {
                pool.free.push_back(t.stack);
                done++;
            }
        }
        if (done == n)
            return true;
        bool released = false, stuck = false;
        for (unsigned from = 0; from < n; from += WARP) {
            int r = release(pool.threads, from, std::min(n, from + WARP), State::AtWarpBarrier);
            released = released || r > 0;
            stuck = stuck || r < 0;
        }
        int r = release(pool.threads, 0, n, State::AtBlockBarrier);
        released = released || r > 0;
        stuck = stuck || r < 0;
        if (stuck || !released) {
            const char *kind = "";
            unsigned waiting = 0;
            int first = 0, last = 0;
            for (Thread &t : pool.threads)
                if (t.state == State::AtBlockBarrier || t.state == State::AtWarpBarrier) {
                    kind = t.state == State::AtBlockBarrier ? "block" : "warp";
                    first = waiting == 0 ? t.line : std::min(first, t.line);
                    last = std::max(last, t.line);
                    waiting++;
                }
            snprintf(error, room,
                     "barrier not reached by all threads of the %s: %u of %u wait (lines %d to %d), "
                     "%u have left",
                     kind, waiting, n, first, last, done);
            for (Thread &t : pool.threads)
                if (t.state != State::Done && t.stack)
                    pool.free.push_back(t.stack);
            return false;
        }
    }
}

// Calls a kernel with arguments given by address, and holds their sizes.
template <auto F> struct Entry;
template <class... A, void (*F)(A...)> struct Entry<F> {
    template <size_t... I> static void call(void **from, std::index_sequence<I...>) {
        F(*static_cast<std::remove_cv_t<A> *>(from[I])...);
    }
    static void run(void **from) { call(from, std::index_sequence_for<A...>{}); }
    static const std::vector<unsigned> &sizes() {
        static const std::vector<unsigned> all{unsigned(sizeof(A))...};
        return all;
    }
};

struct Kernel {
    const char *name;
    void (*run)(void **);
    const std::vector<unsigned> &sizes;
};

static int launch(const Kernel &k, const unsigned *grid, const unsigned *block, unsigned shared_bytes,
                  void **args, const unsigned *sizes, unsigned count, int how, uint64_t seed,
                  char *error, size_t room) {
    if (count != k.sizes.size()) {
        snprintf(error, room, "takes %zu arguments, %u were given", k.sizes.size(), count);
        return 1;
    }
    for (unsigned i = 0; i < count; i++)
        if (sizes[i] != k.sizes[i]) {
            snprintf(error, room, "argument %u has %u bytes, %u were given", i, k.sizes[i], sizes[i]);
            return 1;
        }
    static thread_local Pool pool;
    std::vector<char> memory(shared_bytes + 16 + sizeof MARK);
    uintptr_t at = reinterpret_cast<uintptr_t>(memory.data());
    shared = reinterpret_cast<char *>((at + 15) & ~uintptr_t(15));
    kernel = k.run;
    arguments = args;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    Random random{seed};
    std::vector<unsigned> blocks;
    arrange(blocks, grid[0] * grid[1] * grid[2], how, random);
    for (unsigned b : blocks) {
        block_index = {b % grid[0], b / grid[0] % grid[1], b / (grid[0] * grid[1])};
        memset(shared, 0xff, shared_bytes);
        memcpy(shared + shared_bytes, &MARK, sizeof MARK);
        if (!run_block(pool, how, random, error, room))
            return 1;
        if (memcmp(shared + shared_bytes, &MARK, sizeof MARK) != 0) {
            snprintf(error, room, "wrote past the %u bytes of dynamic shared memory", shared_bytes);
            return 1;
        }
    }
    return 0;
}

// Returns the value passed by thread `lane` of the same warp, after all its threads have passed
// theirs.
template <class T> static T pass(T value, unsigned lane, int line) {
    static_assert(sizeof(T) <= 8, "at most 64 bits");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    unsigned own = current->linear, first = own / WARP * WARP;
    (*exchange)[own] = bits;
    barrier(State::AtWarpBarrier, line);
    unsigned from = first + lane;
    // A lane that the block lacks yields the thread's own value.
    T other = value;
    if (from < exchange->size())
        memcpy(&other, &(*exchange)[from], sizeof(T));
    barrier(State::AtWarpBarrier, line);
    return other;
}

} // namespace emulated

#define threadIdx (emulated::current->index)
#define blockIdx (emulated::block_index)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)
#define warpSize (emulated::WARP)

#define __syncthreads() emulated::barrier(emulated::State::AtBlockBarrier, __LINE__)
#define __syncwarp(...) emulated::barrier(emulated::State::AtWarpBarrier, __LINE__)
#define __threadfence()
#define __threadfence_block()
#define __shfl_sync(mask, value, lane) emulated::pass(value, unsigned(lane) % 32u, __LINE__)
#define __shfl_xor_sync(mask, value, bits)                                                         \
    emulated::pass(value, (emulated::current->linear ^ unsigned(bits)) % 32u, __LINE__)
#define __shfl_down_sync(mask, value, by)                                                          \
    emulated::pass(value,                                                                          \
                   emulated::current->linear % 32u + unsigned(by) > 31u                            \
                       ? emulated::current->linear % 32u                                           \
                       : emulated::current->linear % 32u + unsigned(by),                           \
                   __LINE__)

template <class T> static inline T __ldg(const T *from) { return *from; }
template <class T> static inline T atomicAdd(T *to, T value) {
    T old = *to;
    *to = old + value;
    return old;
}
template <class T> static inline T atomicMax(T *to, T value) {
    T old = *to;
    *to = std::max(old, value);
    return old;
}
template <class T> static inline T atomicMin(T *to, T value) {
    T old = *to;
    *to = std::min(old, value);
    return old;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }
static inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
template <class T> static inline T min(T a, T b) { return a < b ? a : b; }
template <class T> static inline T max(T a, T b) { return a > b ? a : b; }
