// Per-frame values of the utterance front end, like src/front_end/utterance/power.rs and
// src/front_end/utterance/pitch.rs: mel power and pitch candidates.
//
// Signals are contiguous: recording r spans `starts[r]` to `starts[r + 1]` and has the mean
// `mean[r]`. Its results start at frame `frame_starts[r]`. A row of the grid is a recording, whose
// frames are distributed over the row's blocks.

namespace utterance {

constexpr int HOP = 160;

// Samples of a recording with the mean removed, zero outside.
struct Signal {
    const float *x;
    long long samples;
    double mean;

    __device__ __forceinline__ bool has(long long i) const { return i >= 0 && i < samples; }
    __device__ __forceinline__ double at(long long i) const { return (double)x[i] - mean; }
};

__device__ __forceinline__ Signal signal(const float *x, const unsigned long long *starts,
                                         const double *mean, unsigned recording) {
    const unsigned long long first = starts[recording];
    return {x + first, (long long)(starts[recording + 1] - first), mean[recording]};
}

} // namespace utterance

namespace utterance::power {

constexpr int SAMPLES = 400, BINS = 201, BANDS = 40;
// Frames per block.
constexpr int FRAMES = 4, THREADS = 224;
// The transform's loops are not unrolled: registers would spill.
constexpr int UNROLL = 1;
constexpr double PRE_EMPHASIS = 0.97;
using Transform = spectrum::Transform<SAMPLES, 20, 20, BINS, FRAMES, THREADS, UNROLL>;

} // namespace utterance::power

// Mel power, [frames][40]. The tables are those of mel.cu.
extern "C" __global__ void __launch_bounds__(224)
    utterance_power(double *__restrict__ power, const float *__restrict__ x,
                    const unsigned long long *__restrict__ starts, const double *__restrict__ mean,
                    const unsigned long long *__restrict__ frame_starts,
                    const double *__restrict__ hann, const double *__restrict__ circle,
                    const unsigned *__restrict__ first_bins,
                    const unsigned *__restrict__ weight_starts,
                    const double *__restrict__ weights) {
    using namespace utterance::power;
    __shared__ Transform::Frames windowed;
    __shared__ Transform::Halfway halfway;
    __shared__ Transform::Turn turn;
    __shared__ double bins[FRAMES][BINS];
    const unsigned recording = blockIdx.y;
    const int thread = threadIdx.x;
    const unsigned long long before = frame_starts[recording];
    const long long frames = (long long)(frame_starts[recording + 1] - before);
    const long long step = (long long)gridDim.x * FRAMES;
    long long first = (long long)blockIdx.x * FRAMES;
    if (first >= frames)
        return;
    const utterance::Signal signal = utterance::signal(x, starts, mean, recording);
    power += before * BANDS;
    Transform::load(turn, circle);
    for (; first < frames; first += step) {
        // Frames past the last one repeat it and are not stored.
        for (int i = thread; i < FRAMES * SAMPLES; i += THREADS) {
            const int f = i / SAMPLES, s = i % SAMPLES;
            const long long frame = first + f < frames ? first + f : frames - 1;
            const long long at = frame * utterance::HOP + s - SAMPLES / 2;
            // Pre-emphasis skips the recording's first sample, which has no predecessor.
            const bool emphasised = signal.has(at) && at > 0;
            windowed[f][s] =
                emphasised ? (signal.at(at) - PRE_EMPHASIS * signal.at(at - 1)) * hann[s] : 0.0;
        }
        __syncthreads();
        Transform::run(windowed, halfway, turn, [&](int f, int bin, spectrum::Complex y) {
            bins[f][bin] = y.re * y.re + y.im * y.im;
        });
        __syncthreads();
        if (thread < FRAMES * BANDS) {
            const int f = thread / BANDS, band = thread % BANDS;
            const unsigned from = weight_starts[band], to = weight_starts[band + 1];
            const double *own = bins[f] + first_bins[band];
            double sum = 0.0;
            for (unsigned i = from; i < to; i++)
                sum += own[i - from] * weights[i];
            if (first + f < frames)
                power[(first + f) * BANDS + band] = sum;
        }
    }
}

