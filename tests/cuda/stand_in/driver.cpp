// A stand-in for libcuda, to run src/nn/cuda/gpu.rs without a GPU: the calls that it makes, with
// the rules of NVIDIA's driver API. The device executes kernels like tests/cuda/emulator.rs, from
// the libraries built there.
//
// Work is executed as late as the rules allow: queued work waits for a synchronisation, and copies
// from page-locked memory and to the host take place only then. A caller that overwrites memory
// before its copy is done, or reads without waiting, gets wrong values. A context that is not
// current, a handle that is not alive and a range outside one allocation are errors. Objects still
// alive when the context is destroyed end the process.
//
// MAEUM_STAND_IN names the folder with a library for each source. MAEUM_STAND_IN_FAILS=name:n makes
// the nth call of a function fail. MAEUM_STAND_IN_MEMORY=n sets the device memory to n bytes.

#include "code.h"
#include "device.h"

API int cuInit(unsigned flags) {
    Driver &d = driver();
    std::lock_guard<std::mutex> guard(d.mutex);
    if (fails(d, "cuInit"))
        return UNKNOWN;
    d.initialised = true;
    return flags == 0 ? SUCCESS : INVALID_VALUE;
}

API int cuGetErrorString(int error, const char **text) {
    *text = text_of(error);
    return SUCCESS;
}

API int cuGetErrorName(int error, const char **text) { return cuGetErrorString(error, text); }

API int cuDeviceGetCount(int *count) {
    BEGIN("cuDeviceGetCount");
    *count = 1;
    return SUCCESS;
}

API int cuDeviceGet(int *device, int ordinal) {
    BEGIN("cuDeviceGet");
    *device = 70; // No ordinal, so that who takes it for one is found out.
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

API int cuDeviceGetName(char *name, int room, int device) {
    BEGIN("cuDeviceGetName");
    snprintf(name, size_t(room), "stand-in driver");
    return device == 70 ? SUCCESS : INVALID_DEVICE;
}

API int cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN("cuDeviceGetAttribute");
    // Values of CUdevice_attribute in cuda.h, those of an H200.
    const std::map<int, int> known{{13, 1980000}, {16, 132}, {36, 3201000}, {37, 6144}, {75, 9}, {76, 0}};
    auto found = known.find(attribute);
    if (found == known.end())
        return INVALID_VALUE;
    *value = found->second;
    return device == 70 ? SUCCESS : INVALID_DEVICE;
}

API int cuDevicePrimaryCtxRetain(void **handle, int device) {
    BEGIN("cuDevicePrimaryCtxRetain");
    if (device != 70)
        return INVALID_DEVICE;
    d.retained++;
    *handle = &context;
    return SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    BEGIN("cuDevicePrimaryCtxRelease_v2");
    if (device != 70 || d.retained == 0)
        return INVALID_DEVICE;
    if (--d.retained == 0) {
        if (size_t n = d.streams.size() + d.events.size() + d.modules.size() + d.allocations.size() +
                       d.locked.size())
            forbidden("the context goes while %zu of its objects are alive: %zu streams, %zu events, "
                      "%zu modules, %zu allocations, %zu of page-locked memory",
                      n, d.streams.size(), d.events.size(), d.modules.size(), d.allocations.size(),
                      d.locked.size());
        d.quarantine.clear();
        d.broken = SUCCESS;
    }
    return SUCCESS;
}

API int cuCtxSetCurrent(void *handle) {
    BEGIN("cuCtxSetCurrent");
    if (handle != nullptr && (handle != &context || d.retained == 0))
        return INVALID_CONTEXT;
    current = handle;
    return SUCCESS;
}

API int cuCtxSynchronize() {
    BEGIN_IN_CONTEXT("cuCtxSynchronize");
    return catch_up_all(d);
}

API int cuStreamCreate(void **handle, unsigned flags) {
    BEGIN_IN_CONTEXT("cuStreamCreate");
    if (flags > 1)
        return INVALID_VALUE;
    auto stream = std::make_shared<Stream>();
    *handle = stream.get();
    d.streams[*handle] = std::move(stream);
    return SUCCESS;
}

API int cuStreamDestroy_v2(void *handle) {
    BEGIN_IN_CONTEXT("cuStreamDestroy_v2");
    Stream *stream = find_stream(d, handle);
    if (!stream)
        return INVALID_HANDLE;
    int result = catch_up(d, *stream, UINT64_MAX);
    d.streams.erase(handle);
    return result;
}

API int cuStreamSynchronize(void *handle) {
    BEGIN_IN_CONTEXT("cuStreamSynchronize");
    Stream *stream = find_stream(d, handle);
    return stream ? catch_up(d, *stream, UINT64_MAX) : INVALID_HANDLE;
}

API int cuStreamWaitEvent(void *handle, void *event_handle, unsigned flags) {
    BEGIN_IN_CONTEXT("cuStreamWaitEvent");
    Stream *stream = find_stream(d, handle);
    Event *event = find_event(d, event_handle);
    if (!stream || !event || flags != 0)
        return INVALID_HANDLE;
    // An event that was never recorded is complete.
    if (event->mark) {
        Work work(Work::Wait);
        work.mark = event->mark;
        give(*stream, std::move(work));
    }
    return SUCCESS;
}

