// Inputs of the 2020 networks from power mel spectrograms, in the order of operations of
// src/front_end/legacy2020/{windows, transforms, histogram, moments}.rs. The results equal the
// CPU's bit for bit wherever `log` and `pow` do.
//
// Recording r has `frame_starts[r + 1] - frame_starts[r]` frames; its [40][frames] values start at
// element 40 * `frame_starts[r]`.

namespace features {

constexpr int BANDS = 40;
constexpr int WINDOW = 200;
constexpr int COEFFICIENTS = 40;
constexpr int BINS = 40;
constexpr int MOMENTS = 8;

// Mean and deviation of `n` values. Equal values have a deviation of exactly 0, without the residue
// of rounding.
struct MeanDeviation {
    double mean, deviation;
};

__device__ __forceinline__ MeanDeviation mean_deviation(pairwise::Scratch &scratch, unsigned &differ,
                                         const double *x, unsigned long long n) {
    if (threadIdx.x == 0)
        differ = 0;
    __syncthreads();
    unsigned mine = 0;
    for (unsigned long long i = threadIdx.x; i < n; i += blockDim.x)
        mine |= x[i] != x[0];
    if (mine != 0)
        atomicMax(&differ, 1u);
    __syncthreads();
    if (differ == 0)
        return {x[0], 0.0};
    const double mean =
        pairwise::sum(scratch, n, [=](unsigned long long i) { return x[i]; }) / (double)n;
    const double variance = pairwise::sum(scratch, n, [=](unsigned long long i) {
                                return (x[i] - mean) * (x[i] - mean);
                            }) /
                            (double)n;
    return {mean, sqrt(variance)};
}

} // namespace features

// Mean and deviation of each whole spectrogram. One block per recording.
extern "C" __global__ void __launch_bounds__(256)
    feature_spread(double *__restrict__ spread, const double *__restrict__ mel,
                   const unsigned long long *__restrict__ frame_starts) {
    using namespace features;
    __shared__ pairwise::Scratch scratch;
    __shared__ unsigned differ;
    const unsigned recording = blockIdx.x;
    const unsigned long long before = frame_starts[recording];
    const unsigned long long frames = frame_starts[recording + 1] - before;
    const MeanDeviation s = features::mean_deviation(scratch, differ, mel + before * BANDS, frames * BANDS);
    if (threadIdx.x == 0) {
        spread[2 * recording] = s.mean;
        spread[2 * recording + 1] = s.deviation;
    }
}

// Windows of the normalised spectrograms, [windows][200][40]. Window w begins with frame
// `window_starts[w]` of recording `window_recordings[w]` and is zero past the last frame. One block
// per window, which transposes pieces of the spectrogram in shared memory.
extern "C" __global__ void __launch_bounds__(256)
    feature_windows(float *__restrict__ windows, const double *__restrict__ mel,
                    const unsigned long long *__restrict__ frame_starts,
                    const double *__restrict__ spread,
                    const unsigned *__restrict__ window_recordings,
                    const unsigned *__restrict__ window_starts) {
    using namespace features;
    constexpr int PIECE = 32;
    __shared__ float piece[BANDS][PIECE + 1];
    const unsigned recording = window_recordings[blockIdx.x], start = window_starts[blockIdx.x];
    const unsigned long long before = frame_starts[recording];
    const unsigned long long frames = frame_starts[recording + 1] - before;
    const double mean = spread[2 * recording], deviation = spread[2 * recording + 1];
    mel += before * BANDS;
    windows += (unsigned long long)blockIdx.x * WINDOW * BANDS;
    for (int base = 0; base < WINDOW; base += PIECE) {
        for (int i = threadIdx.x; i < BANDS * PIECE; i += blockDim.x) {
            const int band = i / PIECE, row = i % PIECE;
            const unsigned long long frame = (unsigned long long)start + base + row;
            // A recording without deviation has no windows; its elements are not used.
            const bool real = base + row < WINDOW && frame < frames && deviation > 0.0;
            piece[band][row] =
                real ? (float)((mel[band * frames + frame] - mean) / deviation) : 0.0f;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < BANDS * PIECE; i += blockDim.x) {
            const int row = i / BANDS, band = i % BANDS;
            if (base + row < WINDOW)
                windows[(base + row) * BANDS + band] = piece[band][row];
        }
        __syncthreads();
    }
}