namespace utterance::pitch {

constexpr int WINDOW = 640, TRANSFORM = 1024;
// The inverse transform uses frequencies up to 4 kHz, so lags are at half the sampling rate.
constexpr int LENGTH = TRANSFORM / 2, BINS = LENGTH / 2 + 1;
constexpr double LAG_RATE = 8000.0, HIGHEST = 600.0;
constexpr int LAG_MIN = 13, LAG_MAX = 124;
// Lags computed, and lags at which a peak may lie.
constexpr int LAGS = LAG_MAX + 2, PLACES = LAG_MAX - LAG_MIN + 1;
constexpr int CANDIDATES = 5, VALUES = 3 * CANDIDATES + 2;
constexpr double VOICING_THRESHOLD = 0.45, OCTAVE_COST = 0.01, LEAST_ENERGY = 1e-20;
// Frames per block. One thread per frequency fills nine warps.
constexpr int FRAMES = 2, THREADS = 288, WARP = 32;
// Not unrolled: registers would spill.
constexpr int UNROLL = 1;
using Transform = spectrum::Transform<TRANSFORM, 32, 20, BINS, FRAMES, THREADS, UNROLL>;
// Layout of a frame's shared memory after the transform of its samples.
constexpr int CORRELATION = BINS, STRENGTHS = CORRELATION + LAGS, HEIGHTS = STRENGTHS + PLACES;
static_assert(HEIGHTS + PLACES <= WINDOW, "all of it has room");
static_assert(FRAMES * LAGS <= THREADS && FRAMES * WARP <= THREADS, "one pass is enough");

__device__ __forceinline__ double absent() { return -(double)__int_as_float(0x7f800000); }

// Sum of a frame by a warp, in numpy's order for 640 terms: eight leaves of eight running sums
// each, added as one binary tree.
__device__ __forceinline__ double sum_of(const double *frame, int lane) {
    constexpr int LANES = 8, LEAF = 80;
    static_assert(LEAF * 8 == WINDOW && LANES * 8 == 2 * WARP, "a complete tree");
    double pair[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int place = 2 * lane + half;
        const double *terms = frame + place / LANES * LEAF + place % LANES;
        double running = 0.0;
        for (int i = 0; i < LEAF; i += LANES)
            running += terms[i];
        pair[half] = running;
    }
    double sum = pair[0] + pair[1];
    for (int bits = 1; bits < WARP; bits *= 2)
        sum += __shfl_xor_sync(EVERY_LANE, sum, bits);
    return sum;
}

__device__ __forceinline__ double largest(double x) {
    for (int bits = 1; bits < WARP; bits *= 2)
        x = fmax(x, __shfl_xor_sync(EVERY_LANE, x, bits));
    return x;
}

} // namespace utterance::pitch