API int cuEventCreate(void **handle, unsigned flags) {
    BEGIN_IN_CONTEXT("cuEventCreate");
    const unsigned untimed = 2;
    if (flags & ~untimed)
        return INVALID_VALUE;
    auto event = std::make_unique<Event>(Event{(flags & untimed) == 0, nullptr});
    *handle = event.get();
    d.events[*handle] = std::move(event);
    return SUCCESS;
}

API int cuEventDestroy_v2(void *handle) {
    BEGIN_IN_CONTEXT("cuEventDestroy_v2");
    return d.events.erase(handle) == 1 ? SUCCESS : INVALID_HANDLE;
}

API int cuEventRecord(void *handle, void *stream_handle) {
    BEGIN_IN_CONTEXT("cuEventRecord");
    Event *event = find_event(d, handle);
    auto stream = d.streams.find(stream_handle);
    if (!event || stream == d.streams.end())
        return INVALID_HANDLE;
    event->mark = std::make_shared<Mark>();
    Work work(Work::Marked);
    work.mark = event->mark;
    give(*stream->second, std::move(work));
    event->mark->stream = stream->second;
    event->mark->place = stream->second->given;
    return SUCCESS;
}

API int cuEventSynchronize(void *handle) {
    BEGIN_IN_CONTEXT("cuEventSynchronize");
    Event *event = find_event(d, handle);
    if (!event)
        return INVALID_HANDLE;
    return event->mark ? reach(d, *event->mark) : SUCCESS;
}

API int cuEventElapsedTime(float *milliseconds, void *from, void *to) {
    BEGIN_IN_CONTEXT("cuEventElapsedTime");
    Event *a = find_event(d, from), *b = find_event(d, to);
    if (!a || !b || !a->timed || !b->timed || !a->mark || !b->mark)
        return INVALID_HANDLE;
    if (!a->mark->reached || !b->mark->reached)
        return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(b->mark->time - a->mark->time).count();
    return SUCCESS;
}

API int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    BEGIN_IN_CONTEXT("cuMemAlloc_v2");
    if (bytes == 0)
        return INVALID_VALUE;
    size_t used = 0;
    for (auto &[start, allocation] : d.allocations)
        used += allocation.bytes;
    if (used > memory_size() || bytes > memory_size() - used)
        return OUT_OF_MEMORY;
    const size_t padded = (bytes + 7) / 8 * 8;
    Allocation allocation;
    allocation.memory.reset(new char[padded + ALIGNMENT + 8 * FENCES]);
    uint64_t start = reinterpret_cast<uint64_t>(allocation.memory.get());
    start = (start + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    allocation.bytes = bytes;
    allocation.fence = reinterpret_cast<uint64_t *>(start + padded);
    // Filled with NaN, so that a read before the first write shows.
    memset(reinterpret_cast<void *>(start), 0xff, padded);
    std::fill_n(allocation.fence, FENCES, FENCE);
    d.allocations[start] = std::move(allocation);
    *address = start;
    return SUCCESS;
}

API int cuMemFree_v2(uint64_t address) {
    BEGIN_IN_CONTEXT("cuMemFree_v2");
    auto found = d.allocations.find(address);
    if (found == d.allocations.end())
        return INVALID_VALUE;
    memset(reinterpret_cast<void *>(address), 0xff, found->second.bytes);
    d.quarantine.push_back(std::move(found->second));
    d.allocations.erase(found);
    return SUCCESS;
}

API int cuMemGetInfo_v2(size_t *free, size_t *total) {
    BEGIN_IN_CONTEXT("cuMemGetInfo_v2");
    size_t used = 0;
    for (auto &[start, allocation] : d.allocations)
        used += allocation.bytes;
    *total = memory_size();
    *free = *total > used ? *total - used : 0;
    return SUCCESS;
}

API int cuMemHostAlloc(void **address, size_t bytes, unsigned) {
    BEGIN_IN_CONTEXT("cuMemHostAlloc");
    std::unique_ptr<char[]> memory(new char[bytes]);
    char *start = memory.get();
    d.locked[start] = std::move(memory);
    d.locked_bytes[start] = bytes;
    *address = start;
    return SUCCESS;
}

API int cuMemFreeHost(void *address) {
    BEGIN_IN_CONTEXT("cuMemFreeHost");
    char *start = static_cast<char *>(address);
    auto found = d.locked.find(start);
    if (found == d.locked.end())
        return INVALID_VALUE;
    const char *end = start + d.locked_bytes[start];
    for (auto &[handle, stream] : d.streams)
        for (const Work &work : stream->work)
            if (work.host >= start && work.host < end)
                forbidden("page-locked memory is freed before a copy from it is done");
    d.locked.erase(found);
    d.locked_bytes.erase(start);
    return SUCCESS;
}