// ln(1 + 1e6 x). Not `log1p`: the legacy system rounds the sum first, and a quiet band is then
// exactly 0.
extern "C" __global__ void __launch_bounds__(256)
    feature_log(double *__restrict__ log_mel, const double *__restrict__ mel,
                unsigned long long count) {
    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += step)
        log_mel[i] = log(1.0 + 1e6 * mel[i]);
}

// First 40 coefficients of each band's cosine and sine transforms, [recordings][40][40] each.
// `quarters[quarter_starts[r] + i]` is cos(pi i / 2 frames) for i up to frames: angles are
// multiples of this step and carry no rounding. One block per recording and four coefficients of
// one parity: frames n and frames-1-n have the same factor up to a sign given by the parity. One
// thread per band, coefficient and transform.
extern "C" __global__ void __launch_bounds__(320)
    feature_transforms(float *__restrict__ dct, float *__restrict__ dst,
                       const double *__restrict__ log_mel,
                       const unsigned long long *__restrict__ frame_starts,
                       const double *__restrict__ quarters,
                       const unsigned long long *__restrict__ quarter_starts) {
    using namespace features;
    constexpr int PAIRS = 64, TOGETHER = 4;
    __shared__ double folded[PAIRS][BANDS];
    __shared__ double factors[2][TOGETHER][PAIRS];
    const unsigned recording = blockIdx.y;
    const unsigned parity = blockIdx.x % 2, lowest = blockIdx.x / 2 * TOGETHER * 2 + parity;
    const unsigned long long before = frame_starts[recording];
    const unsigned long long frames = frame_starts[recording + 1] - before;
    const double *quarter = quarters + quarter_starts[recording];
    log_mel += before * BANDS;
    const unsigned band = threadIdx.x % BANDS, own = threadIdx.x / BANDS % TOGETHER,
                   sine = threadIdx.x / (BANDS * TOGETHER);
    double total = 0.0;
    const unsigned long long pairs = (frames + 1) / 2;
    for (unsigned long long first = 0; first < pairs; first += PAIRS) {
        const int count = pairs - first < PAIRS ? (int)(pairs - first) : PAIRS;
        for (int i = threadIdx.x; i < PAIRS * BANDS; i += blockDim.x) {
            const int pair = i % PAIRS, b = i / PAIRS;
            const unsigned long long n = first + pair;
            if (pair >= count)
                continue;
            const unsigned long long mirror = frames - 1 - n;
            const double *x = log_mel + b * frames;
            // The middle frame of an odd number has no partner.
            const double partner = n == mirror ? 0.0 : x[mirror];
            folded[pair][b] = parity == 0 ? x[n] + partner : x[n] - partner;
        }
        for (int i = threadIdx.x; i < 2 * TOGETHER * PAIRS; i += blockDim.x) {
            const int pair = i % PAIRS, j = i / PAIRS % TOGETHER, kind = i / (PAIRS * TOGETHER);
            // A sine is the cosine of the angle minus a quarter turn.
            const unsigned long long k = lowest + 2 * j + kind;
            const unsigned long long turn = 4 * frames;
            const unsigned long long angle =
                (k * (2 * (first + pair) + 1) + (kind == 1 ? 3 * frames : 0)) % turn;
            const unsigned long long half = angle < turn - angle ? angle : turn - angle;
            factors[kind][j][pair] = half <= frames ? quarter[half] : -quarter[2 * frames - half];
        }
        __syncthreads();
        double sum = 0.0;
        for (int pair = 0; pair < count; pair++)
            sum += factors[sine][own][pair] * folded[pair][band];
        total += sum;
        __syncthreads();
    }
    const unsigned k = lowest + 2 * own;
    float *out = (sine ? dst : dct) + (unsigned long long)recording * BANDS * COEFFICIENTS;
    // The number of coefficients equals the number of frames.
    out[band * COEFFICIENTS + k] = k < frames ? (float)(total * (2.0 / (double)frames)) : 0.0f;
}

