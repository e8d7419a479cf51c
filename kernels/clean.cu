// Zero replacement, Wiener filter, pre-emphasis and peak, bit-identical to src/front_end/legacy2020/clean.rs.
// Local means and variances are recomputed instead of stored: reading three neighbouring samples
// again is cheaper than writing two doubles.

namespace clean {

// Lower bound of all samples.
constexpr double LOWEST = -1.7976931348623157e308;

struct Local {
    double mean, variance;
};

// Sample with zeros replaced; 0 past the ends.
__device__ __forceinline__ float lifted(const float *x, long long n, long long i) {
    if (i < 0 || i >= n) return 0.0f;
    return x[i] == 0.0f ? 1e-10f : x[i];
}

__device__ __forceinline__ double third(double before, double here, double after) {
    return (before + here + after) / 3.0;
}

__device__ __forceinline__ Local local(const float *x, long long n, long long i) {
    const float before = lifted(x, n, i - 1), here = lifted(x, n, i), after = lifted(x, n, i + 1);
    const double mean = third(before, here, after);
    // Squares are rounded to float32, which matches the legacy system.
    const double squares = third(before * before, here * here, after * after);
    return {mean, squares - mean * mean};
}

__device__ __forceinline__ double filtered(const float *x, long long n, long long i, double noise) {
    const Local at = local(x, n, i);
    if (!(at.variance >= noise)) return at.mean;
    const double kept = ((double)lifted(x, n, i) - at.mean) * (1.0 - noise / at.variance);
    // In a flat window the ratio is 0/0 and the mean is the result.
    return kept - kept == 0.0 ? at.mean + kept : at.mean;
}

} // namespace clean

// Noise of each recording: the mean of its local variances. One block per recording.
extern "C" __global__ void __launch_bounds__(pairwise::THREADS)
    clean_noise(double *noise, const float *x, const unsigned long long *starts) {
    __shared__ pairwise::Scratch scratch;
    const unsigned recording = blockIdx.x;
    x += starts[recording];
    const unsigned long long n = starts[recording + 1] - starts[recording];
    const double sum = pairwise::sum(scratch, n, [=](unsigned long long i) {
        return clean::local(x, (long long)n, (long long)i).variance;
    });
    if (threadIdx.x == 0) noise[recording] = sum / (double)n;
}

// Filtered and pre-emphasised signal, and the maximum of each block's samples.
extern "C" __global__ void __launch_bounds__(256)
    clean_filter(double *y, double *largest, const float *x, const unsigned long long *starts,
                 const double *noise) {
    constexpr double PRE_EMPHASIS = 0.97;
    __shared__ double peaks[256];
    const unsigned recording = blockIdx.y;
    x += starts[recording];
    y += starts[recording];
    const long long n = (long long)(starts[recording + 1] - starts[recording]);
    const long long threads = (long long)gridDim.x * blockDim.x;
    double peak = clean::LOWEST;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads) {
        const double before = i > 0 ? clean::filtered(x, n, i - 1, noise[recording]) : 0.0;
        y[i] = clean::filtered(x, n, i, noise[recording]) - PRE_EMPHASIS * before;
        peak = fmax(peak, y[i]);
    }
    peaks[threadIdx.x] = peak;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) peaks[threadIdx.x] = fmax(peaks[threadIdx.x], peaks[threadIdx.x + half]);
    }
    if (threadIdx.x == 0) largest[(unsigned long long)recording * gridDim.x + blockIdx.x] = peaks[0];
}

// Maximum of each recording from those of `parts` blocks. One thread per recording.
extern "C" __global__ void __launch_bounds__(256)
    clean_peak(double *peak, const double *largest, unsigned recordings, unsigned parts) {
    const unsigned recording = blockIdx.x * blockDim.x + threadIdx.x;
    if (recording >= recordings) return;
    double found = clean::LOWEST;
    for (unsigned i = 0; i < parts; i++) found = fmax(found, largest[(unsigned long long)recording * parts + i]);
    peak[recording] = found;
}

// Divides each recording by its peak.
extern "C" __global__ void __launch_bounds__(256)
    clean_normalize(double *y, const unsigned long long *starts, const double *peak) {
    const unsigned recording = blockIdx.y;
    y += starts[recording];
    const long long n = (long long)(starts[recording + 1] - starts[recording]);
    const long long threads = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads) {
        y[i] /= peak[recording];
    }
}