API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *handle) {
    BEGIN_IN_CONTEXT("cuMemcpyHtoDAsync_v2");
    Stream *stream = find_stream(d, handle);
    if (!stream)
        return INVALID_HANDLE;
    if (!on_device(d, to, bytes))
        return INVALID_VALUE;
    Work work(Work::ToDevice);
    work.device = to;
    work.bytes = bytes;
    const char *host = static_cast<const char *>(from);
    if (is_locked(d, host, bytes))
        work.host = const_cast<char *>(host);
    else
        work.data.assign(host, host + bytes);
    give(*stream, std::move(work));
    return SUCCESS;
}

API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *handle) {
    BEGIN_IN_CONTEXT("cuMemcpyDtoHAsync_v2");
    Stream *stream = find_stream(d, handle);
    if (!stream)
        return INVALID_HANDLE;
    if (!on_device(d, from, bytes))
        return INVALID_VALUE;
    Work work(Work::ToHost);
    work.device = from;
    work.bytes = bytes;
    work.host = static_cast<char *>(to);
    give(*stream, std::move(work));
    return SUCCESS;
}

API int cuModuleLoadData(void **handle, const void *image) {
    BEGIN_IN_CONTEXT("cuModuleLoadData");
    const char *code = static_cast<const char *>(image);
    if (strncmp(code, MARK_OF_CODE, strlen(MARK_OF_CODE)) != 0)
        return INVALID_IMAGE;
    code += strlen(MARK_OF_CODE);
    if (strncmp(code, "sm_90\n", 6) != 0)
        return NO_BINARY_FOR_GPU;
    const char *folder = getenv("MAEUM_STAND_IN");
    if (!folder)
        forbidden("MAEUM_STAND_IN names no folder");
    const std::string path = std::string(folder) + "/" + (code + 6) + ".so";
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
        forbidden("%s", dlerror());
    auto module = std::make_unique<Module>();
    module->library = library;
    module->run = reinterpret_cast<Run>(dlsym(library, "maeum_launch"));
    module->sizes = reinterpret_cast<Sizes>(dlsym(library, "maeum_sizes"));
    if (!module->run || !module->sizes)
        forbidden("%s has not the emulator's entries", path.c_str());
    *handle = module.get();
    d.modules[*handle] = std::move(module);
    return SUCCESS;
}

API int cuModuleUnload(void *handle) {
    BEGIN_IN_CONTEXT("cuModuleUnload");
    auto found = d.modules.find(handle);
    if (found == d.modules.end())
        return INVALID_HANDLE;
    for (auto &[stream_handle, stream] : d.streams)
        for (const Work &work : stream->work)
            if (work.kind == Work::Launch && work.function->module == found->second.get())
                forbidden("a module is unloaded before its kernel %s has run",
                          work.function->name.c_str());
    for (auto f = d.functions.begin(); f != d.functions.end();)
        f = f->second->module == found->second.get() ? d.functions.erase(f) : std::next(f);
    // The library stays loaded: unloading would free its thread-local memory.
    d.modules.erase(found);
    return SUCCESS;
}

API int cuModuleGetFunction(void **handle, void *module_handle, const char *name) {
    BEGIN_IN_CONTEXT("cuModuleGetFunction");
    auto module = d.modules.find(module_handle);
    if (module == d.modules.end())
        return INVALID_HANDLE;
    std::vector<unsigned> sizes(64);
    const int count = module->second->sizes(name, sizes.data(), sizes.size());
    if (count < 0)
        return NOT_FOUND;
    sizes.resize(size_t(count));
    auto function = std::make_unique<Function>(Function{name, module->second.get(), sizes});
    *handle = function.get();
    d.functions[*handle] = std::move(function);
    return SUCCESS;
}

API int cuLaunchKernel(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned shared, void *stream_handle, void **params, void **extra) {
    BEGIN_IN_CONTEXT("cuLaunchKernel");
    auto function = d.functions.find(handle);
    Stream *stream = find_stream(d, stream_handle);
    if (function == d.functions.end() || !stream)
        return INVALID_HANDLE;
    const uint64_t threads = uint64_t(bx) * by * bz, blocks = uint64_t(gx) * gy * gz;
    if (threads == 0 || threads > 1024 || blocks == 0 || gx > INT32_MAX || gy > 65535 || gz > 65535 ||
        shared > LARGEST_SHARED || extra)
        return INVALID_VALUE;
    Work work(Work::Launch);
    work.function = function->second.get();
    const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
    std::copy_n(grid, 3, work.grid);
    std::copy_n(block, 3, work.block);
    work.shared = shared;
    // The driver copies the arguments during the call.
    for (size_t i = 0; i < work.function->sizes.size(); i++) {
        const unsigned bytes = work.function->sizes[i];
        std::vector<uint64_t> value((bytes + 7) / 8);
        memcpy(value.data(), params[i], bytes);
        work.params.push_back(std::move(value));
    }
    give(*stream, std::move(work));
    return SUCCESS;
}