// Pitch candidates, [frames][17]: strength, frequency and height of the five strongest
// autocorrelation peaks, strongest first; the maximum of the autocorrelation; the maximum magnitude
// of the samples. `correction` is the window's autocorrelation up to the last lag, `circle` holds
// the cosines and sines of 1024ths of a turn, `lag_cosines` the cosines of 512ths.
extern "C" __global__ void __launch_bounds__(288)
    utterance_pitch(double *__restrict__ pitch, const float *__restrict__ x,
                    const unsigned long long *__restrict__ starts, const double *__restrict__ mean,
                    const unsigned long long *__restrict__ frame_starts,
                    const double *__restrict__ window, const double *__restrict__ correction,
                    const double *__restrict__ circle, const double *__restrict__ lag_cosines) {
    using namespace utterance::pitch;
    __shared__ Transform::Frames data;
    __shared__ Transform::Halfway halfway;
    __shared__ Transform::Turn turn;
    __shared__ double cosines[LENGTH];
    __shared__ double means[FRAMES], peaks[FRAMES];
    const unsigned recording = blockIdx.y;
    const int thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    const unsigned long long before = frame_starts[recording];
    const long long frames = (long long)(frame_starts[recording + 1] - before);
    const long long step = (long long)gridDim.x * FRAMES;
    long long first = (long long)blockIdx.x * FRAMES;
    if (first >= frames)
        return;
    // Shared, to save a register per thread.
    __shared__ utterance::Signal signal;
    if (thread == 0)
        signal = utterance::signal(x, starts, mean, recording);
    pitch += before * VALUES;
    Transform::load(turn, circle);
    for (int i = thread; i < LENGTH; i += THREADS)
        cosines[i] = lag_cosines[i];
    __syncthreads();
    for (; first < frames; first += step) {
        // Frames past the last one repeat it and are not stored.
        for (int i = thread; i < FRAMES * WINDOW; i += THREADS) {
            const int f = i / WINDOW, s = i % WINDOW;
            const long long frame = first + f < frames ? first + f : frames - 1;
            const long long at = frame * utterance::HOP + s - WINDOW / 2;
            data[f][s] = signal.has(at) ? signal.at(at) : 0.0;
        }
        __syncthreads();
        if (warp < FRAMES) {
            const double centre = sum_of(data[warp], lane) / (double)WINDOW;
            double peak = 0.0;
            for (int s = lane; s < WINDOW; s += WARP)
                peak = fmax(peak, fabs(data[warp][s] - centre));
            peak = largest(peak);
            if (lane == 0) {
                means[warp] = centre;
                peaks[warp] = peak;
            }
        }
        __syncthreads();
        for (int i = thread; i < FRAMES * WINDOW; i += THREADS) {
            const int f = i / WINDOW, s = i % WINDOW;
            data[f][s] = (data[f][s] - means[f]) * window[s];
        }
        __syncthreads();
        Transform::run(data, halfway, turn, [&](int f, int bin, spectrum::Complex y) {
            data[f][bin] = y.re * y.re + y.im * y.im;
        });
        __syncthreads();
        if (thread < FRAMES * LAGS) {
            const int lag = thread % LAGS;
            double *own = data[thread / LAGS];
            // A frequency and its mirror differ only in the sign of odd lags.
            const double sign = lag % 2 == 0 ? 1.0 : -1.0;
            double sum = 0.0;
            int at = 0;
            for (int k = 1; k < BINS / 2; k++) {
                at += lag;
                at -= at >= LENGTH ? LENGTH : 0;
                sum += (own[k] + sign * own[BINS - 1 - k]) * cosines[at];
            }
            sum += own[BINS / 2] * cosines[BINS / 2 * lag % LENGTH];
            own[CORRELATION + lag] =
                (own[0] + sign * own[BINS - 1] + 2.0 * sum) / (double)LENGTH;
        }
        __syncthreads();
        const int f = thread / PLACES, place = thread % PLACES;
        const bool busy = thread < FRAMES * PLACES;
        double strength = absent(), frequency = HIGHEST, height = 0.0;
        if (busy) {
            const int lag = LAG_MIN + place;
            const double *c = data[f] + CORRELATION;
            const double energy = fmax(c[0], LEAST_ENERGY);
            const double left = c[lag - 1] / energy / correction[lag - 1];
            const double middle = c[lag] / energy / correction[lag];
            const double right = c[lag + 1] / energy / correction[lag + 1];
            height = fmin(middle, 1.0);
            if (middle > left && middle >= right && middle > 0.5 * VOICING_THRESHOLD) {
                // Vertex of the parabola through the three points. It opens downwards unless the
                // three are equal up to rounding.
                double curvature = left - 2.0 * middle + right;
                curvature = curvature == 0.0 ? -1.0 : curvature;
                const double shift = 0.5 * (left - right) / curvature;
                height = fmin(fmax(middle - 0.25 * (left - right) * shift, 0.0), 1.0);
                frequency = LAG_RATE / ((double)lag + shift);
                strength = height - OCTAVE_COST * log2(HIGHEST / frequency);
            }
            data[f][STRENGTHS + place] = strength;
            data[f][HEIGHTS + place] = height;
        }
        __syncthreads();
        if (busy && first + f < frames) {
            // Rank: the number of peaks that are stronger, or equally strong at a shorter lag.
            int rank = 0, count = 0;
            for (int other = 0; other < PLACES; other++) {
                const double theirs = data[f][STRENGTHS + other];
                rank += theirs > strength || (theirs == strength && other < place);
                count += theirs > absent();
            }
            double *row = pitch + (first + f) * VALUES;
            if (strength > absent() && rank < CANDIDATES) {
                row[3 * rank] = strength;
                row[3 * rank + 1] = frequency;
                row[3 * rank + 2] = height;
            }
            if (place >= count && place < CANDIDATES) {
                row[3 * place] = absent();
                row[3 * place + 1] = HIGHEST;
                row[3 * place + 2] = 0.0;
            }
        }
        if (warp < FRAMES && first + warp < frames) {
            double highest = 0.0;
            for (int i = lane; i < PLACES; i += WARP)
                highest = fmax(highest, data[warp][HEIGHTS + i]);
            highest = largest(highest);
            if (lane == 0) {
                double *row = pitch + (first + warp) * VALUES;
                row[VALUES - 2] = highest;
                row[VALUES - 1] = peaks[warp];
            }
        }
        __syncthreads();
    }
}