// Density of each band's values over 40 bins from 0 to 10, [recordings][40][40], and a flag for
// bands without values in that range. One block per band and recording.
extern "C" __global__ void __launch_bounds__(128)
    feature_histogram(float *__restrict__ density, unsigned char *__restrict__ empty,
                      const double *__restrict__ log_mel,
                      const unsigned long long *__restrict__ frame_starts) {
    using namespace features;
    constexpr double WIDTH = 0.25;
    __shared__ unsigned counts[BINS];
    const unsigned band = blockIdx.x, recording = blockIdx.y;
    const unsigned long long before = frame_starts[recording];
    const unsigned long long frames = frame_starts[recording + 1] - before;
    const double *x = log_mel + before * BANDS + band * frames;
    for (int i = threadIdx.x; i < BINS; i += blockDim.x)
        counts[i] = 0;
    __syncthreads();
    for (unsigned long long i = threadIdx.x; i < frames; i += blockDim.x) {
        const double value = x[i];
        if (value >= 0.0 && value <= BINS * WIDTH) {
            const int bin = (int)(value / WIDTH);
            atomicAdd(&counts[bin < BINS ? bin : BINS - 1], 1u);
        }
    }
    __syncthreads();
    unsigned total = 0;
    for (int i = 0; i < BINS; i++)
        total += counts[i];
    const unsigned long long row = (unsigned long long)recording * BANDS + band;
    for (int i = threadIdx.x; i < BINS; i += blockDim.x)
        density[row * BINS + i] =
            total > 0 ? (float)((double)counts[i] / WIDTH / (double)total) : 0.0f;
    if (threadIdx.x == 0)
        empty[row] = total == 0;
}

// Mean, deviation and the roots of the central moments 3 to 8 in units of the deviation, with the
// moment's sign, [recordings][40][8]. One block per band and recording.
extern "C" __global__ void __launch_bounds__(256)
    feature_moments(float *__restrict__ moments, const double *__restrict__ log_mel,
                    const unsigned long long *__restrict__ frame_starts) {
    using namespace features;
    __shared__ pairwise::Scratch scratch;
    __shared__ unsigned differ;
    __shared__ double central[MOMENTS - 2];
    const unsigned band = blockIdx.x, recording = blockIdx.y;
    const unsigned long long before = frame_starts[recording];
    const unsigned long long frames = frame_starts[recording + 1] - before;
    const double *x = log_mel + before * BANDS + band * frames;
    float *out = moments + ((unsigned long long)recording * BANDS + band) * MOMENTS;
    const MeanDeviation s = mean_deviation(scratch, differ, x, frames);
    if (threadIdx.x == 0) {
        out[0] = (float)s.mean;
        out[1] = (float)s.deviation;
    }
    for (int order = 3; order <= MOMENTS && s.deviation > 0.0; order++) {
        const double mean = s.mean;
        const double sum = pairwise::sum(scratch, frames, [=](unsigned long long i) {
            const double d = x[i] - mean;
            double product = d;
            for (int k = 1; k < order; k++)
                product *= d;
            return product;
        });
        if (threadIdx.x == 0)
            central[order - 3] = sum / (double)frames;
    }
    __syncthreads();
    if (threadIdx.x < MOMENTS - 2) {
        double root = 0.0;
        if (s.deviation > 0.0) {
            const double moment = central[threadIdx.x], sign = moment > 0.0 ? 1.0 : -1.0;
            root = sign * pow(fabs(moment), 1.0 / (threadIdx.x + 3)) / s.deviation;
        }
        out[2 + threadIdx.x] = (float)root;
    }
}
