// Power mel spectrograms, as src/features/mel.rs.
//
// A frame of 400 samples is transformed in two steps of 20 by 20 (J. W. Cooley, J. W. Tukey, 1965):
// with n = 20 a + b, the sums over a for each b, of which those for frequencies beyond the tenth
// mirror those below, and then the sums over b. That is a sixth of the direct transform's
// multiplications, and still plain sums of products that are the same for every frame: no passes
// over shared memory between small butterflies, and nothing to get wrong. It is done in double
// precision, as on the CPU, and rounded where the reference rounds.

namespace mel {

constexpr int SAMPLES = 400, HOP = 160, PAD = 200, BINS = 201, BANDS = 40;
// Samples of one sum of the first step, and sums; frequencies that are kept of them.
constexpr int SIDE = 20, KEPT = 11;
// Frames that a block transforms together: a factor that is read is used for all of them.
constexpr int FRAMES = 4;
constexpr int THREADS = 224;

struct Complex {
    double re, im;
};

// Sample `i` of the signal, mirrored at both ends, the end samples themselves not repeated.
__device__ __forceinline__ double mirrored(const double *signal, long long n, long long i) {
    if (i < 0)
        i = -i;
    return signal[i < n ? i : 2 * (n - 1) - i];
}

} // namespace mel

// The spectrograms of the kept parts of `signal`, which is divided by `peak`. Recording r begins
// at `starts[r]`, its kept part `kept[2 r]` samples later and is `kept[2 r + 1]` samples long. `mel`
// is [40][frames] per recording, behind 40 times the `frame_starts[r]` frames before it. `circle`
// holds the cosines and sines of 400ths of a turn; the weights of band b, `weights[weight_starts[b]]`
// to that of b + 1, begin with bin `first_bins[b]`. `too_loud[r]` becomes the first frame with a
// power beyond single precision, if that is below what it holds.
extern "C" __global__ void __launch_bounds__(224)
    mel_spectrogram(double *__restrict__ mel, unsigned *__restrict__ too_loud,
                    const double *__restrict__ signal,
                    const unsigned long long *__restrict__ starts,
                    const unsigned long long *__restrict__ kept, const double *__restrict__ peak,
                    const unsigned long long *__restrict__ frame_starts,
                    const double *__restrict__ hann, const double *__restrict__ circle,
                    const unsigned *__restrict__ first_bins,
                    const unsigned *__restrict__ weight_starts,
                    const double *__restrict__ weights) {
    using namespace mel;
    __shared__ double windowed[FRAMES][SAMPLES];
    __shared__ Complex halfway[FRAMES][SIDE][KEPT];
    __shared__ Complex turn[SAMPLES];
    __shared__ float power[FRAMES][BINS];

    const unsigned recording = blockIdx.y;
    const int thread = threadIdx.x;
    const unsigned long long before = frame_starts[recording];
    const long long frames = (long long)(frame_starts[recording + 1] - before);
    const long long samples = (long long)kept[2 * recording + 1];
    const double level = peak[recording];
    signal += starts[recording] + kept[2 * recording];
    mel += before * BANDS;
    for (int i = thread; i < SAMPLES; i += THREADS)
        turn[i] = {circle[2 * i], -circle[2 * i + 1]};

    for (long long first = (long long)blockIdx.x * FRAMES; first < frames;
         first += (long long)gridDim.x * FRAMES) {
        // Frames beyond the last one repeat it, and are not written.
        for (int i = thread; i < FRAMES * SAMPLES; i += THREADS) {
            const int f = i / SAMPLES, s = i % SAMPLES;
            const long long frame = first + f < frames ? first + f : frames - 1;
            windowed[f][s] = hann[s] * (mirrored(signal, samples, frame * HOP + s - PAD) * level);
        }
        __syncthreads();
        if (thread < SIDE * KEPT) {
            const int k = thread / SIDE, b = thread % SIDE;
            Complex sums[FRAMES] = {};
            int at = 0;
            for (int a = 0; a < SIDE; a++) {
                const Complex w = turn[at];
                at += SIDE * k;
                at -= at >= SAMPLES ? SAMPLES : 0;
#pragma unroll
                for (int f = 0; f < FRAMES; f++) {
                    sums[f].re += windowed[f][SIDE * a + b] * w.re;
                    sums[f].im += windowed[f][SIDE * a + b] * w.im;
                }
            }
#pragma unroll
            for (int f = 0; f < FRAMES; f++)
                halfway[f][b][k] = sums[f];
        }
        __syncthreads();
        if (thread < BINS) {
            const int k = thread % SIDE;
            const bool mirror = k >= KEPT;
            Complex sums[FRAMES] = {};
            int at = 0;
            for (int b = 0; b < SIDE; b++) {
                const Complex w = turn[at];
                at += thread;
                at -= at >= SAMPLES ? SAMPLES : 0;
#pragma unroll
                for (int f = 0; f < FRAMES; f++) {
                    Complex y = halfway[f][b][mirror ? SIDE - k : k];
                    y.im = mirror ? -y.im : y.im;
                    sums[f].re += y.re * w.re - y.im * w.im;
                    sums[f].im += y.re * w.im + y.im * w.re;
                }
            }
#pragma unroll
            for (int f = 0; f < FRAMES; f++) {
                // The reference keeps the transform, its magnitude and the square in float32.
                const double re = (float)sums[f].re, im = (float)sums[f].im;
                const float magnitude = (float)sqrt(re * re + im * im);
                power[f][thread] = magnitude * magnitude;
            }
        }
        __syncthreads();
        if (thread < FRAMES * BANDS) {
            const int f = thread / BANDS, band = thread % BANDS;
            const long long frame = first + f;
            const unsigned from = weight_starts[band], to = weight_starts[band + 1];
            const float *bins = power[f] + first_bins[band];
            double sum = 0.0;
            for (unsigned i = from; i < to; i++)
                sum += (double)bins[i - from] * weights[i];
            if (frame < frames) {
                mel[band * frames + frame] = sum;
                // The comparison is false for what is not a number, too.
                if (!(sum <= 3.4028234663852886e38))
                    atomicMin(&too_loud[recording], (unsigned)frame);
            }
        }
    }
}
