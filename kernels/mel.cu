// Power mel spectrograms, like src/front_end/mel.rs: in double precision, rounded where the legacy
// system rounds.

namespace mel {

constexpr int SAMPLES = 400, HOP = 160, PAD = 200, BINS = 201, BANDS = 40;
// Frames per block.
constexpr int FRAMES = 4;
constexpr int THREADS = 224;

using Transform = spectrum::Transform<SAMPLES, 20, 20, BINS, FRAMES, THREADS, 20>;

// Returns sample `i` of the signal, mirrored at both ends without repeating the end samples.
__device__ __forceinline__ double mirrored(const double *signal, long long n, long long i) {
    if (i < 0)
        i = -i;
    return signal[i < n ? i : 2 * (n - 1) - i];
}

} // namespace mel

// Spectrograms of the kept parts of `signal`, scaled by `peak`. Recording r begins at `starts[r]`;
// its kept part begins `kept[2 r]` samples later and has `kept[2 r + 1]` samples. `mel` is
// [40][frames] per recording, from element 40 * `frame_starts[r]` on. `circle` holds the cosines
// and sines of 400ths of a turn. The weights of band b are `weights[weight_starts[b]]` to
// `weights[weight_starts[b + 1]]` and begin with bin `first_bins[b]`. `too_loud[r]` is lowered to
// the first frame whose power exceeds single precision.
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
    __shared__ Transform::Frames windowed;
    __shared__ Transform::Halfway halfway;
    __shared__ Transform::Turn turn;
    __shared__ float power[FRAMES][BINS];

    const unsigned recording = blockIdx.y;
    const int thread = threadIdx.x;
    const unsigned long long before = frame_starts[recording];
    const long long frames = (long long)(frame_starts[recording + 1] - before);
    const long long samples = (long long)kept[2 * recording + 1];
    const double level = peak[recording];
    signal += starts[recording] + kept[2 * recording];
    mel += before * BANDS;
    Transform::load(turn, circle);

    for (long long first = (long long)blockIdx.x * FRAMES; first < frames;
         first += (long long)gridDim.x * FRAMES) {
        // Frames past the last one repeat it and are not stored.
        for (int i = thread; i < FRAMES * SAMPLES; i += THREADS) {
            const int f = i / SAMPLES, s = i % SAMPLES;
            const long long frame = first + f < frames ? first + f : frames - 1;
            windowed[f][s] = hann[s] * (mirrored(signal, samples, frame * HOP + s - PAD) * level);
        }
        __syncthreads();
        Transform::run(windowed, halfway, turn, [&](int f, int bin, spectrum::Complex x) {
            // The legacy system stores the transform, its magnitude and the square in float32.
            const double re = (float)x.re, im = (float)x.im;
            const float magnitude = (float)sqrt(re * re + im * im);
            power[f][bin] = magnitude * magnitude;
        });
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
                // The comparison is false for NaN, too.
                if (!(sum <= 3.4028234663852886e38))
                    atomicMin(&too_loud[recording], (unsigned)frame);
            }
        }
    }
}
