// Sample rate conversion with the tables of src/audio/resample, bit-identical to it.
//
// Recordings of a batch are contiguous; `starts` holds the first sample of each and the end of the
// last one. A launch converts the recordings in `which`, all of one rate. Each has a row of the
// grid, whose blocks stride over the output.

namespace resample {

// Returns the output computed at position `i`. Outputs `phases` apart use the same weights and
// inputs a whole number of samples apart. The threads of a warp compute such outputs: they read the
// weights as a broadcast, and their inputs are ranges that neighbouring warps share.
__device__ __forceinline__ unsigned long long output_of(unsigned long long i, unsigned long long phases) {
    const unsigned long long tile = phases * 32;
    return i / tile * tile + i % 32 * phases + i % tile / 32;
}

// Returns the number of positions of `output_of` that cover `count` outputs.
__device__ __forceinline__ unsigned long long places(unsigned long long count, unsigned long long phases) {
    const unsigned long long tile = phases * 32;
    return (count + tile - 1) / tile * tile;
}

struct alignas(16) Tap {
    double value, slope;
};

// Adds the taps of one side of an output, each sum rounded to float32, which matches librosa.
// `direction` is 1 or -1; `reach` is the number of inputs on this side.
__device__ __forceinline__ float add_wing(float sum, double distance, const Tap *taps, int row, int stride,
                                          const float *x, long long direction, unsigned long long reach) {
    constexpr int ENTRIES_PER_ZERO = 512, ENTRIES = 64 * ENTRIES_PER_ZERO + 1;
    const double index = distance * ENTRIES_PER_ZERO;
    const int offset = (int)index;
    const double eta = index - offset;
    const int held = (ENTRIES - offset) / stride;
    const int count = reach < (unsigned long long)held ? (int)reach : held;
    taps += (long long)offset * row;
    for (int k = 0; k < count; k++) {
        const Tap tap = taps[k];
        const double product = (tap.value + eta * tap.slope) * (double)*x;
        sum = (float)((double)sum + product);
        x += direction;
    }
    return sum;
}

// Returns the product of a row of weights and the inputs from `first` on (zeros past the ends), in
// the order of the CPU's lanes.
__device__ __forceinline__ float dot(const float *weights, const float *x, long long first,
                                     long long inputs, int width) {
    constexpr int LANES = 16;
    float sums[LANES] = {};
    for (int base = 0; base < width; base += LANES) {
#pragma unroll
        for (int lane = 0; lane < LANES; lane++) {
            const long long at = first + base + lane;
            const float input = at >= 0 && at < inputs ? x[at] : 0.0f;
            sums[lane] = fmaf(weights[base + lane], input, sums[lane]);
        }
    }
#pragma unroll
    for (int lane = 0; lane < 8; lane++) sums[lane] += sums[lane + 8];
#pragma unroll
    for (int lane = 0; lane < 4; lane++) sums[lane] += sums[lane + 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

} // namespace resample

// Exact conversion. Output t is at the time reached by t rounded additions of `increment`; `times`
// holds every 32nd.
extern "C" __global__ void __launch_bounds__(256)
    resample_exact(float *y, const unsigned long long *y_starts, const float *x,
                   const unsigned long long *x_starts, const unsigned *which, const double *times,
                   const resample::Tap *taps, double ratio, double scale, double increment, int row, int stride,
                   unsigned phases) {
    const unsigned recording = which[blockIdx.y];
    x += x_starts[recording];
    y += y_starts[recording];
    const unsigned long long inputs = x_starts[recording + 1] - x_starts[recording];
    const unsigned long long outputs = y_starts[recording + 1] - y_starts[recording];
    const unsigned long long computed = (unsigned long long)((double)inputs * ratio);
    const unsigned long long all = resample::places(outputs, phases);
    const unsigned long long threads = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += threads) {
        const unsigned long long t = resample::output_of(i, phases);
        if (t >= outputs) continue;
        if (t >= computed) {
            y[t] = 0.0f;
            continue;
        }
        double time = times[t / 32];
        for (unsigned k = t % 32; k > 0; k--) time += increment;
        unsigned long long n = (unsigned long long)time;
        if (n > inputs - 1) n = inputs - 1;
        const double distance = scale * (time - (double)n);
        float sum = resample::add_wing(0.0f, distance, taps, row, stride, x + n, -1, n + 1);
        y[t] = resample::add_wing(sum, scale - distance, taps, row, stride, x + n + 1, 1, inputs - n - 1);
    }
}

// Copies recordings that need no conversion.
extern "C" __global__ void __launch_bounds__(256)
    resample_copy(float *y, const unsigned long long *y_starts, const float *x,
                  const unsigned long long *x_starts, const unsigned *which) {
    const unsigned recording = which[blockIdx.y];
    const unsigned long long count = x_starts[recording + 1] - x_starts[recording];
    const unsigned long long threads = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += threads) {
        y[y_starts[recording] + i] = x[x_starts[recording] + i];
    }
}

// Direct conversion: output t is at input t * `step` / `phases`. With fewer `rows` of weights than
// phases, neighbouring rows are interpolated.
extern "C" __global__ void __launch_bounds__(256)
    resample_fast(float *y, const unsigned long long *y_starts, const float *x,
                  const unsigned long long *x_starts, const unsigned *which, const float *weights,
                  unsigned phases, unsigned step, unsigned rows, int before, int width, unsigned together) {
    const unsigned recording = which[blockIdx.y];
    x += x_starts[recording];
    y += y_starts[recording];
    const long long inputs = (long long)(x_starts[recording + 1] - x_starts[recording]);
    const unsigned long long outputs = y_starts[recording + 1] - y_starts[recording];
    const unsigned long long all = resample::places(outputs, together);
    const unsigned long long threads = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += threads) {
        const unsigned long long t = resample::output_of(i, together);
        if (t >= outputs) continue;
        // Split into two products, which fit for any rates.
        const unsigned long long whole = t / phases * step, rest = t % phases * step;
        const long long n = (long long)(whole + rest / phases);
        const unsigned place = (unsigned)(rest % phases);
        const long long first = n + 1 - before;
        if (rows == phases) {
            y[t] = resample::dot(weights + (unsigned long long)place * width, x, first, inputs, width);
            continue;
        }
        const double between = (double)place / (double)phases * (double)rows;
        const unsigned row = (unsigned)between;
        const float low = resample::dot(weights + (unsigned long long)row * width, x, first, inputs, width);
        const float high = resample::dot(weights + (unsigned long long)(row + 1) * width, x, first, inputs, width);
        y[t] = (float)(between - (double)row) * (high - low) + low;
    }
}
